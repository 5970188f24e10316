# ruff: noqa: INP001, T201 - a script, and its figures are what it prints
"""How fast a whole ledger is exported and imported, and what that takes of memory.

    python bench/whole_ledger.py [--letters 100000]

Fills a SQLite ledger with a tenth of the letters, and another one with all of them, each of 1 KiB and with a job of its own; then
`redrive export` and `redrive import` run as processes. Prints one JSON object a run, and one that compares them: rows per second
of the process, its start included, its seconds of CPU, and the most memory that it ever held (MiB, from the kernel).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tasks.dlq.dead_letter import DeadLetter  # noqa: E402
from tasks.dlq.key import make_key  # noqa: E402
from tasks.dlq.ledger import Ledger, migrations  # noqa: E402
from tasks.dlq.ledger.dead_letters import record_dead_letters  # noqa: E402

CONFIG = """
[broker]
url = "sqs://local:only-here@127.0.0.1:1"
[routes.employees]
url = "http://127.0.0.1:1/employees/{employeeId}"
params.employeeId = "positive-int"
"""
BATCH = 1000


def fill(folder: Path, letters: int) -> None:
    """Make a folder with a ledger of so many letters."""
    folder.mkdir()
    (folder / "redrive.toml").write_text(CONFIG)
    ledger = Ledger(f"sqlite:///{folder}/.redrive/ledger.db")
    migrations.upgrade(ledger)
    for first in range(1, letters, BATCH):
        with ledger.begin() as tx:
            batch = [
                DeadLetter(
                    source="bench",
                    identity=f"m-{number}",
                    body=b"x" * 1024,
                    route="employees",
                    keys=[make_key({"employeeId": str(number)})],
                )
                for number in range(first, min(first + BATCH, letters + 1))
            ]
            record_dead_letters(tx, batch, delays={"employees": 30.0})
    ledger.close()


def run(folder: Path, *arguments: str) -> dict[str, object]:
    """Run a command; return its rows per second and its memory."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    command = [sys.executable, "-m", "tasks.cli", *arguments, "--json"]
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE)  # noqa: S603 - our own command
    told = json.loads(process.stdout.read())  # type: ignore[union-attr]
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    rows = sum(told["rows"].values())
    figures = {"command": arguments[0], "rows": rows, "seconds": round(seconds, 1), "per_second": round(rows / seconds)}
    return figures | {"cpu": round(used.ru_utime + used.ru_stime, 1), "mib": used.ru_maxrss >> 10, "status": status}


def main() -> None:
    """Measure both sizes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--letters", type=int, default=100_000)
    letters = parser.parse_args().letters
    most: dict[str, list[int]] = {"export": [], "import": []}
    with tempfile.TemporaryDirectory() as scratch:
        for size in (letters // 10, letters):
            full, empty = Path(scratch, f"full-{size}"), Path(scratch, f"empty-{size}")
            fill(full, size)
            empty.mkdir()
            (empty / "redrive.toml").write_text(CONFIG)
            file = str(empty / "ledger.jsonl")
            for folder, command in ((full, "export"), (empty, "import")):
                figures = run(folder, command, file)
                most[command].append(int(str(figures["mib"])))
                print(json.dumps({"letters": size, **figures}), flush=True)
    print(json.dumps({f"{command}_memory_ratio": round(many / few, 2) for command, (few, many) in most.items()}))


if __name__ == "__main__":
    main()
