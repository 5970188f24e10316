# ruff: noqa: INP001, T201 - a script, and its figures are what it prints
"""How many messages a flood of jobs keeps in SQS, and how soon work goes on once they are lost, or after an hour without workers.

    python bench/wakeups.py [--jobs 10000] [--workers 2] [--ledger sqlite|postgresql]

Real Celery workers and beat with the default settings on an embedded SQS, a route with as many calls in flight as there are
workers, and an API that is slow (1 s) until all jobs are there. Then: the recovery queue is purged; all workers are stopped, the
queue is purged again, what beat sends in an hour is put into the maintenance queue, and the clock of the day goes an hour ahead
(libfaketime; Debian: apt-get install faketime); new workers start. Last, the API is quick, until all jobs are done. Prints one
JSON object; a sweep is 5 s, and the time after the hour counts from when the first worker said that it is ready.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rig import ROOT, CompanyApi, Rig, company_api_server, postgresql_server, rig

from beat_schedule import schedule
from tasks.devstack.sqs import EmbeddedSqs
from tasks.settings.sections import Sweeps

sys.path.append(str(ROOT / "tests" / "torture"))
from harness.machine import Clock

SWEEP = Sweeps().promote
AN_HOUR = 3600
WINDOW, SPARE = 100, 10


class Watch(threading.Thread):
    """Looks five times a second how many messages are out."""

    def __init__(self, made: Rig) -> None:
        super().__init__(daemon=True)
        self.made = made
        self.most = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.2):
            self.most = max(self.most, self.made.left("redrive-recovery"))


def first_call(api: CompanyApi, since: float, patience: float = 120.0) -> float:
    """Return the seconds from a moment to the first call that began after it."""
    while not (calls := [call.began for call in api.calls if call.began > since]):
        if time.monotonic() > since + patience:
            raise SystemExit("nobody calls any more")
        time.sleep(0.01)
    return min(calls) - since


def pile_up(made: Rig) -> int:
    """Put into the maintenance queue what beat sends in an hour, as nobody takes it; return how much."""
    sent = 0
    with made.producer() as producer:
        for entry in schedule(Sweeps()).values():
            for _ in range(int(AN_HOUR / entry["schedule"])):
                producer.send_task(entry["task"], queue="redrive-maintenance")
                sent += 1
    return sent


def measure(made: Rig, api: CompanyApi, clock: Clock, args: argparse.Namespace) -> dict[str, Any]:
    """Go through it all, and return the figures."""
    watch = Watch(made)
    api.takes = 1.0
    names = [f"w{number}" for number in range(args.workers)]
    made.start_workers(*names)
    made.start_beat()
    made.send_jobs(args.jobs)
    watch.start()

    made.purge("redrive-recovery")
    # The calls in hand go on, and their slices: what counts is the first that a new slice makes.
    slices = made.received()
    purged = time.monotonic()
    while made.received() == slices:
        time.sleep(0.05)
    after_purge = time.monotonic() - purged

    for name in names:
        made.processes[name].send_signal(signal.SIGTERM)
    for name in names:
        made.processes.pop(name).wait(60)
    made.purge("redrive-recovery", "redrive-maintenance")
    stale = pile_up(made)
    clock.move(1)
    began = time.monotonic()
    made.start_workers(*(f"{name}-again" for name in names), at_least_one=True)
    ready = time.monotonic()
    after_hour = max(first_call(api, began) - (ready - began), 0.0)

    api.takes, quick = 0.0, time.monotonic()
    while len(set(api.paths())) < args.jobs:
        if time.monotonic() > quick + 60 + args.jobs / 5:
            raise SystemExit(f"{len(set(api.paths()))} of {args.jobs} jobs were called; see the logs in {made.folder}")
        time.sleep(0.1)
    watch.over.set()
    watch.join()
    audit = made.wait_for_audit(recovered=args.jobs)
    return {
        "jobs": args.jobs,
        "calls": len(api.calls),
        "most_in_flight": api.most_in_flight,
        "most_out": watch.most,
        "allowed_out": WINDOW + SPARE,
        "received": made.received(),
        "sweeps_to_next_slice_after_purge": round(after_purge / SWEEP, 2),
        "stale_sweeps": stale,
        "sweeps_to_first_call_after_hour": round(after_hour / SWEEP, 2),
        "balanced": audit["balanced"],
        "lost": audit["lost"],
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, EmbeddedSqs() as sqs, company_api_server() as api:
            clock = Clock(Path(folder))
            if not clock.is_there:
                raise SystemExit("libfaketime is not installed (Debian: apt-get install faketime)")
            env = {**clock.env, "PYTHONPATH": str(ROOT / "tests" / "torture" / "child")}
            with rig(sqs, api, name="wakeups", ledger=args.ledger, max_in_flight=args.workers, env=env) as made:
                found = measure(made, api, clock, args)
    finally:
        postgresql_server.close_shared()
    print(json.dumps({"ledger": args.ledger, **found}, separators=(",", ":")))


if __name__ == "__main__":
    main()
