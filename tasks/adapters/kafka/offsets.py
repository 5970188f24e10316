"""Which offsets are out, and how far each partition may be committed: never past one that is not settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.adapters.kafka.records import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tasks.dlq.ports import Record

Partition = tuple[str, int]


class Offsets:
    """The books of one member over the partitions that it has."""

    def __init__(self) -> None:
        self._out: dict[Partition, set[int]] = {}  # handed out, not settled
        self._next: dict[Partition, int] = {}  # to be handed out next
        self.due: dict[Partition, int] = {}  # to be committed

    @property
    def out(self) -> Mapping[Partition, set[int]]:
        """What was handed out and is not settled."""
        return self._out

    def hand_out(self, records: Iterable[Record]) -> None:
        """Note that these records are out."""
        for record in records:
            partition, offset = partition_of(record), _place(record).offset
            self._out.setdefault(partition, set()).add(offset)
            self._next[partition] = offset + 1

    def settle(self, records: Iterable[Record]) -> list[Partition]:
        """Note that these records are kept; return the partitions that have moved on meanwhile, and are not committed."""
        moved = []
        for partition, offsets in by_partition(records).items():
            if partition not in self._out:
                moved.append(partition)
                continue
            self._out[partition] -= offsets
            self.due[partition] = min(self._out[partition], default=self._next[partition])
            if not self._out[partition]:
                del self._out[partition]
        return moved

    def give_back(self, offsets: Mapping[Partition, Iterable[int]]) -> dict[Partition, int]:
        """Note that what is out of each partition from the first of these offsets on comes again; return those firsts."""
        firsts = {partition: min(each) for partition, each in offsets.items() if partition in self._out}
        for partition, first in firsts.items():
            self._next[partition] = first
            if before := {offset for offset in self._out.pop(partition) if offset < first}:
                self._out[partition] = before
        return firsts

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Note that these partitions have gone."""
        for partition in partitions:
            self._out.pop(partition, None)
            self._next.pop(partition, None)
            self.due.pop(partition, None)


def partition_of(record: Record) -> Partition:
    """Return where a record of this source stands."""
    place = _place(record)
    return place.topic, place.partition


def by_partition(records: Iterable[Record]) -> dict[Partition, set[int]]:
    """Return the offsets of records by partition."""
    found: dict[Partition, set[int]] = {}
    for record in records:
        found.setdefault(partition_of(record), set()).add(_place(record).offset)
    return found


def _place(record: Record) -> Place:
    assert isinstance(record.receipt, Place)  # noqa: S101 - this source's own records
    return record.receipt
