"""The commands, and how each of them ends: an exit code, and never a traceback for what a person can mend."""

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
    routes,
    send,
    stats,
    usage,
)
from tasks.cli.errors import ReaderGone, Unwritable
from tasks.cli.output import Output, flush, silence
from tasks.dlq.errors import RedriveError, Refused

#: What a shell reports for a process that ended by SIGPIPE.
_READER_GONE = 141

app = typer.Typer(
    name="redrive",
    help="Finishes the work that a Kafka consumer could not: dead letters in, entities synced, proof out.",
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
        "pause": routes.pause,
        "resume": routes.resume,
    },
    "Back up": {"export": exporting.export, "import": importing.import_},
}
for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(db.app, name="db", rich_help_panel="Set up")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code (tasks.dlq.errors has them; 130 after Ctrl-C)."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - closed by whoever started us
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where a character cannot be printed, its escape is; as on stderr
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    out = Output(json="--json" in options)
    try:
        _refuse_bytes(arguments)
        try:
            code = app(args=list(arguments), prog_name="redrive", standalone_mode=False)
        finally:
            flush()  # data come before what is said about them
    except RedriveError as error:
        if isinstance(error, Unwritable):
            silence()
        out.fail(error.message, hint=error.hint, exit_code=error.exit_code)
        return error.exit_code
    except typer.TyperException as error:
        out.fail(usage.told(error), hint=f"see: {_command_of(error, arguments)} --help", exit_code=error.exit_code)
        return error.exit_code
    except ReaderGone:
        silence()
        return _READER_GONE
    except SystemExit as end:  # Rich and Typer, which print the help, end so when the reader has gone
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        silence()
        return _READER_GONE
    except typer.Abort:
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # the question stands on the line
        out.fail("stopped; nothing was done", hint="", exit_code=1)
        return 1
    return code if isinstance(code, int) else 0


def _command_of(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Return the command that was meant; the parser's own errors do not know it."""
    if context := getattr(error, "ctx", None):
        return str(context.command_path)
    known = {name for commands in _COMMANDS.values() for name in commands}
    return " ".join(["redrive", *(argument for argument in arguments[:1] if argument in known)])


def _refuse_bytes(arguments: Sequence[str]) -> None:
    """Refuse what is no text: neither a database nor JSON could hold it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise Refused(f"{argument!a} is not UTF-8", hint="see how your terminal encodes what you type") from None
