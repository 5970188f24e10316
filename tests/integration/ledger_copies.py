"""Ledgers exported and imported again: what the tests of a whole ledger's file stand on."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from ledger_bench import COMPANIES, A, B, Bench, C, a_database, a_letter

from tasks.dlq.alerts.kinds import FailureBurst, alert_kinds
from tasks.dlq.alerts.state import update_alerts
from tasks.dlq.archive import file_format
from tasks.dlq.archive.loader import load
from tasks.dlq.archive.writer import read_header, write_rows
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.ledger import repairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger import Ledger

HOUR = 3600.0
_numbers = count(1)


def history(bench: Bench) -> None:
    """Let all of the ledger's acts happen, so that every table has rows and most columns have values."""
    hostile = json.dumps({"topic": "\ud800\0", "offset": 1 << 64, "é": "\u2028"})
    bench.put(a_letter(A, B, body=b"\0\xff\xfe\n\r" * 1000, origin=json.loads(hostile)), delay=0.0)
    bench.put(a_letter(C, identity="é\u2028\U0001f600", stream="employees-dlt/0", offset=(1 << 63) - 1), delay=0.0)
    bench.put(a_letter(A, source="dlt", body=b"x" * (1 << 20)), a_letter(body=b"", source="dlt"), a_letter(body=b"\xff"))
    bench.call(Outcome.CONFLICT, detail="HTTP 409 \N{SNOWMAN}")
    bench.call(Outcome.SUCCESS)
    bench.call(Outcome.HOPELESS)
    bench.clock.advance(100)
    bench.call(Outcome.NETWORK, unknown=True)
    bench.clock.advance(100)
    bench.call(Outcome.SUCCESS)
    (rejected, *_) = bench.do(repairs.find_next_batch, repairs.Selection(), after=0)
    mended = a_letter(B, identity=rejected.record.identity)
    bench.do(
        repairs.repair,
        {rejected.id: mended},
        delays={"employees": 0.0},
        actor="ops",
        reason="\U0001f600",
        body=b'{"employeeId": 2}',
    )
    update_alerts(bench.ledger, alert_kinds(FailureBurst(failures=1, within=HOUR)))
    bench.pause(route=COMPANIES, by="ops", reason="deploy")
    bench.hold_until(bench.clock.now - 1, route=COMPANIES)
    bench.claimed()


def exported(ledger: Ledger, write: Callable[[bytes], object] | None = None) -> bytes:
    """Return the file of a ledger; `write` sees each line when it is written."""
    file = io.BytesIO()

    def take(line: bytes) -> None:
        file.write(line)
        if write:
            write(line)

    with ledger.begin(read_only=True) as tx:
        write_rows(tx, read_header(tx, revision="head", redrive="0.1.0"), take, lambda _: None).end()
    return file.getvalue()


def import_into(ledger: Ledger, file: bytes, *, configured: Mapping[str, Route] | None = None) -> None:
    """Import a file, as the command does."""
    with ledger.begin() as tx:
        load(tx, file_format.Reader(io.BytesIO(file)), lambda _: None, configured=configured or {})


def rows_of(file: bytes) -> list[Any]:
    """Return all that a file says but when it was written, in an order that no database's collation decides."""
    first, *rows, last = [json.loads(line) for line in file.splitlines()]
    return [first["last_ids"], last["rows"], *sorted(rows, key=json.dumps)]


class Fresh:
    """Makes benches on fresh databases."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def __call__(self, kind: str) -> Bench:
        """Return a bench on an empty ledger with its tables."""
        folder = self._folder / f"fresh{next(_numbers)}"
        folder.mkdir()
        made = Bench(self._stack.enter_context(a_database(kind, folder)))
        self._stack.callback(made.close)
        return made


@contextmanager
def fresh_ledgers(folder: Path) -> Iterator[Fresh]:
    """Yield a `Fresh`; its databases are gone afterwards."""
    with ExitStack() as stack:
        yield Fresh(folder, stack)
