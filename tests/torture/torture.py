"""Torture Redrive for a while, then check that it kept its promises: `python tests/torture/torture.py --seed 7`.

The last line on stdout is one JSON object with the verdict. docs/background/torture.md has the rest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # the other tests' servers

from harness.checker import Verdict, check
from harness.history import read
from harness.machine import take_off
from harness.postgresql import why_not
from harness.run import Options, Run, say
from harness.settings import BOUNDS
from harness.timetable import LEDGERS

from tasks.devstack.processes import interruptible

#: Findings that are told in words.
_TOLD = 30


def main(arguments: list[str] | None = None) -> int:
    """Run, check, and tell. Returns the exit code: 0 when every promise was kept, else 1."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="the faults' timetable is a function of it")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="how long there are faults (default %(default)g)")
    parser.add_argument(
        "--calls", type=int, default=Options.calls, help="go on for a while until there were so many (default %(default)s)"
    )
    parser.add_argument("--keys", type=int, default=Options.keys, help="entities of each route (default %(default)s)")
    parser.add_argument("--rate", type=float, default=Options.rate, help="messages a second (default %(default)g)")
    parser.add_argument("--ledger", choices=LEDGERS, default=Options.ledger, help="where the ledger is (default %(default)s)")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="check what an earlier run has left, and run nothing")
    parser.add_argument("--keep", action="store_true", help="keep the folder, also when all is well")
    parser.add_argument("--pace", type=int, default=Options.pace, help="slow the timetable down (default: by the machine)")
    parser.add_argument(
        "--faults", metavar="NAMES", help="what the timetable may have, separated by commas; the proxies do theirs"
    )
    parser.add_argument("--sabotage", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    numbers = {name: getattr(given, name) for name in ("seed", "seconds", "calls", "keys", "rate", "pace")}
    faults = None if given.faults is None else tuple(given.faults.split(","))
    options = Options(**numbers, ledger=given.ledger, faults=faults, sabotage=given.sabotage)
    if given.ledger == "postgresql" and (why := why_not()):
        parser.error(f"--ledger postgresql: {why}")
    if given.check and not (given.check / "rows.jsonl").exists():
        parser.error(f"--check: {given.check} is no folder that a run has left")
    if given.check:
        return _tell(options, check(read(given.check), BOUNDS), rested=True, faults={})
    folder = Path(tempfile.mkdtemp(prefix=f"torture-{options.seed}-"))
    run = Run(options, folder, say)
    code = 1
    try:
        with interruptible():
            rested = run.carry_out()
            code = _tell(options, check(read(folder), BOUNDS, unread=run.unread), rested=rested, faults=run.faults)
    except KeyboardInterrupt:
        say("interrupted; all processes have ended")
    finally:
        _put_away(folder, keep=given.keep or code != 0)
    return code


def _tell(options: Options, verdict: Verdict, *, rested: bool, faults: dict[str, int]) -> int:
    for finding in verdict.findings[:_TOLD]:
        say(f"{finding.kind}: {finding.text}")
    outcome = "broken" if verdict.findings else "kept" if rested else "unfinished"
    result: dict[str, Any] = {"seed": options.seed, "ledger": options.ledger, "accepted": verdict.accepted}
    result |= {name: verdict.standings[name] for name in ("recovered", "parked", "discarded", "rejected", "pending")}
    result |= {kind: verdict.count(kind) for kind in ("lost", "overlaps", "uncovered", "bounds", "fences", "books", "acts")}
    result |= {name: getattr(verdict, name) for name in ("calls", "outlasted", "suspended", "blurred")}
    result |= {"injected": sum(faults.values()), "faults": faults}
    result["verdict"] = outcome
    sys.stdout.write(json.dumps(result, separators=(",", ":")) + "\n")
    return 0 if outcome == "kept" else 1


def _put_away(folder: Path, *, keep: bool) -> None:
    if keep:  # the ledger is on a disk that ends with this process
        kept = folder.with_name(f"{folder.name}-kept")
        shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("filler"))
        say(f"kept in {kept}")
    take_off(folder / "ledger")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
