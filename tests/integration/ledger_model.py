"""A model of the world around the ledger, in plain Python: it knows what the sources sent and what the API saw.

`LedgerMachine` lets sources, workers, sweeps and people act in any order on a real ledger, by the services' own code, one
transaction a step, with time standing still in between. After each step it compares the ledger's word with what it knows:

1. nothing lost: accepted = recovered + pending + parked + discarded + rejected, with accepted counted by the model;
2. single flight: never two calls open for one key, nor more than the route allows, as the API sees it;
3. covered means covered: a need is recovered exactly when a success that began after it was recorded was written down.

`run` and `wander` run it and raise the first `Violated`. The acts are in ledger_acts and ledger_workers, the checks in
ledger_promises, what the model knows in ledger_world; test_model_mutations shows what it is worth.
"""

import random
import sys
from collections.abc import Iterator
from typing import Any

from doubles.manual_clock import ManualClock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from ledger_acts import World
from ledger_bench import count_unsettled
from ledger_promises import check
from ledger_workers import Workers
from ledger_world import (
    ANSWERS,
    KEEP,
    NEXT,
    NUMBERS,
    RETENTION,
    Violated,
    demand,
)
from sqlalchemy import delete, select

from tasks.dlq.ledger import Ledger, audit
from tasks.dlq.ledger.schema import dead_letters, metadata

SETTINGS = settings(
    max_examples=300,
    stateful_step_count=40,
    derandomize=True,  # the same examples on every machine
    database=None,
    deadline=None,
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

_EITHER = [0, 1]
#: What may happen, how often in comparison, and what it is chosen from: methods of LedgerMachine.
ACTS: dict[str, tuple[int, dict[str, list[Any]]]] = {
    "read": (
        4,
        {
            "about": [[[1]], [[2]], [[1], [1]], [[1, 2]], [[3], [1]], [[2, 3], [1]]],
            "what": ["messages", "messages", "hostile", "rejected", "submission", "again", "again"],
            "at_once": [True, True, False],
        },
    ),
    "write": (2, {"number": _EITHER, "dies": [False, False, True]}),
    "work": (
        12,
        {
            "number": _EITHER,
            "until": ["claimed", "calling", "ended", "idle"],
            "dawdles": [0.0, 0.0, 0.0, 30.0],
            "answer": ["success"] * 6 + list(ANSWERS),
            "refuses": [False] * 5 + [True],
            "lag": [0.0, 0.0, 4.0],
            "go_on": [False, False, True],
        },
    ),
    "worker_dies": (2, {"number": _EITHER}),
    "wait": (6, {"seconds": [NEXT, NEXT, NEXT, NEXT, 0.5, 16.0], "sweep": [False, True]}),
    "lease_ends": (3, {}),
    "prune": (1, {"after": [10.0, 10.0, RETENTION, KEEP + 1]}),
    "person": (2, {"number": list(NUMBERS), "act": ["look", "look", "look", "discard", "discard", "replay", "replay", "pause"]}),
    "resume": (2, {}),
}
LIMITS, DRAINS = [1, 2], [2.0, 40.0]


class LedgerMachine(Workers, World, RuleBasedStateMachine):
    """Any order of acts. Subclassed by `run`, which gives it a ledger."""

    @initialize(limit=st.sampled_from(LIMITS), drain=st.sampled_from(DRAINS))
    def begin(self, limit: int, drain: float) -> None:
        self.open(limit, drain)

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        """Do one of ACTS. One rule for all: of many, Hypothesis leaves some out of each run, and a call takes five in a row."""
        name = data.draw(st.sampled_from([name for name, (weight, _) in ACTS.items() for _ in range(weight)]), "act")
        getattr(self, name)(**{what: data.draw(st.sampled_from(choices), what) for what, choices in ACTS[name][1].items()})

    @invariant()
    def guarantees_hold(self) -> None:
        with self.ledger.begin(read_only=True) as tx:
            changes = tx.connection.connection.driver_connection.total_changes  # type: ignore[union-attr]
            if changes == self.checked:
                return
            self.checked = changes
            check(tx, self)

    def teardown(self) -> None:
        """Drive the system to rest: every need must come to recovered, parked or discarded. Then let the audit find a loss."""
        if sys.exc_info()[0] is None and hasattr(self, "recovery"):
            self._come_to_rest()
            self.guarantees_hold()
            self._audit_finds_a_loss()

    def _come_to_rest(self) -> None:
        for place in list(self.reading):
            self._write(place)
        for number in (0, 1):
            self._kill(number)
        self.resume()
        for _ in range(200):
            self._rescue()
            self.work(0, until="idle", answer="success")
            if self._is_at_rest():
                return
            self.pass_time(self._until_next() / 1000)
        raise Violated("healing: work is left that never comes to rest")

    def _is_at_rest(self) -> bool:
        with self.ledger.begin(read_only=True) as tx:
            left = count_unsettled(tx)
            demand(left > 0 or audit.audit(tx).pending == 0, "healing", "a need is pending, and no job will ever call for it")
            return left == 0

    def _audit_finds_a_loss(self) -> None:
        """Take one letter away behind the ledger's back: accepted is counted apart from the rows, so the audit must miss it."""
        with self.ledger.begin() as tx:
            victim = tx.connection.scalar(select(dead_letters.c.id).limit(1))
            if victim is not None:
                tx.connection.execute(delete(dead_letters).where(dead_letters.c.id == victim))
                demand(audit.audit(tx).lost == 1, "nothing lost", "a letter was taken away, and the audit does not miss it")
            tx.connection.rollback()


def run(ledger: Ledger, *, examples: int) -> None:
    """Let Hypothesis run the machine on an empty ledger in memory. Raises Violated, with the fewest acts it found as notes."""
    machine = type("LedgerMachine", (LedgerMachine,), {"ledger": ledger})
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=examples))


def wander(ledger: Ledger, *acts: str, walks: int, steps: int = 30) -> None:
    """Run the machine on fixed seeds, with those acts alone: quicker than Hypothesis where there is something to be found."""
    machine = type("LedgerMachine", (LedgerMachine,), {"ledger": ledger})
    for seed in range(walks):
        choose = random.Random(seed).choice
        walk = machine()
        walk.begin(limit=choose(LIMITS), drain=choose(DRAINS))
        for _ in range(steps):
            name = choose(acts)
            getattr(walk, name)(**{what: choose(choices) for what, choices in ACTS[name][1].items()})
            walk.guarantees_hold()
        walk.teardown()


def in_memory() -> Iterator[Ledger]:
    """Yield a ledger for `run`, and close it: the body of a fixture."""
    ledger = Ledger("sqlite://", clock=ManualClock())
    metadata.create_all(ledger.engine)
    yield ledger
    ledger.close()
