"""Data on stdout, messages on stderr: for people as text, with `--json` one compact object a line, lists with `--csv` as a sheet.

Whatever comes from outside (bodies, details, parameters) is escaped: it can neither steer the terminal, nor forge a line, nor
be a formula.
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
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli.errors import ReaderGone, Unwritable
from tasks.dlq.errors import Refused
from tasks.dlq.text import escape, escape_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

#: The option that every command has.
Json = Annotated[bool, typer.Option("--json", metavar="", help="One compact JSON object a line, errors too.")]
#: The option that lists have.
Csv = Annotated[bool, typer.Option("--csv", metavar="", help="A sheet for a spreadsheet: comma-separated, with a row of names.")]

#: Characters of a cell where no terminal sets the width.
_WIDEST_CELL = 200
#: Characters that are left of a cell in a narrow terminal, and those between two cells.
_LEAST_CELL = 12
_GAP = 2
#: Characters of a line where there is no terminal: a row is never broken.
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
    """One column of a table. Where the terminal is narrow, what may be cut gives way first, then the widest that may fold."""

    title: str
    right: bool = False
    cut: bool = False
    fold: bool = False

    @property
    def least(self) -> int:
        """The narrowest that it may become, in characters."""
        return max(len(self.title), _LEAST_CELL)


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a command's data and messages go. Raises Refused: not in two formats at once."""

    json: bool = False
    csv: bool = False

    def __post_init__(self) -> None:
        """Refuse two formats."""
        if self.json and self.csv:
            raise Refused("--json and --csv are two formats", hint="choose one of them")

    def record(self, value: Mapping[str, Any]) -> None:
        """Print one object for machines, on one line of ASCII."""
        _write(json.dumps(value, separators=(",", ":"), ensure_ascii=True) + "\n")

    def line(self, text: str = "") -> None:
        """Print one line for people."""
        _write(escape(text) + "\n")

    def raw(self, data: bytes) -> None:
        """Print exactly these bytes; on a terminal, which they could steer, escaped."""
        if sys.stdout.isatty():
            self.line(data.decode("utf-8", "backslashreplace"))
            return
        with _writing():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Print names and values, unless empty, one below the other; a terminal gets long values in several lines."""
        console, _ = _console()
        indent = max(map(len, facts)) + _GAP
        for name, value in facts.items():
            if not (text := escape(value)):
                continue
            lines = textwrap.wrap(text, max(console.width - indent, _LEAST_CELL), break_on_hyphens=False, drop_whitespace=False)
            shown = lines if console.is_terminal else [text]
            _write("".join(f"{each:<{indent}}{line}\n" for each, line in zip_longest([name], shown, fillvalue="")))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table for people: as wide as the terminal; elsewhere each row on one line, for grep."""
        from rich.table import Table
        from rich.text import Text

        console, printed = _console()
        cells = [[escape(cell) for cell in row] for row in rows]
        if not console.is_terminal:
            cells = [[_shortened(cell) for cell in row] for row in cells]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        for each, width in zip(columns, _widths(columns, cells, console.width), strict=True):
            table.add_column(
                each.title,
                justify="right" if each.right else "left",
                width=width,
                no_wrap=not each.fold,
                overflow="ellipsis" if each.cut else "fold",
            )
        for row in cells:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        console.print(table)
        _write("".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines()))

    def sheet(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a sheet for a spreadsheet, by RFC 4180; every cell in quotes, so that no other separator splits it."""
        drawn = io.StringIO()
        csv.writer(drawn, quoting=csv.QUOTE_ALL).writerows([names, *([escape_cell(cell) for cell in row] for row in rows)])
        _write(drawn.getvalue())

    def note(self, text: str) -> None:
        """Tell people something beside the data; machines are not told."""
        if not self.json:
            _say(text)

    def warn(self, text: str, *, hint: str = "", **facts: Any) -> None:
        """Tell people and machines of something that did not stop the command."""
        if self.json:
            _complain({"warning": text, "hint": hint, **facts})
        else:
            _say(f"{text}; {hint}" if hint else text)

    def fail(self, text: str, *, hint: str, exit_code: int) -> None:
        """Tell what went wrong and what to do next, before the command ends with `exit_code`."""
        if self.json:
            _complain({"error": text, "hint": hint, "exit_code": exit_code})
        else:
            _say(text, hint)


def flush() -> None:
    """Hand over what is printed. Raises ReaderGone, Unwritable."""
    with _writing():
        sys.stdout.flush()


def silence() -> None:
    """Print nothing any more: Python flushes once more when it ends, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console() -> tuple[Console, io.StringIO]:
    """Return a console that draws for standard output into a buffer: it is written in one place only."""
    from rich.console import Console

    out, drawn = Console(file=sys.stdout), io.StringIO()
    width = out.width if out.is_terminal else _NO_TERMINAL
    return Console(file=drawn, force_terminal=out.is_terminal, width=width, highlight=False, markup=False, emoji=False), drawn


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return how many characters of the terminal's each column gets."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, (each.title, *column))) for each, *column in zip(columns, *cells, strict=True)]
    excess = sum(widths) + _GAP * (len(widths) - 1) - room
    for may_give in ([each.cut for each in columns], [each.fold for each in columns]):
        giving = [number for number, each in enumerate(columns) if may_give[number] and widths[number] > each.least]
        while excess > 0 and giving:
            widest = max(giving, key=widths.__getitem__)
            widths[widest] -= 1
            excess -= 1
            giving = [number for number in giving if widths[number] > columns[number].least]
    return widths


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
        raise Unwritable(f"standard output cannot be written: {error.strerror}", hint="see where it goes to") from error


def _complain(value: Mapping[str, Any]) -> None:
    told = {name: each for name, each in value.items() if each != ""}
    sys.stderr.write(json.dumps(told, separators=(",", ":"), ensure_ascii=True) + "\n")


def _say(text: str, hint: str = "") -> None:
    """Write a message; one about several problems has a line for each, and its hint comes last."""
    first, *others = [escape(line) for line in text.splitlines()] or [""]
    lines = [f"redrive: {first}", *others, *(escape(line) for line in hint.splitlines())]
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST_CELL else text[: _WIDEST_CELL - 1] + "…"
