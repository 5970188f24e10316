"""Column types that say what a value means. An import accepts only values that fit (tasks.dlq.archive.rules).

A column of numbers may name its smallest value: `info={"least": 1}`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, String, Text


class RowId(BigInteger):
    """The number of a row."""


class Millis(BigInteger):
    """A time: whole milliseconds since the epoch, by the database's clock."""


class Offset(BigInteger):
    """The place of a record in a Kafka partition."""


class HttpStatus(Integer):
    """The status of an HTTP answer."""


class Name(String):
    """The name of a route or a source."""


class Word(String):
    """A word of a-z, 0-9, _ and -."""


class Digest(String):
    """32 hexadecimal digits."""


class JsonObject(Text):
    """A JSON object."""


class Key(Text):
    """The canonical JSON of a call's parameters."""


#: SQLite numbers rows by itself only in an INTEGER column; PostgreSQL needs 64 bits.
Id = RowId().with_variant(Integer, "sqlite")
#: Fences grow with the clock: docs/adr/0003-lease-and-fence.md.
Fence = Millis
