"""The claim: who may call what, when, and how many at once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_bench import COMPANIES, EMPLOYEES, RETRY, URLS, A, B, Bench, C, D, a_letter, open_bench

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.calls.retry import Decision, Verdict
from tasks.dlq.job import State
from tasks.dlq.ledger import routes
from tasks.dlq.ledger.operations import discard
from tasks.dlq.ledger.schema import metadata

TWO_AT_ONCE = replace(EMPLOYEES, max_in_flight=2)
THREE_AT_ONCE = replace(EMPLOYEES, max_in_flight=3)


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


# --- which job -------------------------------------------------------------------------------------------------------


def test_nothing_is_claimed_of_an_empty_ledger(bench: Bench):
    assert bench.claim() is None


def test_the_job_that_has_been_due_for_longest_comes_first(bench: Bench):
    for key, delay in ((C, 3.0), (A, 1.0), (B, 2.0)):
        bench.put(a_letter(key), delay=delay)
    bench.clock.advance(10)

    order = []
    for _ in range(3):
        held = bench.claimed()
        order.append(held.key)
        bench.settle(held)

    assert order == [A, B, C]


def test_a_job_is_claimed_no_millisecond_before_it_is_due(bench: Bench):
    bench.put(a_letter(A), delay=30.0)
    bench.clock.advance(29.999)
    assert bench.claim() is None
    bench.clock.advance(0.001)
    assert bench.claim() is not None


def test_a_job_of_another_route_is_never_called_on_this_one(bench: Bench):
    bench.put(a_letter(A, route="companies"), delay=0.0)

    assert bench.claim() is None


def test_a_claim_tells_all_that_its_call_needs(bench: Bench):
    bench.put(a_letter(A), a_letter(A), delay=0.0)

    held = bench.claimed()

    assert held.parameters == {"employeeId": "1"}
    assert (held.covers_seq, held.number, held.attempts, held.misses) == (2, 1, 0, 0)
    assert bench.job(A)["lease_until"] == bench.clock.now + bench.route.lease * 1000
    assert bench.job(A)["token"] == held.token
    (attempt,) = bench.rows("attempts")
    assert (attempt["token"], attempt["covers_seq"], attempt["outcome"], attempt["worker"]) == (held.token, 2, None, "w")


# --- how many at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_as_many_as_the_route_allows_and_not_one_more(bench: Bench, limit: int):
    route = replace(EMPLOYEES, max_in_flight=limit)
    for key in (A, B, C, D):
        bench.put_due(key)

    held = [bench.claim(route=route) for _ in range(4)]

    assert [each is not None for each in held] == [True] * limit + [False] * (4 - limit)
    bench.settle(held[0])
    assert bench.claim(route=route) is not None
    assert bench.claim(route=route) is None


def test_a_key_is_never_claimed_twice_however_many_slots_are_free(bench: Bench):
    bench.put_due(A)
    assert bench.claim(route=THREE_AT_ONCE)
    bench.put(a_letter(A), delay=0.0)

    assert bench.claim(route=THREE_AT_ONCE) is None


def test_an_expired_lease_holds_its_slot_until_it_is_rescued(bench: Bench):
    bench.put_due(A)
    bench.put_due(B)
    bench.claimed()
    bench.clock.advance(3600)

    assert bench.claim() is None


def test_a_slot_rests_after_an_unknown_outcome_until_the_drain_is_over(bench: Bench):
    bench.put_due(A)
    bench.put_due(B)
    bench.call(Outcome.DEADLINE, RETRY, unknown=True)

    bench.clock.advance(bench.route.drain - 0.001)
    assert bench.claim() is None
    bench.clock.advance(0.001)
    assert bench.claimed().key in {A, B}


def test_a_key_rests_after_an_unknown_outcome_however_many_slots_are_free(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.NETWORK, Decision(verdict=Verdict.RETRY), unknown=True)

    assert bench.claim(route=THREE_AT_ONCE) is None
    bench.clock.advance(bench.route.drain)
    assert bench.claim(route=THREE_AT_ONCE) is not None


def test_a_resting_key_rests_on_when_a_new_need_opens_its_job(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.DEADLINE, Decision(verdict=Verdict.PARK), unknown=True)
    bench.put(a_letter(A), delay=0.0)

    assert bench.claim(route=THREE_AT_ONCE) is None
    bench.clock.advance(bench.route.drain)
    assert bench.claim(route=THREE_AT_ONCE) is not None


def test_routes_do_not_take_each_others_slots(bench: Bench):
    bench.put_due(A)
    bench.put(a_letter(A, route="companies"), delay=0.0)

    assert bench.claim() is not None
    assert bench.claim(route=COMPANIES) is not None


# --- gates -----------------------------------------------------------------------------------------------------------


def test_a_paused_route_claims_nothing_until_it_is_resumed(bench: Bench):
    bench.put_due(A)
    assert bench.pause(by="ops", reason="deploy")
    assert not bench.pause(by="redrive", reason="401")
    assert bench.claim() is None
    (row,) = bench.rows("routes")
    assert (row["paused_by"], row["pause_reason"]) == ("ops", "deploy")

    assert bench.resume()

    assert not bench.resume()
    assert bench.claim() is not None


def test_a_route_that_was_asked_to_wait_waits_and_an_earlier_time_never_shortens_it(bench: Bench):
    bench.put_due(A)
    bench.do(routes.ensure_routes, ["employees"])
    bench.hold_until(bench.clock.now + 60_000)
    bench.hold_until(bench.clock.now + 10_000)

    bench.clock.advance(59.999)
    assert bench.claim() is None
    bench.clock.advance(0.001)
    assert bench.claim() is not None


# --- the breaker -----------------------------------------------------------------------------------------------------


def opened(bench: Bench) -> Bench:
    """Open the route's breaker with B and C; A and D are due and untried."""
    for key in (B, C, A, D):
        bench.put_due(key)
    bench.call(Outcome.API_FAULT)
    bench.call(Outcome.API_FAULT)
    (row,) = bench.rows("routes")
    assert row["breaker_open"]
    return bench


def test_an_open_breaker_lets_nothing_through_before_its_probe_is_due(bench: Bench):
    opened(bench)
    assert bench.claim() is None
    bench.clock.advance(bench.route.probe_interval)
    assert bench.claim() is not None


def test_one_probe_at_a_time_however_many_slots_there_are(bench: Bench):
    opened(bench)
    bench.clock.advance(3600)

    assert bench.claim(route=THREE_AT_ONCE) is not None
    bench.clock.advance(6)
    assert bench.claim(route=THREE_AT_ONCE) is None


def test_probes_rotate_over_all_due_keys_so_that_one_poisoned_key_cannot_hold_the_rest(bench: Bench):
    opened(bench)
    bench.clock.advance(3600)

    probed = []
    for _ in range(8):
        held = bench.claimed()
        probed.append(held.key)
        bench.settle(held, Outcome.API_FAULT, Decision(verdict=Verdict.RETRY, delay=0.0))
        bench.clock.advance(bench.route.probe_interval)

    assert sorted(probed[:4]) == sorted([A, B, C, D])
    assert probed[4:] == probed[:4]


def test_a_probe_that_succeeds_closes_the_breaker_for_all(bench: Bench):
    opened(bench)
    bench.clock.advance(3600)
    bench.call()

    assert [bench.claim(route=TWO_AT_ONCE) is not None for _ in range(3)] == [True, True, False]


def test_an_open_breaker_costs_no_attempt_and_parks_nothing(bench: Bench):
    opened(bench)
    before = {key: bench.job(key)["attempts"] for key in (A, B, C, D)}
    for _ in range(60):
        bench.clock.advance(bench.route.probe_interval)
        held = bench.claim()
        if held:
            bench.settle(held, Outcome.API_FAULT)

    assert {key: bench.job(key)["attempts"] for key in (A, B, C, D)} == before
    assert {bench.state(key) for key in (A, B, C, D)} <= {State.RETRYABLE, State.SCHEDULED}


def test_a_key_that_is_left_alone_behind_an_open_breaker_spends_its_attempts_and_parks(bench: Bench):
    opened(bench)
    for key in (B, C, D):
        job = bench.job(key)
        assert bench.do(discard, job["id"], state=State(job["state"]), last_seq=job["last_seq"])
    for _ in range(60):
        bench.clock.advance(3600)
        if held := bench.claim():
            assert held.key == A
            bench.settle(held, Outcome.API_FAULT)

    assert bench.state(A) is State.PARKED
    assert bench.job(A)["calls"] <= bench.route.retry.max_attempts + 2


def test_resuming_a_route_closes_its_breaker(bench: Bench):
    opened(bench)
    bench.pause(by="ops", reason="deploy")
    bench.resume()

    assert bench.claim() is not None
    assert not bench.rows("routes")[0]["breaker_open"]


# --- the fence -------------------------------------------------------------------------------------------------------


def test_the_fence_of_a_key_grows_with_every_claim(bench: Bench):
    bench.put_due(A)
    fences = []
    for _ in range(5):
        held = bench.claimed()
        fences.append(held.fence)
        bench.settle(held, Outcome.CONFLICT, Decision(verdict=Verdict.RETRY))

    assert fences == sorted(set(fences))
    assert [row["fence"] for row in bench.rows("attempts")] == fences


def test_the_fences_of_a_new_ledger_are_above_those_of_the_one_that_was_lost(bench: Bench):
    last = [claim_and_fail(bench) for _ in range(5)][-1]
    bench.do(lambda tx: [tx.connection.execute(table.delete()) for table in reversed(metadata.sorted_tables)])
    bench.clock.advance(1)

    assert claim_and_fail(bench) > last


def test_the_fences_of_a_restored_backup_are_above_those_given_after_it(bench: Bench):
    claim_and_fail(bench)
    (backup,) = bench.rows("routes")
    for _ in range(20):
        last = claim_and_fail(bench)
    bench.execute("UPDATE routes SET fence = :fence", fence=backup["fence"])
    bench.clock.advance(1)

    assert claim_and_fail(bench) > last


def test_the_fence_grows_while_the_clock_is_put_back(bench: Bench):
    fences = [claim_and_fail(bench)]
    bench.clock.step(-3600)
    fences += [claim_and_fail(bench) for _ in range(5)]
    bench.clock.step(7200)
    fences += [claim_and_fail(bench) for _ in range(5)]

    assert fences == sorted(set(fences))
    assert fences[-1] < 2**53, "JavaScript's numbers hold it"


def claim_and_fail(bench: Bench) -> int:
    """Return the fence of one call; its key is due again at once."""
    bench.put_due(A)
    bench.execute("UPDATE jobs SET due_at = 0")
    held = bench.claimed()
    bench.settle(held, Outcome.CONFLICT, Decision(verdict=Verdict.RETRY))
    return held.fence
