"""Repair: rejected dead letters are read again, with the mappings as they are now or from bytes that an operator gives."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tasks.dlq.errors import Refused, UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.ledger import repairs
from tasks.dlq.ledger.repairs import UNSTORABLE, Repaired, Result
from tasks.dlq.reading.reader import MAX_SUBMISSION
from tasks.dlq.services.wakeups import NO_WAKEUPS, WakeResult, wake_jobs

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence

    from tasks.dlq.calls.route import Route
    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ledger.repairs import Rejected, Selection
    from tasks.dlq.ports import Record, WakeupSender
    from tasks.dlq.reading.reader import Reader


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Letters to repair: a set that does not grow."""

    selection: Selection
    #: How many rejected letters it has, by the reason for which they were rejected.
    reasons: Counter[str]
    #: Letters that were named, but are not rejected or do not exist.
    absent: Mapping[int, Result]


@dataclass(frozen=True, kw_only=True)
class LetterResult:
    """What a repair did to one letter, or would do."""

    letter_id: int
    source: str = ""
    result: Result
    #: The route of a repaired letter, and the parameters of its calls.
    route: str = ""
    parameters: Sequence[Mapping[str, str]] = ()
    #: Why it was rejected again: the reason, and a sentence for people.
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RepairedBatch:
    """What a repair did to a batch of letters, or would do."""

    letters: Sequence[LetterResult]
    #: Why opened jobs are not called soon.
    wakeups: WakeResult = NO_WAKEUPS


class Repair:
    """Reads rejected letters again, each as the records of its source are read."""

    def __init__(self, ledger: Ledger, readers: Mapping[str, Reader], routes: Mapping[str, Route], sender: WakeupSender) -> None:
        self._ledger = ledger
        self._readers = readers
        self._routes = routes
        self._sender = sender
        self._delays = {name: route.delay for name, route in routes.items()}

    def choose(self, selection: Selection, *, limit: int | None = None) -> Chosen:
        """Return the rejected letters of a selection as it is now: the first `limit`, oldest first, or all."""
        with self._ledger.begin(read_only=True) as tx:
            fixed = replace(selection, until=repairs.find_last(tx, selection, limit=limit))
            reasons = repairs.count_by_reason(tx, fixed)
            absent = repairs.find_not_rejected(tx, selection.ids or ())
        return Chosen(selection=fixed, reasons=reasons, absent=absent)

    def repair(
        self, chosen: Chosen, *, actor: str, reason: str = "", body: bytes | None = None, dry_run: bool = False
    ) -> Iterator[RepairedBatch]:
        """Read the letters again and write the result, one batch a transaction; yield what became of each batch.

        Args:
            chosen: the letters.
            actor: who asks for it.
            reason: why, for the audit log.
            body: bytes to read a single letter from, in place of its own.
            dry_run: write nothing; yield what would become of the letters.

        Raises:
            Refused: the letter cannot be read from `body`. Nothing is changed.
        """
        after = 0
        while batch := self._find_batch(chosen.selection, after):
            after = batch[-1].id
            letters = {rejected.id: letter for rejected in batch if (letter := self._read(rejected, body))}
            done = Repaired()
            if not dry_run:
                work = partial(repairs.repair, letters=letters, delays=self._delays, actor=actor, reason=reason, body=body)
                done = self._ledger.transact(work)
            results = [_judge(rejected, letters.get(rejected.id), done.results.get(rejected.id)) for rejected in batch]
            yield RepairedBatch(letters=results, wakeups=wake_jobs(self._ledger, self._sender, self._routes, done.opened))
        yield RepairedBatch(letters=[LetterResult(letter_id=name, result=result) for name, result in chosen.absent.items()])

    def _find_batch(self, selection: Selection, after: int) -> list[Rejected]:
        with self._ledger.begin(read_only=True) as tx:
            return repairs.find_next_batch(tx, selection, after=after)

    def _read(self, rejected: Rejected, body: bytes | None) -> DeadLetter | None:
        """Return what a letter is read as now; None if its source is not configured. Raises Refused, as `repair` does."""
        reader = self._readers.get(rejected.source)
        if body is None:
            return reader.read(rejected.source, rejected.record) if reader else None
        if reader is None:
            raise Refused(f"source {rejected.source} of letter {rejected.id} is not in redrive.toml", hint="nothing was changed")
        letter = reader.read(rejected.source, replace(rejected.record, body=body))
        if letter.rejection:
            text = f"letter {rejected.id} would be rejected again: {letter.rejection.detail}"
            raise Refused(text, hint="nothing was changed")
        return letter


def _judge(rejected: Rejected, letter: DeadLetter | None, written: Result | None) -> LetterResult:
    """Return the result of a letter: as it was written, else as it would be."""
    if letter is None:
        detail = "its source is not configured"
        return LetterResult(letter_id=rejected.id, source=rejected.source, result=Result.LEFT_ALONE, detail=detail)
    result = written or (Result.REJECTED if letter.rejection else Result.REPAIRED)
    judged = LetterResult(letter_id=rejected.id, source=rejected.source, result=result)
    if result is Result.REPAIRED:
        return replace(judged, route=letter.route, parameters=[json.loads(key) for key in letter.keys])
    if result is Result.REJECTED:
        rejection = letter.rejection or UNSTORABLE
        return replace(judged, reason=rejection.reason, detail=rejection.detail)
    return judged


@dataclass(frozen=True)
class SubmittedReader:
    """Reads what is kept of Celery producers: the content of a submission if intake could read the message, else the message."""

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
