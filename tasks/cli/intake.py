"""`redrive intake`: drains every source, continuously or once."""

from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli.errors import Partly
from tasks.cli.options import Json
from tasks.cli.output import Column, Output
from tasks.dlq.errors import BrokerUnavailable, OutOfReach, RedriveError, Refused
from tasks.dlq.text import join_names

if TYPE_CHECKING:
    from tasks.dlq.ledger.dead_letters import Recorded
    from tasks.runtime import Runtime


def intake(
    *,
    once: Annotated[bool, typer.Option("--once", metavar="", help="Drain the sources once, then end.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", help="Show what would become of the records; keep and acknowledge nothing."),
    ] = False,
    source: Annotated[str | None, typer.Option(metavar="SOURCE", help="With --dry-run: only this source.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=10_000, help="With --dry-run: records of each source; 50.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Read all sources until Ctrl-C or SIGTERM. Records that are not acknowledged then are delivered again."""
    from tasks.adapters import logs
    from tasks.ledger_setup import prepare_state_directory
    from tasks.settings import settings

    out = Output(json=json)
    if dry_run:
        from tasks.cli import dry_run as preview

        preview.dry_run(out, source=source, limit=limit or preview.LIMIT)
        return
    if source is not None or limit is not None:
        raise Refused("--source and --limit are for --dry-run", hint="intake drains every source")
    prepare_state_directory(settings(), create=once)
    logs.configure(json=json or None, secrets=settings().secrets())
    runtime = _make_runtime()
    if not settings().sources:
        text = "no source is configured: only the dead-letter queues of Redrive's own queues are drained"
        out.warn(text, hint=f"add [sources.NAME] to {settings().source_file}")
    try:
        if once:
            _drain_once(out, runtime)
        elif not _follow(runtime):
            raise RedriveError(
                "intake ended by a fault in Redrive", hint="see its log; what was not acknowledged is delivered again"
            )
    finally:
        runtime.close()


def _make_runtime() -> "Runtime":
    from tasks.celery import app
    from tasks.worker.delivery import runtime_of

    app.conf.broker_url  # noqa: B018 - load the configuration now: later, memory or file descriptors may be missing
    runtime = runtime_of(app)
    runtime.start_sentry()
    return runtime


def _follow(runtime: "Runtime") -> bool:
    from tasks.continuous_intake import drain_continuously
    from tasks.dlq.process import Role
    from tasks.worker.health import LoopHealth

    health = LoopHealth(runtime.settings, Role.INTAKE, sorted({source.name for source, _ in runtime.sources}))
    health.start()
    try:
        return drain_continuously(runtime, health.note_turn)
    finally:
        health.stop()


def _drain_once(out: Output, runtime: "Runtime") -> None:
    from tasks.continuous_intake import SHORT_POLL
    from tasks.dlq.ledger.dead_letters import Recorded
    from tasks.settings import settings

    runtime.ensure_ledger()
    if settings().broker.manage_queues:
        out.note("checking the queues, and creating those that are missing")
    runtime.ensure_queues()
    names = list(dict.fromkeys(source.name for source, _ in runtime.sources))
    out.note(f"draining {join_names(names)}, until a poll of {SHORT_POLL:g} s returns nothing")
    totals: dict[str, Recorded] = {}
    failed: list[str] = []
    for source, reader in runtime.sources:
        try:
            recorded = runtime.intake.drain(source, reader, seconds=float("inf"), wait=SHORT_POLL)
            totals[source.name] = totals.get(source.name, Recorded()) + recorded
        except BrokerUnavailable as error:
            failed.append(source.name)
            out.warn(f"source {source.name} was not drained: {error.message}", hint=error.hint, source=source.name)
    _print_totals(out, totals)
    if failed:
        text, hint = f"not drained: {', '.join(failed)}", "what they hold stays there"
        if totals:
            raise Partly(text, hint=hint)
        raise OutOfReach(text, hint=hint)


def _print_totals(out: Output, totals: "dict[str, Recorded]") -> None:
    rows = [(name, total.accepted, total.known, total.rejected) for name, total in totals.items()]
    titles = ("source", "accepted", "known", "rejected")
    if out.json:
        for row in rows:
            out.record(dict(zip(titles, row, strict=True)))
    elif rows:
        out.table([Column("Source", fold=True), *(Column(title.capitalize(), right=True) for title in titles[1:])], rows)
