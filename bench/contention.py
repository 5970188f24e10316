# ruff: noqa: INP001, T201 - a script, and its figures are what it prints
"""What it costs that many workers stand in line for one slot: the pace of eight workers against that of one.

    python bench/contention.py [--ledger sqlite|postgresql] [--workers 8] [--turns 10] [--seconds 6] [--takes 0.03]

Two stacks of real Celery workers with beat and the default settings, each with a ledger and queues of its own: one worker here,
eight there. Both have one route with `max_in_flight = 1` and an API that takes 30 ms a call, so that the slot is the limit. They
take turns of some seconds: while one works, the other's call is held by its API. So whatever else the machine has to do disturbs
both alike. Prints one JSON object: the medians of the calls per second of both, the median ratio of a turn to the one before it,
and how many wake-ups were sent per 1,000 calls, retries and sweeps included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import ExitStack

from rig import CompanyApi, Rig, company_api_server, postgresql_server, rig

from tasks.devstack.sqs import EmbeddedSqs

#: What a turn may take at the most, in calls per second, is what decides how many jobs there have to be.
FASTEST = 45


def turn(api: CompanyApi, seconds: float) -> float:
    """Let the API answer for so long; return its calls per second."""
    ended = len(api.answered(200))
    api.gate.set()
    time.sleep(seconds)
    api.gate.clear()
    calls = len(api.answered(200)) - ended
    time.sleep(2 * api.takes)  # the call in hand
    return calls / seconds


def wakeups(made: Rig) -> int:
    """Count the wake-ups that were sent so far."""
    return made.received() + made.left("redrive-recovery")


def compare(sqs: EmbeddedSqs, args: argparse.Namespace) -> dict[str, float]:
    """Return the figures."""
    paces: list[tuple[float, float]] = []
    with ExitStack() as stack:
        made = []
        for workers in (1, args.workers):
            api = stack.enter_context(company_api_server())
            api.takes = args.takes
            api.gate.clear()
            one = stack.enter_context(rig(sqs, api, name=f"of-{workers}", ledger=args.ledger))
            one.start_workers(*(f"w{number}" for number in range(workers)))
            one.start_beat()
            one.send_jobs(round(args.turns * args.seconds * FASTEST))
            made.append((one, api))
        for _, api in made:
            turn(api, 1.0)  # to warm up, and to answer the first window of wake-ups
        before = [(wakeups(one), len(api.answered(200))) for one, api in made]
        for number in range(args.turns):
            few, many = (turn(api, args.seconds) for _, api in made)
            paces.append((few, many))
            print(f"turn {number + 1}: {few:.1f} and {many:.1f} calls/s", file=sys.stderr)
        after = [(wakeups(one), len(api.answered(200))) for one, api in made]
        assert {api.most_in_flight for _, api in made} == {1}  # noqa: S101
    rates = [(sent - earlier) * 1000 / (calls - then) for (sent, calls), (earlier, then) in zip(after, before, strict=True)]
    return {
        "one_per_second": round(statistics.median(few for few, _ in paces), 2),
        "many_per_second": round(statistics.median(many for _, many in paces), 2),
        "ratio": round(statistics.median(many / few for few, many in paces), 3),
        "one_wakeups_per_1000": round(rates[0], 1),
        "many_wakeups_per_1000": round(rates[1], 1),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long a turn lasts")
    parser.add_argument("--takes", type=float, default=0.03, help="seconds that the API takes for a call")
    args = parser.parse_args()
    try:
        with EmbeddedSqs() as sqs:
            found = compare(sqs, args)
    finally:
        postgresql_server.close_shared()
    print(json.dumps({"ledger": args.ledger, "workers": args.workers, "turns": args.turns, **found}, separators=(",", ":")))


if __name__ == "__main__":
    main()
