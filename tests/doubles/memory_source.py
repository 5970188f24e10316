"""A source in memory: for tests of code that uses sources, and the shortest example of a source.

A source keeps four promises. The conformance suite (tests/integration/test_sources_conformance.py) checks them for each source:

- `receive` delivers a record again until it is acknowledged: after a crash, a lost connection, a timeout. Its `identity` stays
  the same. It is made from what the transport knows, never from an id that a producer chose.
- `acknowledge` is called only after the ledger's commit. A call that fails, or comes late or twice, does no harm.
- `give_back` makes records available again soon, before those that were not delivered yet.
- Each of the three raises `OutOfReach` with a hint if the transport does not answer. No record is skipped then.
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
        """Deliver unacknowledged records again, as a transport does after a reader crashed."""
        with self._changed:
            self._return(set(self._out))

    def go_down(self) -> None:
        """Fail every call, also waiting ones, until `come_up`."""
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
            raise OutOfReach(f"source {self._name} does not answer", hint="call come_up()")

    def _return(self, identities: set[str]) -> None:
        given_back = {identity: record for identity, record in self._out.items() if identity in identities}
        for identity in given_back:
            del self._out[identity]
        self._waiting = given_back | self._waiting
        self._changed.notify_all()
