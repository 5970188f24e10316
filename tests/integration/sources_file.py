"""A JSONL file for the conformance suite, sent as often as it takes: what was sent before is known."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from sources_harness import BINARY_POISON, POISON

from tasks.adapters import jsonl
from tasks.adapters.jsonl import JsonlSource
from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from tasks.dlq.ports import Record, Source


class File:
    """A file that grows. Nothing is taken out of it: whoever opens it again reads all of it again."""

    poison: ClassVar = POISON | {"not-utf8": BINARY_POISON["not-utf8"]}  # a blank line is none
    batch = 10
    remembers = False

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(jsonl, "BATCH", self.batch)
        self.path = folder / "letters.jsonl"
        self.is_down = False
        self.acknowledged: set[str] = set()
        self._lines = 0
        self._opened: list[Sender] = []

    def open(self) -> Source:
        self._opened.append(Sender(self))
        return self._opened[-1]

    def produce(self, bodies: Sequence[bytes]) -> None:
        with self.path.open("ab") as file:
            file.writelines(body + b"\n" for body in bodies)
        self._lines += len(bodies)

    def expire(self, records: Sequence[Record]) -> None:
        """Do nothing: all comes again when the file is opened again."""

    def crash(self, source: Source, records: Sequence[Record]) -> None:
        del records
        assert isinstance(source, Sender)
        source.close()

    def go_down(self) -> None:
        self.is_down = True

    def come_up(self) -> None:
        self.is_down = False

    def left(self) -> int:
        return self._lines - len(self.acknowledged)

    def close(self) -> None:
        for each in self._opened:
            each.close()


class Sender:
    """Sends the file; from its beginning again after its end, and after trouble."""

    name = "letters"

    def __init__(self, harness: File) -> None:
        self._harness = harness
        self._source: JsonlSource | None = None

    def receive(self, *, wait: float) -> Sequence[Record]:
        try:
            source = self._source = self._source or self._opened()
            records = source.receive(wait=wait)
        except OutOfReach:
            self.close()
            raise
        if not records:
            self.close()
        return records

    def acknowledge(self, records: Sequence[Record]) -> None:
        assert self._source
        self._source.acknowledge(records)
        self._harness.acknowledged |= {each.identity for each in records}

    def give_back(self, records: Sequence[Record]) -> None:
        assert self._source
        self._source.give_back(records)

    def close(self) -> None:
        if self._source:
            self._source.close()
            self._stream.close()
        self._source = None

    def _opened(self) -> JsonlSource:
        self._stream = _Stream(self._harness)
        return JsonlSource(self.name, self._stream, route="employees")  # type: ignore[arg-type]


class _Stream:
    """The file on a disk that can fail."""

    def __init__(self, harness: File) -> None:
        self._harness = harness
        self._file = harness.path.open("rb")

    def readline(self, limit: int) -> bytes:
        if self._harness.is_down:
            raise OSError(errno.EIO, "Input/output error")
        return self._file.readline(limit)

    def close(self) -> None:
        self._file.close()
