"""The commands, and how they end: with an exit code, and without a traceback for errors that people can fix."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from tasks.cli import (
    audit,
    config,
    db,
    devstack,
    doctor,
    exporting,
    importing,
    intake,
    jobs,
    operations,
    rejects,
    repair,
    send,
    stats,
)
from tasks.cli.errors import ReaderGone, Unwritable
from tasks.cli.output import Output, flush, silence
from tasks.dlq.errors import RedriveError, Refused

#: The exit code that a shell reports for a process that ended by SIGPIPE.
_READER_GONE = 141

app = typer.Typer(
    name="redrive",
    help="Recovers dead letters: calls your API for each affected entity until it succeeds.",
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 partly, 4 not found, 5 out of reach.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        Output().line(f"redrive {version('redrive')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _redrive(
    context: typer.Context,
    *,
    _version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Try it": {"demo": devstack.demo, "up": devstack.up},
    "Take in": {"intake": intake.intake, "send": send.send},
    "Look": {
        "audit": audit.audit,
        "stats": stats.stats,
        "jobs": jobs.jobs,
        "show": jobs.show,
        "rejects": rejects.rejects,
        "config": config.config,
        "doctor": doctor.doctor,
    },
    "Act": {
        "replay": operations.replay,
        "discard": operations.discard,
        "repair": repair.repair,
        "pause": operations.pause,
        "resume": operations.resume,
    },
    "Back up": {"export": exporting.export, "import": importing.import_},
}
for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(db.app, name="db", rich_help_panel="Set up")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: those of tasks.dlq.errors, or 130 after Ctrl-C."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - it is None if the parent process closed it
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr: a character that cannot be encoded is escaped
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    out = Output(json="--json" in options)
    try:
        _refuse_bytes(arguments)
        try:
            code = app(args=list(arguments), prog_name="redrive", standalone_mode=False)
        finally:
            flush()  # data are printed before messages about them
    except RedriveError as error:
        if isinstance(error, Unwritable):
            silence()
        out.fail(error.message, hint=error.hint, exit_code=error.exit_code)
        return error.exit_code
    except typer.TyperException as error:
        out.fail(error.format_message(), hint=f"see: {_get_command(error)} --help", exit_code=error.exit_code)
        return error.exit_code
    except ReaderGone:
        silence()
        return _READER_GONE
    except SystemExit as end:  # Rich and Typer print the help, and end like this if the reader has gone
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        silence()
        return _READER_GONE
    except typer.Abort:
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # end the line of the question
        out.fail("stopped; nothing was done", hint="", exit_code=1)
        return 1
    return code if isinstance(code, int) else 0


def _get_command(error: typer.TyperException) -> str:
    """Return the command that a usage error is about; some errors of Typer's parser do not say it."""
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context else "redrive"


def _refuse_bytes(arguments: Sequence[str]) -> None:
    """Refuse arguments that are not text: neither a database nor JSON can hold them."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise Refused(f"{argument!a} is not UTF-8", hint="check the encoding of your terminal") from None
