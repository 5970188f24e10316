"""The file that a whole ledger is exported to: JSON lines of ASCII, which any other tool can read.

::

    {"format":"redrive-ledger","version":1,"revision":"0004","redrive":"0.1.0","at":1763829174000,"last_ids":{"jobs":12,…}}
    {"table":"jobs","row":{"id":1,"route":"employees",…}}
    …
    {"rows":{"jobs":1,…},"sha256":"…"}

The first line tells which Redrive wrote it, by which schema and when (milliseconds by the ledger's clock), and the last id that
each table gave out. Bytes are base64. The last line counts the rows and has the digest of all bytes before it. That digest tells
damage, not intent, so each value is checked as well: see `tasks.dlq.archive.rules`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from tasks.dlq.archive.rules import LAST_MOMENT, MOST, RULES, Rule
from tasks.dlq.errors import RedriveError, Refused
from tasks.dlq.job import State
from tasks.dlq.ledger.schema import metadata
from tasks.dlq.text import show_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import IO

    from sqlalchemy import Column, Table

FORMAT, VERSION = "redrive-ledger", 1
#: Tables that stay behind. All others go along, later ones too.
LEFT_OUT = {"processes": "the processes that run on this ledger; those of another one tell of themselves"}
#: Columns that stay behind: which wake-ups are out. Nobody may come for those, and the new ledger must not wait for them.
LEFT_OUT_COLUMNS = {"jobs": {"wakeup_until"}, "routes": {"swept_at", "sweep_timeout"}}

#: Bytes of the first line and of any other: a value has up to 1 GiB, where PostgreSQL holds it.
_LONGEST_HEADER, _LONGEST = 1 << 16, 3 << 30
_JSON = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False)
#: Characters that a message shows of a wrong value.
_SHOWN = 40
#: A schema's revision, or a version by PEP 440: both stand in messages.
_VERSION = re.compile(r"[0-9A-Za-z_.+!-]{1,40}", re.ASCII)
_AGAIN = "export the ledger again, or take another export"


def exported() -> list[Table]:
    """Return the tables that an export has, each after those that its rows refer to."""
    return [table for table in metadata.sorted_tables if table.name not in LEFT_OUT]


def columns_of(table: Table) -> list[Column[Any]]:
    """Return the columns of a table that an export has."""
    return [column for column in table.columns if column.name not in LEFT_OUT_COLUMNS.get(table.name, ())]


@dataclass(frozen=True, kw_only=True)
class Header:
    """The first line: the schema's revision, Redrive's version, the ledger's time in milliseconds, the last ids by table."""

    revision: str
    redrive: str
    at: int
    last_ids: Mapping[str, int]


class Row(NamedTuple):
    """One row of a table, and the number of its line."""

    line: int
    table: Table
    values: dict[str, Any]


class Writer:
    """Writes the lines, each with its end."""

    def __init__(self, write: Callable[[bytes], object], header: Header) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self.rows: Counter[str] = Counter({table.name: 0 for table in exported()})
        self._line({"format": FORMAT, "version": VERSION, **asdict(header)})

    def row(self, table: str, values: Mapping[str, Any]) -> None:
        """Write one row."""
        plain = {name: base64.b64encode(each).decode() if isinstance(each, bytes) else each for name, each in values.items()}
        self.rows[table] += 1
        self._line({"table": table, "row": plain})

    def end(self) -> str:
        """Write the last line; return the digest."""
        digest = self._digest.hexdigest()
        self._line({"rows": self.rows, "sha256": digest})
        return digest

    def _line(self, value: Mapping[str, Any]) -> None:
        line = _JSON.encode(value).encode("ascii") + b"\n"
        self._digest.update(line)
        self._write(line)


class Reader:
    """Reads the lines of a file, one at a time, and tells where it is not what a `Writer` wrote.

    Raises:
        Refused: it is no export, or one of another format; while it is read: a row does not fit the schema, or the file was cut
            or changed.
        RedriveError: it cannot be read.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._number = 0
        self._rules = {table.name: (table, _rules(table)) for table in exported()}
        self.rows: Counter[str] = Counter({table.name: 0 for table in exported()})
        self.header = self._header()

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows; at the end, the file has proved to be whole."""
        while line := self._next(_LONGEST):
            digest = self._digest.copy()
            self._digest.update(line)
            value = self._parsed(line)
            if "sha256" in value:
                self._end(value, digest.hexdigest())
                return
            yield self._row(value)
        raise Refused(f"the file was cut: it ends with line {self._number}, without an export's last line", hint=_AGAIN)

    def _header(self) -> Header:
        line = self._next(_LONGEST_HEADER)
        self._digest.update(line)
        value = _object(line) or {}
        if value.get("format") != FORMAT:
            raise Refused("this is no export of a ledger", hint="give a file that `redrive export` wrote")
        version, redrive = value.get("version"), value.get("redrive")
        if version != VERSION:
            told = f"the file is written in format {show_value(version)}, and this Redrive reads format {VERSION}"
            raise Refused(told, hint=f"import it with Redrive {show_value(redrive)}, which wrote it")
        revision, at, last_ids = value.get("revision"), value.get("at"), value.get("last_ids")
        if not (_is_version(revision) and _is_version(redrive) and _is_whole(at, LAST_MOMENT) and _are_ids(last_ids)):
            raise self.refused("it is no first line of an export")
        return Header(revision=revision, redrive=redrive, at=at, last_ids=last_ids)

    def _row(self, value: Mapping[str, Any]) -> Row:
        name, row = value.get("table"), value.get("row")
        if not isinstance(name, str) or name not in self._rules or not isinstance(row, dict):
            raise self.refused(f"there is no table {show_value(name)}" if isinstance(row, dict) else "it is no row")
        table, rules = self._rules[name]
        if row.keys() != rules.keys():
            wrong = sorted(row.keys() ^ rules.keys())
            raise self.refused(f"{name}.{ascii(wrong[0])[1:-1][:_SHOWN]} is {'not known' if wrong[0] in row else 'missing'}")
        values = {}
        for column, (rule, nullable) in rules.items():
            given = row[column]
            try:
                values[column] = None if given is None and nullable else rule.read(given)
            except ValueError:
                is_wrong = "is wrong" if rule.secret else f"is {show_value(given, _SHOWN)}"
                raise self.refused(f"{name}.{column} {is_wrong}; it must be {rule.allowed}") from None
        if name == "jobs" and (values["state"] == State.EXECUTING) != (values["lease_until"] is not None):
            raise self.refused("jobs.lease_until must be set while the job is executing, and only then")
        self.rows[name] += 1
        return Row(self._number, table, values)

    def _end(self, value: Mapping[str, Any], digest: str) -> None:
        if value["sha256"] != digest:
            raise Refused("the file was changed or damaged: the digest in its last line is another", hint=_AGAIN)
        if value.get("rows") != self.rows:
            raise self.refused("its numbers of rows are not those of the lines before")
        if self._next(1):
            raise self.refused("it should be the file's last: two files in one?")

    def refused(self, why: str, *, line: int | None = None) -> Refused:
        """Return the error about a line; about the last one that was read, unless another is named."""
        return Refused(f"line {line or self._number}: {why}", hint="the file was changed, or is damaged; nothing was imported")

    def _parsed(self, line: bytes) -> dict[str, Any]:
        if (value := _object(line)) is not None:
            return value
        if not line.endswith(b"\n"):
            raise Refused(f"the file was cut in line {self._number}", hint=_AGAIN)
        raise self.refused("it is no JSON object")

    def _next(self, longest: int) -> bytes:
        try:
            line = self._stream.readline(longest)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:  # what is compressed
            raise Refused(f"the file was cut or damaged behind line {self._number}: {error}", hint=_AGAIN) from error
        except OSError as error:
            raise RedriveError(f"the file cannot be read behind line {self._number}: {error}", hint=_AGAIN) from error
        self._number += bool(line)
        return line


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_version(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def _is_whole(value: object, most: int) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= most


def _are_ids(value: object) -> TypeGuard[dict[str, int]]:
    return isinstance(value, dict) and all(_is_whole(each, MOST) for each in value.values())


def _rules(table: Table) -> dict[str, tuple[Rule, bool]]:
    """Return the rule of each column, and whether null is taken as well."""
    return {column.name: (RULES[table.name][column.name], bool(column.nullable)) for column in columns_of(table)}
