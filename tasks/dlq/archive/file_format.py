"""The file of an exported ledger: JSON lines in ASCII, which any other tool can read.

::

    {"format":"redrive-ledger","version":1,"revision":"0004","redrive":"0.1.0","at":1763829174000,"last_ids":{"jobs":12,…}}
    {"table":"jobs","row":{"id":1,"route":"employees",…}}
    …
    {"rows":{"jobs":1,…},"sha256":"…"}

Bytes are in base64. The last line has the number of rows and the digest of all bytes before it. The digest shows damage, not
intent, so each value is checked as well: see `tasks.dlq.archive.rules`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.dlq.archive.rules import LAST_MOMENT, MAX_ID, row_model
from tasks.dlq.errors import RedriveError, Refused
from tasks.dlq.job import State
from tasks.dlq.ledger.schema import metadata
from tasks.dlq.text import show_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import IO

    from sqlalchemy import Column, Table

FORMAT, VERSION = "redrive-ledger", 1
#: Tables that are not exported: processes run on one ledger.
OMITTED_TABLES = {"processes"}
#: Columns that are not exported: a wake-up that is out never arrives at the new ledger, which must not wait for it.
OMITTED_COLUMNS = {"jobs": {"wakeup_until"}, "routes": {"swept_at", "sweep_timeout"}}

#: The longest first line and the longest other line in bytes. A value in PostgreSQL has up to 1 GiB.
_LONGEST_HEADER, _LONGEST_LINE = 1 << 16, 3 << 30
_JSON = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False)
#: The revision of a schema, or a version by PEP 440. Messages contain them.
_Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z_.+!-]{1,40}$")]
_AGAIN = "export the ledger again, or use another export"


def exported_tables() -> list[Table]:
    """Return the tables of an export, each after the tables that it refers to."""
    return [table for table in metadata.sorted_tables if table.name not in OMITTED_TABLES]


def exported_columns(table: Table) -> list[Column[Any]]:
    """Return the columns of a table that are exported."""
    return [column for column in table.columns if column.name not in OMITTED_COLUMNS.get(table.name, ())]


class Header(BaseModel):
    """The first line of a file."""

    model_config = ConfigDict(strict=True, frozen=True)

    #: Of the ledger's schema.
    revision: _Version
    #: The version of Redrive that wrote the file.
    redrive: _Version
    #: When it was written: milliseconds by the ledger's clock.
    at: Annotated[int, Field(ge=0, le=LAST_MOMENT)]
    #: The last id that each table gave out.
    last_ids: dict[str, Annotated[int, Field(ge=0, le=MAX_ID)]]


class Row(NamedTuple):
    """One row of a table."""

    #: The number of its line in the file.
    line: int
    table: Table
    values: dict[str, Any]


class Writer:
    """Writes the lines of a file.

    Args:
        write: Takes each line, with its line end.
        header: The first line.
    """

    def __init__(self, write: Callable[[bytes], object], header: Header) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self.rows: Counter[str] = Counter({table.name: 0 for table in exported_tables()})
        self._write_line({"format": FORMAT, "version": VERSION, **header.model_dump()})

    def write_row(self, table: str, values: Mapping[str, Any]) -> None:
        """Write one row."""
        plain = {name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in values.items()}
        self.rows[table] += 1
        self._write_line({"table": table, "row": plain})

    def end(self) -> str:
        """Write the last line; return the digest."""
        digest = self._digest.hexdigest()
        self._write_line({"rows": self.rows, "sha256": digest})
        return digest

    def _write_line(self, value: Mapping[str, Any]) -> None:
        line = _JSON.encode(value).encode("ascii") + b"\n"
        self._digest.update(line)
        self._write(line)


class Reader:
    """Reads the lines of a file, one at a time, and refuses what a `Writer` would not write.

    Raises:
        Refused: The file is not an export, has another format, was cut or changed, or a row does not fit the schema.
        RedriveError: The file cannot be read.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._line = 0
        self._tables = {table.name: table for table in exported_tables()}
        self._models = {name: row_model(name, exported_columns(table)) for name, table in self._tables.items()}
        self.rows = Counter(dict.fromkeys(self._tables, 0))
        self.header = self._read_header()

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows. The file is whole if the iteration ends without an error."""
        while line := self._read_line(_LONGEST_LINE):
            digest = self._digest.copy()
            self._digest.update(line)
            value = self._parse(line)
            if "sha256" in value:
                self._check_end(value, digest.hexdigest())
                return
            yield self._parse_row(value)
        raise Refused(f"the file was cut: it ends with line {self._line}, without the last line of an export", hint=_AGAIN)

    def refused(self, reason: str, *, line: int | None = None) -> Refused:
        """Return the error about a line, by default the last one that was read."""
        return Refused(f"line {line or self._line}: {reason}", hint="the file was changed or is damaged; nothing was imported")

    def _read_header(self) -> Header:
        line = self._read_line(_LONGEST_HEADER)
        self._digest.update(line)
        value = _load_object(line) or {}
        if value.get("format") != FORMAT:
            raise Refused("this is not an export of a ledger", hint="give a file that `redrive export` wrote")
        if value.get("version") != VERSION:
            reason = f"the file has format {show_value(value.get('version'))}, and this Redrive reads format {VERSION}"
            raise Refused(reason, hint=f"import it with Redrive {show_value(value.get('redrive'))}, which wrote it")
        try:
            return Header.model_validate(value)
        except ValidationError as error:
            raise self.refused(f"it is not the first line of an export: {_explain(error)}") from None

    def _parse_row(self, value: Mapping[str, Any]) -> Row:
        name, row = value.get("table"), value.get("row")
        if not isinstance(row, dict):
            raise self.refused("it is not a row")
        if not isinstance(name, str) or name not in self._tables:
            raise self.refused(f"there is no table {show_value(name)}")
        try:
            values = dict(self._models[name].model_validate(row))
        except ValidationError as error:
            raise self.refused(f"{name}.{_explain(error)}") from None
        if name == "jobs" and (values["state"] == State.EXECUTING) != (values["lease_until"] is not None):
            raise self.refused("jobs.lease_until: it must be set while the job is executing, and only then")
        self.rows[name] += 1
        return Row(self._line, self._tables[name], values)

    def _check_end(self, value: Mapping[str, Any], digest: str) -> None:
        if value["sha256"] != digest:
            raise Refused("the file was changed or damaged: its digest does not match", hint=_AGAIN)
        if value.get("rows") != self.rows:
            raise self.refused("its numbers of rows do not match the lines before it")
        if self._read_line(1):
            raise self.refused("the file goes on after its last line: two files in one?")

    def _parse(self, line: bytes) -> dict[str, Any]:
        if (value := _load_object(line)) is not None:
            return value
        if not line.endswith(b"\n"):
            raise Refused(f"the file was cut in line {self._line}", hint=_AGAIN)
        raise self.refused("it is not a JSON object")

    def _read_line(self, longest: int) -> bytes:
        try:
            line = self._stream.readline(longest)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:  # of a compressed file
            raise Refused(f"the file was cut or damaged after line {self._line}: {error}", hint=_AGAIN) from error
        except OSError as error:
            raise RedriveError(f"the file cannot be read after line {self._line}: {error}", hint=_AGAIN) from error
        self._line += bool(line)
        return line


def _load_object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _explain(error: ValidationError) -> str:
    """Return the first fault, without the refused value: it may be the body of a dead letter."""
    fault = error.errors(include_input=False, include_url=False)[0]
    return f"{show_value('.'.join(map(str, fault['loc'])), 40)[1:-1]}: {fault['msg'].removeprefix('Value error, ')}"
