"""What intake notes of a stream's offsets, and what the audit tells of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import URLS, A, B, Bench, a_letter, open_bench

from tasks.dlq.ledger.audit import OffsetRange
from tasks.dlq.ledger.pruning import prune_letters

ONE, OTHER = "employees-dlt/0", "employees-dlt/1"


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


def letter(offset: int | None, stream: str = ONE, key: str = A, **rest: Any):
    return a_letter(key, identity=f"{stream}/{offset}", source="dlt", stream=stream, offset=offset, **rest)


def reach(bench: Bench, stream: str = ONE) -> OffsetRange:
    return bench.audit().streams["dlt"][stream]


def test_a_stream_reaches_from_its_first_to_its_last_offset(bench: Bench):
    bench.put(letter(7), letter(5))
    bench.put(letter(6), letter(0, OTHER))

    assert reach(bench) == OffsetRange(accepted=3, first_offset=5, last_offset=7)
    assert reach(bench, OTHER) == OffsetRange(accepted=1, first_offset=0, last_offset=0)
    assert reach(bench).gaps == reach(bench, OTHER).gaps == 0


def test_offsets_that_no_letter_had_are_gaps(bench: Bench):
    bench.put(letter(5), letter(8))
    bench.put(letter(11))

    assert reach(bench).gaps == 4


def test_what_is_delivered_again_counts_once(bench: Bench):
    bench.put(letter(5), letter(6))
    bench.put(letter(5), letter(6), letter(7))
    bench.put(letter(5))

    assert reach(bench) == OffsetRange(accepted=3, first_offset=5, last_offset=7)


def test_a_rewind_to_before_the_first_moves_the_first(bench: Bench):
    bench.put(letter(5))
    bench.put(letter(3), letter(4), letter(5))

    assert reach(bench) == OffsetRange(accepted=3, first_offset=3, last_offset=5)


def test_pruning_changes_no_reach_and_a_rewind_behind_it_shows(bench: Bench):
    bench.put(letter(5), letter(6), delay=0.0)
    bench.call()
    bench.clock.advance(86400)
    assert bench.do(prune_letters, before=bench.clock.now) == 2
    assert reach(bench) == OffsetRange(accepted=2, first_offset=5, last_offset=6)

    bench.put(letter(5), letter(6))

    assert reach(bench).gaps == -2
    assert bench.audit().balanced


def test_a_source_without_offsets_has_no_streams(bench: Bench):
    bench.put(a_letter(A, source="queue"), a_letter(B, source="dlt", stream=ONE))

    assert bench.audit().streams == {}
    assert all("streams" not in each for each in bench.audit().as_dict()["sources"].values())


def test_offsets_that_begin_late_are_noted_from_then_on(bench: Bench):
    """As after an upgrade: what was accepted before has none."""
    bench.put(letter(None))
    bench.put(letter(5))
    bench.put(a_letter(B, source="dlt", stream=ONE))

    assert reach(bench) == OffsetRange(accepted=3, first_offset=5, last_offset=5)


def test_a_letter_that_cannot_be_stored_keeps_its_place(bench: Bench):
    bench.put(letter(5), letter(6, key=A, origin={"x": 10**5000}), letter(7))

    assert reach(bench) == OffsetRange(accepted=3, first_offset=5, last_offset=7)
    assert bench.audit().rejected == 1


def test_the_audit_prints_the_reach_below_its_source(bench: Bench):
    bench.put(letter(5), letter(8), letter(2, OTHER))

    assert bench.audit().as_dict()["sources"]["dlt"]["streams"] == {
        ONE: {"accepted": 2, "first_offset": 5, "last_offset": 8, "gaps": 2},
        OTHER: {"accepted": 1, "first_offset": 2, "last_offset": 2, "gaps": 0},
    }
    assert "streams" not in bench.audit().as_dict()
