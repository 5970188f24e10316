"""Repair: rejected dead letters are read once more, with the mapping as it is now or from a body that a person gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tasks.dlq.errors import UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.ledger import repairs
from tasks.dlq.ledger.repairs import Rereading
from tasks.dlq.reading.reader import MAX_SUBMISSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tasks.dlq.calls.route import Route
    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ledger.repairs import Rejected, Repaired, Selection
    from tasks.dlq.ports import Record
    from tasks.dlq.reading.reader import Reader


@dataclass(frozen=True, kw_only=True)
class Reread:
    """A rejected letter with what it is read as now: None when its source is not configured any more."""

    rejected: Rejected
    letter: DeadLetter | None


class Repair:
    """Reads rejected letters again, each as the records of its source are read."""

    def __init__(self, ledger: Ledger, readers: Mapping[str, Reader], routes: Mapping[str, Route]) -> None:
        self._ledger = ledger
        self._readers = readers
        self._delays = {name: route.delay for name, route in routes.items()}

    def read(self, rejected: Rejected, *, body: bytes | None = None) -> Reread:
        """Return what a letter is read as now, or would be with another body."""
        record = rejected.record if body is None else replace(rejected.record, body=body)
        reader = self._readers.get(rejected.source)
        return Reread(rejected=rejected, letter=reader.read(rejected.source, record) if reader else None)

    def batches(self, selection: Selection) -> Iterator[list[Reread]]:
        """Yield all letters of the selection in batches, oldest first. Nothing is changed, no transaction held in between."""
        after = 0
        while batch := self._next(selection, after):
            yield [self.read(each) for each in batch]
            after = batch[-1].id

    def _next(self, selection: Selection, after: int) -> list[Rejected]:
        with self._ledger.begin(read_only=True) as tx:
            return repairs.next_batch(tx, selection, after=after)

    def write(self, batch: Sequence[Reread], *, actor: str, reason: str = "", body: bytes | None = None) -> Repaired:
        """Put what was read into the ledger, in one transaction; `body` is what all of them were read from, when it was given."""
        rereadings = [Rereading(id=each.rejected.id, letter=each.letter, body=body) for each in batch if each.letter]
        work = partial(repairs.repair, rereadings=rereadings, delays=self._delays, actor=actor, reason=reason)
        return self._ledger.transact(work)


@dataclass(frozen=True)
class SubmittedReader:
    """Reads what is kept of Celery producers: a submission's content where intake could read the message, else the message."""

    submissions: Reader
    messages: Reader

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the dead letter that the record is."""
        return (self.submissions if _is_submission(record.body) else self.messages).read(source, record)


def _is_submission(body: bytes) -> bool:
    try:
        document = read_json(body, max_bytes=MAX_SUBMISSION)
    except UnreadableBody:
        return False
    return isinstance(document, dict) and document.keys() == {"route", "parameters"}
