"""`redrive intake`: drain every source, for as long as it runs or once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from tasks.cli.output import Column, Json, Output
from tasks.dlq.errors import BrokerUnavailable, LedgerOutdated, OutOfReach

if TYPE_CHECKING:
    from tasks.runtime import Runtime

log = structlog.get_logger("redrive.intake")

_FAILED = 1
_PARTLY = 3
_OUT_OF_REACH = 5
#: Seconds that the batches in hand may take at the end: a commit that waits for SQLite's lock, and a deletion.
_GRACE = 30.0
#: A short poll of SQS asks some of its servers only, and may find nothing where there is something; a long one asks all.
_SHORTEST_LONG_POLL = 1.0
#: Seconds until what is missing at the start is tried again: doubled each time, up to the cap.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0


def intake(
    *,
    once: Annotated[bool, typer.Option("--once", help="Drain what is there, and end.")] = False,
    json: Json = False,
) -> None:
    """Take in what the sources hold, until Ctrl-C or SIGTERM. What is not yet acknowledged comes again."""
    from tasks.adapters import logs  # noqa: PLC0415 - slow to import
    from tasks.settings import settings  # noqa: PLC0415

    out = Output(json=json)
    logs.configure(json=json or None, secrets=settings().secrets())
    from tasks.celery import app  # noqa: PLC0415
    from tasks.delivery import runtime_of  # noqa: PLC0415

    runtime = runtime_of(app)
    runtime.start_sentry()
    if not settings().sources:
        out.warn(
            "no source is configured: only the dead-letter queues of Redrive's own queues are drained", hint="[sources.NAME]"
        )
    try:
        code = _drain_once(out, runtime) if once else _drain(runtime)
    finally:
        runtime.close()
    if code:
        raise typer.Exit(code)


def _drain_once(out: Output, runtime: "Runtime") -> int:
    from tasks.dlq.ledger.letters import Recorded  # noqa: PLC0415

    runtime.ensure_ledger()
    runtime.ensure_queues()
    totals: dict[str, Recorded] = {}
    failed = 0
    for source, reader in runtime.sources:
        try:
            taken = runtime.intake.drain(source, reader, seconds=float("inf"), wait=_SHORTEST_LONG_POLL)
            totals[source.name] = totals.get(source.name, Recorded()) + taken
        except BrokerUnavailable as error:
            failed += 1
            out.warn(f"source {source.name} was not drained: {error.message}", hint=error.hint, source=source.name)
    rows = [(name, each.accepted, each.known, each.rejected) for name, each in totals.items()]
    names = ("source", "accepted", "known", "rejected")
    if out.json:
        for row in rows:
            out.record(dict(zip(names, row, strict=True)))
    elif rows:
        out.table([Column("Source"), *(Column(name.capitalize(), right=True) for name in names[1:])], rows)
    if failed:
        return _PARTLY if totals else _OUT_OF_REACH
    return 0


def _drain(runtime: "Runtime") -> int:
    from tasks.cli.following import Follower, finish  # noqa: PLC0415 - slow to import

    def ledger_answers() -> None:
        with runtime.ledger.begin(read_only=True) as tx:
            tx.now()

    ended = threading.Event()
    with _ended_by_signal(ended):
        if not _prepared(runtime, ended):
            return 0
        followers = [
            Follower(
                runtime.intake,
                source,
                reader,
                ledger_answers=ledger_answers,
                seconds=runtime.settings.worker.slice,
                ended=ended,
            )
            for source, reader in runtime.sources
        ]
        for each in followers:
            each.start()
        log.info("drains", sources=sorted({source.name for source, _ in runtime.sources}))
        ended.wait()
        log.info("ends, when the batches in hand are written")
        if not finish(followers, grace=_GRACE):
            log.warning("ends without a batch in hand: it comes again")
    return _FAILED if any(each.crashed for each in followers) else 0


def _prepared(runtime: "Runtime", ended: threading.Event) -> bool:
    """Make what is missing, as often as it takes; False when the process is to end before. Raises LedgerOutdated."""
    pause = _FIRST_PAUSE
    while not ended.is_set():
        try:
            runtime.ensure_ledger()
            runtime.ensure_queues()
            _ = runtime.intake
        except LedgerOutdated:
            raise  # an older ledger is a person's decision
        except OutOfReach as error:
            log.warning("cannot begin yet", error=error.message, hint=error.hint, again_in=f"{pause:g}s")
            ended.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            return True
    return False


@contextmanager
def _ended_by_signal(ended: threading.Event) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM set `ended`; a second one ends the process at once."""

    def end(number: int, _frame: object) -> None:
        ended.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
