"""A source in this process's memory: for tests of what is built on sources, and the shortest one to learn from.

Whoever writes a source keeps four promises, and this one shows each in a few lines:

- `receive` hands a record out again until it is acknowledged: after a crash, a lost connection, a time that ran out. Each time
  it has the same `identity`, made of what the transport knows, never of an id that a producer chose.
- `acknowledge` is called only after the ledger's commit. One that fails, or comes late or twice, does no harm.
- `give_back` lets records be handed out again soon, in front of those that were not handed out yet.
- What does not answer raises `OutOfReach` with what to do about it, in any of the three. Nothing is skipped by that.

The conformance suite (tests/integration/test_sources_conformance.py) holds every source to them: give it a harness for yours.

    source = MemorySource("letters")
    source.put(b'{"employeeId": 1}', b"not json")
    intake.drain(source, reader, seconds=60)
    assert source.left == 0
"""

from __future__ import annotations

import threading
from itertools import count, islice
from typing import TYPE_CHECKING

from tasks.dlq.errors import OutOfReach
from tasks.dlq.ports import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MemorySource:
    """Records in memory. May be used by several threads.

    Args:
        name: the source's name.
        batch: the most records that one `receive` returns.
    """

    def __init__(self, name: str, *, batch: int = 10) -> None:
        self._name = name
        self._batch = batch
        self._numbers = count(1)
        self._waiting: dict[str, Record] = {}  # by identity, in the order of their delivery
        self._out: dict[str, Record] = {}  # handed out, not acknowledged
        self._reachable = True
        self._changed = threading.Condition()

    # --- the source -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The source's name."""
        return self._name

    def receive(self, *, wait: float) -> Sequence[Record]:
        """Return the next batch; wait up to `wait` seconds for the first record. Raises OutOfReach while it is down."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._reachable, wait)
            self._answer()
            batch = dict(islice(self._waiting.items(), self._batch))
            for identity in batch:
                del self._waiting[identity]
            self._out |= batch
            return list(batch.values())

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Forget these records. Raises OutOfReach while it is down."""
        with self._changed:
            self._answer()
            for record in records:
                self._out.pop(record.identity, None)
                self._waiting.pop(record.identity, None)  # acknowledged after its time had run out

    def give_back(self, records: Sequence[Record]) -> None:
        """Hand these records out next. Raises OutOfReach while it is down."""
        with self._changed:
            self._answer()
            self._return({record.identity for record in records})

    def close(self) -> None:
        """Do nothing: there are no connections."""

    # --- what a test does with it ---------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """How many records are not acknowledged yet."""
        with self._changed:
            return len(self._waiting) + len(self._out)

    def put(self, *bodies: bytes, origin: Mapping[str, object] | None = None) -> None:
        """Add a record for each body."""
        with self._changed:
            for body in bodies:
                identity = str(next(self._numbers))
                self._waiting[identity] = Record(identity=identity, body=body, origin=origin or {})
            self._changed.notify_all()

    def redeliver(self) -> None:
        """Hand out again what is not acknowledged, as any transport does with what a crashed reader had."""
        with self._changed:
            self._return(set(self._out))

    def go_down(self) -> None:
        """Answer nobody, whoever waits included, until `come_up`."""
        self._be(reachable=False)

    def come_up(self) -> None:
        """Answer again."""
        self._be(reachable=True)

    def _be(self, *, reachable: bool) -> None:
        with self._changed:
            self._reachable = reachable
            self._changed.notify_all()

    def _answer(self) -> None:
        if not self._reachable:
            raise OutOfReach(f"source {self._name} does not answer", hint="it was told to be down: come_up() ends that")

    def _return(self, identities: set[str]) -> None:
        given_back = {identity: record for identity, record in self._out.items() if identity in identities}
        for identity in given_back:
            del self._out[identity]
        self._waiting = given_back | self._waiting
        self._changed.notify_all()
