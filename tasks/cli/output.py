"""Prints data on stdout and messages on stderr: text for people, with `--json` one compact object per line, or `--csv`.

Text from outside (bodies, details, parameters) is escaped. It cannot control the terminal, forge a line or be a formula.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import typer

from tasks.cli.errors import ReaderGone, Unwritable
from tasks.dlq.errors import Refused
from tasks.dlq.text import escape, escape_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

#: Characters of the widest cell without a terminal, and of the narrowest on one.
_WIDEST_CELL = 200
_LEAST_CELL = 12
#: Characters between two cells.
_GAP = 2
#: Characters of a line without a terminal: rows are not broken.
_NO_TERMINAL = 10_000
_STYLES = {
    "completed": "green",
    "executing": "cyan",
    "retryable": "yellow",
    "parked": "red",
    "discarded": "dim",
    "ok": "green",
    "warning": "yellow",
    "wrong": "red",
}


@dataclass(frozen=True)
class Column:
    """One column of a table. On a narrow terminal, the widest columns shrink that may be cut or may fold."""

    title: str
    #: Whether cells are aligned to the right.
    right: bool = False
    #: Whether long cells may end in an ellipsis.
    cut: bool = False
    #: Whether long cells may take several lines.
    fold: bool = False


@dataclass(frozen=True, kw_only=True)
class Output:
    """Prints a command's data and messages. Raises Refused for two formats at once."""

    json: bool = False
    csv: bool = False

    def __post_init__(self) -> None:
        if self.json and self.csv:
            raise Refused("--json and --csv are two formats", hint="choose one of them")

    def record(self, value: Mapping[str, Any]) -> None:
        """Print one object for machines, on one line of ASCII."""
        _write(json.dumps(value, separators=(",", ":"), ensure_ascii=True) + "\n")

    def line(self, text: str = "") -> None:
        """Print one line for people."""
        _write(escape(text) + "\n")

    def raw(self, data: bytes) -> None:
        """Print exactly these bytes; on a terminal, which they could control, print them escaped."""
        if sys.stdout.isatty():
            self.line(data.decode("utf-8", "backslashreplace"))
            return
        with _writing():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Print names and values, one per line, without empty values. A terminal gets long values in several lines."""
        console, _ = _console()
        indent = max(map(len, facts)) + _GAP
        for name, value in facts.items():
            if not (text := escape(value)):
                continue
            lines = textwrap.wrap(text, max(console.width - indent, _LEAST_CELL), break_on_hyphens=False, drop_whitespace=False)
            shown = lines if console.is_terminal else [text]
            _write("".join(f"{title:<{indent}}{line}\n" for title, line in zip_longest([name], shown, fillvalue="")))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table as wide as the terminal; without a terminal, print each row on one line, for grep."""
        from rich.table import Table
        from rich.text import Text

        console, printed = _console()
        cells = [[escape(cell) for cell in row] for row in rows]
        if not console.is_terminal:
            cells = [[_shorten(cell) for cell in row] for row in cells]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        for column in columns:
            shrinks = column.cut or column.fold
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                min_width=max(len(column.title), _LEAST_CELL) if shrinks else None,
                no_wrap=not shrinks,
                overflow="ellipsis" if column.cut else "fold",
            )
        for row in cells:
            texts = zip(row, columns, strict=True)
            table.add_row(*(Text(cell, style=_STYLES.get(cell, ""), no_wrap=column.cut) for cell, column in texts))
        console.print(table)
        _write("".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines()))

    def sheet(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print CSV by RFC 4180. Every cell is quoted, so that no other separator splits it."""
        drawn = io.StringIO()
        csv.writer(drawn, quoting=csv.QUOTE_ALL).writerows([names, *([escape_cell(cell) for cell in row] for row in rows)])
        _write(drawn.getvalue())

    def note(self, text: str) -> None:
        """Print a message for people; nothing with `--json`."""
        if not self.json:
            _write_message(text)

    def warn(self, text: str, *, hint: str = "", **facts: Any) -> None:
        """Print a warning, for people or as an object."""
        if self.json:
            _write_object({"warning": text, "hint": hint, **facts})
        else:
            _write_message(f"{text}; {hint}" if hint else text)

    def fail(self, text: str, *, hint: str, exit_code: int) -> None:
        """Print an error and what to do next, for people or as an object."""
        if self.json:
            _write_object({"error": text, "hint": hint, "exit_code": exit_code})
        else:
            _write_message(text, hint)

    def require_terminal(self, change: str, *, hint: str) -> None:
        """Raise Refused if there is no terminal on which a change can be confirmed."""
        if self.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            raise Refused(f"{change}, and there is no terminal to confirm it", hint=hint)

    def confirm(self, question: str) -> None:
        """Ask for a confirmation. Raises typer.Abort unless the answer is yes."""
        typer.confirm(question, abort=True, err=True)


def flush() -> None:
    """Flush stdout. Raises ReaderGone, Unwritable."""
    with _writing():
        sys.stdout.flush()


def silence() -> None:
    """Send stdout to /dev/null: Python flushes it once more at exit, and would print an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console() -> tuple[Console, io.StringIO]:
    """Return a console that formats for stdout, and the buffer that it writes into."""
    from rich.console import Console

    out, drawn = Console(file=sys.stdout), io.StringIO()
    width = out.width if out.is_terminal else _NO_TERMINAL
    return Console(file=drawn, force_terminal=out.is_terminal, width=width, highlight=False, markup=False, emoji=False), drawn


def _write(text: str) -> None:
    with _writing():
        sys.stdout.write(text)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise Unwritable(
            f"standard output cannot be written: {error.strerror}", hint="check where it is redirected to"
        ) from error


def _write_object(value: Mapping[str, Any]) -> None:
    """Write an object on stderr, without empty texts."""
    shown = {name: content for name, content in value.items() if content != ""}
    sys.stderr.write(json.dumps(shown, separators=(",", ":"), ensure_ascii=True) + "\n")


def _write_message(text: str, hint: str = "") -> None:
    """Write a message on stderr, one line per problem, then the hint."""
    first, *others = [escape(line) for line in text.splitlines()] or [""]
    lines = [f"redrive: {first}", *others, *(escape(line) for line in hint.splitlines())]
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _shorten(text: str) -> str:
    return text if len(text) <= _WIDEST_CELL else text[: _WIDEST_CELL - 1] + "…"
