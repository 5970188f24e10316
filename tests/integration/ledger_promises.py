"""The promises of the ledger, checked against what the model of the world knows. Each failure is a `Violated`."""

from collections import Counter
from typing import Any

from ledger_world import POLICY, demand

from tasks.dlq.calls.retry import MAX_CRASHES
from tasks.dlq.ledger import Transaction, audit

_LETTERS = """
SELECT d.source, d.identity, d.reject_reason, j.key, j.state, n.seq <= j.covered_seq AS covered
FROM dead_letters d LEFT JOIN needs n ON n.dead_letter_id = d.id LEFT JOIN jobs j ON j.id = n.job_id
"""
_WORST = ["recovered", "discarded", "parked", "pending", "rejected"]


def check(tx: Transaction, world: Any) -> None:
    """Compare the ledger's word with what the `world` (a LedgerMachine) knows. Raises Violated."""
    rows = letters_of(tx)
    _coverage(world, rows)
    _budgets(world, tx)
    _sums(world, audit.audit(tx), standings(rows))


def letters_of(tx: Transaction) -> list[Any]:
    """Return each letter, once for each of its needs."""
    return list(tx.connection.exec_driver_sql(_LETTERS))


def standings(rows: list[Any]) -> dict[tuple[str, str], str]:
    """Return what has become of each letter, reckoned need by need."""
    found: dict[tuple[str, str], str] = {}
    for row in rows:
        open_need = row.state if row.state in {"discarded", "parked"} else "pending"
        now = "rejected" if row.reject_reason else "recovered" if row.covered else open_need
        place = (row.source, row.identity)
        found[place] = max(found.get(place, now), now, key=_WORST.index)
    return found


def _coverage(world: Any, rows: list[Any]) -> None:
    """Compare each need's standing in the ledger with the calls that the API saw."""
    known = {(each.source, each.identity): each for each in world.sent if each.accepted}
    for row in rows:
        if row.key is None:
            continue
        recorded = known[row.source, row.identity].accepted
        successes = [call for call in world.api.calls if call.key == row.key and call.succeeded]
        proof = any(call.began > recorded for call in successes)
        demand(proof or not row.covered, "covered means covered", f"no success of {row.key} began after {row.identity} came")
        told = any(call.claimed > recorded and call.written_down for call in successes)
        demand(row.covered or not told, "covered means covered", f"{row.identity} needs {row.key}: its success was written down")
        demand(row.covered or row.state != "completed", "nothing lost", f"{row.key} is completed without {row.identity}")
        tried = world.claims.get(row.key, 0) > recorded
        demand(tried or row.covered or row.state != "parked", "nothing lost", f"{row.key} parked untried for {row.identity}")


def _budgets(world: Any, tx: Transaction) -> None:
    called = Counter(call.key for call in world.api.calls)
    for job in tx.connection.exec_driver_sql("SELECT key, attempts, misses, crashes FROM jobs"):
        demand(job.attempts <= POLICY.max_attempts, "bounded", f"{job.attempts} attempts are spent")
        demand(job.attempts <= called[job.key], "bounded", f"{job.attempts} attempts are spent on {called[job.key]} calls")
        demand(job.misses <= POLICY.max_misses, "bounded", f"{job.misses} misses")
        demand(job.crashes <= MAX_CRASHES, "bounded", f"{job.crashes} crashes")


def _sums(world: Any, found: audit.Audit, here: dict[tuple[str, str], str]) -> None:
    sums = Counter(world.pruned)
    for (source, _), name in here.items():
        sums[source, name] += 1
    for source in ("queue", "celery"):
        accepted = sum(1 for each in world.sent if each.accepted and each.source == source)
        says = found.sources.get(source, audit.Sums())
        demand(says.accepted == accepted, "nothing lost", f"{accepted} came in from {source}, the ledger counts {says.accepted}")
        demand(says.balanced, "nothing lost", says)
        for name in audit.STANDINGS:
            demand(getattr(says, name) == sums[source, name], "nothing lost", f"{name}: {says}, the rows say {sums}")
