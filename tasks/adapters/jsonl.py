"""A JSONL file as a source: each line is a failure, its object the parameters of one route.

A line's identity is the digest of the route and the line, with a number that counts equal lines. So the same file twice adds
nothing, and two equal lines are two failures. An interrupted run is resumed by running it again. Adding or removing other lines
does not change an identity.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from tasks.dlq.dead_letter import DeadLetter
from tasks.dlq.errors import InvalidParameter, OutOfReach, Refused, UnknownRoute, UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.ports import Record
from tasks.dlq.reading.reader import reject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tasks.dlq.reading.reader import SubmissionReader

#: Lines in a batch, and bytes after which a batch ends.
BATCH = 200
BATCH_BYTES = 4 << 20
#: Bytes of a line, without its end. Of a longer line only the beginning is kept.
LONGEST_LINE = 1 << 20
_PIECE = LONGEST_LINE + 2
_BOM = b"\xef\xbb\xbf"
#: The first bytes of other formats, their names, and how to convert them.
_OTHER_FORMATS = (
    (b"\x1f\x8b", "compressed by gzip", "gunzip -c FILE | redrive send ROUTE --file -"),
    (b"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8 FILE | redrive send ROUTE --file -"),
    (b"\xfe\xff", "UTF-16", "iconv -f UTF-16 -t UTF-8 FILE | redrive send ROUTE --file -"),
    (b"[", "a JSON array", "jq -c '.[]' FILE | redrive send ROUTE --file -"),
)


@dataclass(frozen=True)
class _Line:
    number: int
    #: The line without its end, or the beginning of a line that is too long.
    text: bytes
    #: Of the whole line.
    size: int
    digest: bytes


class JsonlSource:
    """Reads the lines of an open file once, from its current position. It skips blank lines.

    Its memory does not grow with the file: a temporary file counts equal lines.

    Args:
        name: the source's name in the ledger.
        stream: the file.
        route: the route of the lines.
        origin: more facts for the origin of every line.
        salt: gives equal lines of another run new identities.
    """

    def __init__(
        self, name: str, stream: IO[bytes], *, route: str, origin: Mapping[str, object] | None = None, salt: str = ""
    ) -> None:
        self.name = name
        self._origin = {"route": route, **(origin or {})}
        self._salt = f"{route}\0{salt}\0".encode()
        self._stream = stream
        self._lines: Iterator[_Line] = self._read()
        self._returned: list[Record] = []
        self._seen = _Occurrences()
        self._broken: OutOfReach | None = None
        self.bytes_read = 0

    def check(self) -> None:
        """Check the first line, without consuming it. Raises Refused if the file has another format."""
        first = next(self._lines, None)
        if first is None:
            return
        self._lines = chain([first], self._lines)
        for prefix, name, command in _OTHER_FORMATS:
            if first.text.lstrip().startswith(prefix):
                raise Refused(f"the file is {name}", hint=f"write one JSON object per line, for example: {command}")

    def receive(self, *, wait: float) -> Sequence[Record]:  # noqa: ARG002 - a file does not grow
        """Return the next lines; none at the end of the file. Raises OutOfReach, now and later, after a read error."""
        if self._broken:
            raise self._broken
        records, self._returned = self._returned, []
        size = 0
        while not records or (len(records) < BATCH and size < BATCH_BYTES):
            line = next(self._lines, None)
            if line is None:
                break
            records.append(self._record(line))
            size += len(line.text)
        return records

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Do nothing: the file stays as it is."""

    def give_back(self, records: Sequence[Record]) -> None:
        """Return these records again with the next `receive`."""
        self._returned = [*records, *self._returned]

    def close(self) -> None:
        """Remove the temporary file. The caller closes the file that it opened."""
        self._seen.close()

    def _record(self, line: _Line) -> Record:
        origin = {**self._origin, "line": line.number}
        if line.size > LONGEST_LINE:
            origin["line_bytes"] = line.size
        return Record(identity=f"{line.digest.hex()}/{self._seen.count(line.digest)}", body=line.text, origin=origin)

    def _read(self) -> Iterator[_Line]:
        """Yield each line that is not blank. Of a line that is too long, yield the beginning."""
        number = 0
        while piece := self._piece(number + 1):
            number += 1
            line = self._whole(number, piece)
            if line.text.strip() or line.size > LONGEST_LINE:
                yield line

    def _whole(self, number: int, piece: bytes) -> _Line:
        """Return the line that begins with this piece, after reading it to its end."""
        text = piece.removeprefix(_BOM) if number == 1 else piece
        if piece.endswith(b"\n") or len(piece) < _PIECE:
            text = text.rstrip(b"\r\n")
            return _Line(number, text, len(text), hashlib.sha256(self._salt + text).digest())
        size, digest = len(text), hashlib.sha256(self._salt + text)
        while more := self._piece(number):
            size += len(more)
            digest.update(more)
            if more.endswith(b"\n"):
                break
        return _Line(number, text, size, digest.digest())

    def _piece(self, number: int) -> bytes:
        try:
            piece = self._stream.readline(_PIECE)
        except OSError as error:
            hint = "run it again when the file can be read: lines that are in the ledger are known"
            self._broken = OutOfReach(f"the file cannot be read from line {number:,} on: {error.strerror}", hint=hint)
            raise self._broken from error
        self.bytes_read += len(piece)
        return piece


class _Occurrences:
    """Counts equal lines in a temporary file of SQLite."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE lines (digest BLOB PRIMARY KEY, count INTEGER) WITHOUT ROWID")

    def count(self, digest: bytes) -> int:
        """Return how many lines with this digest there are, this one included."""
        statement = "INSERT INTO lines VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count"
        ((count,),) = self._database.execute(statement, (digest,)).fetchall()
        return int(count)

    def close(self) -> None:
        self._database.close()


@dataclass(frozen=True)
class LineReader:
    """Reads lines as objects with the parameters of the route in their origin."""

    submissions: SubmissionReader

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the line as a dead letter."""
        try:
            route, key = self.submissions.resolve(record.origin.get("route"), _object(record))
        except UnreadableBody as error:
            return reject(source, record, error)
        except (UnknownRoute, InvalidParameter) as error:
            reason = "unknown-route" if isinstance(error, UnknownRoute) else "invalid-parameter"
            return reject(source, record, UnreadableBody(reason, error.message, hint=error.hint))
        return DeadLetter(
            source=source, identity=record.identity, body=record.body, origin=record.origin, route=route.name, keys=[key]
        )


def _object(record: Record) -> dict[str, Any]:
    size = record.origin.get("line_bytes", 0)
    if len(record.body) > LONGEST_LINE and size:
        text = f"the line has {size:,} bytes; at most {LONGEST_LINE:,} are allowed, and only its beginning is kept"
        raise UnreadableBody("too-large", text, hint="the file has the whole line")
    values = read_json(record.body, max_bytes=LONGEST_LINE)
    if not isinstance(values, dict):
        raise UnreadableBody("no-object", "the line is not a JSON object", hint='write for example {"employeeId": 1234}')
    return values
