"""`redrive demo` and `redrive up`: Redrive on embedded parts."""

from typing import Annotated

import typer

from tasks.cli.output import Json
from tasks.dlq.errors import Refused


def demo(
    *,
    messages: Annotated[int, typer.Option(min=1, max=1_000_000, help="Messages that the consumers read.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the random numbers: the same seed tells the same story.")] = 1,
    json: Json = False,
) -> None:
    """Play the whole story on embedded parts: consumers that conflict, dead letters, recovery, and the proof."""
    try:
        from tasks.devstack.demo import run  # noqa: PLC0415 - only whole with the extra `devstack`

        code = run(messages=messages, seed=seed, json_output=json)
    except ModuleNotFoundError as error:
        raise _incomplete(error) from error
    raise typer.Exit(code)


def up(
    *, sample: Annotated[bool, typer.Option("--sample", help="With the sample company API, and a route that calls it.")] = False
) -> None:
    """Run the whole service on this machine until Ctrl-C; SQS is embedded unless broker.url is set."""
    try:
        from tasks.devstack.up import run  # noqa: PLC0415 - only whole with the extra `devstack`

        code = run(sample=sample)
    except ModuleNotFoundError as error:
        raise _incomplete(error) from error
    raise typer.Exit(code)


def _incomplete(error: ModuleNotFoundError) -> Exception:
    """Return what to tell of a package that is not installed; a module of our own that is missing is a fault."""
    if not error.name or error.name.partition(".")[0] == "tasks":
        return error
    return Refused(f"the embedded parts are not installed: {error.name} is missing", hint="pip install 'redrive[devstack]'")
