"""`redrive intake`: drain every source, for as long as it runs or once."""

from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli.errors import Partly
from tasks.cli.output import Column, Json, Output
from tasks.dlq.errors import BrokerUnavailable, OutOfReach, RedriveError, Refused
from tasks.dlq.text import join_names

if TYPE_CHECKING:
    from tasks.runtime import Runtime


def intake(
    *,
    once: Annotated[bool, typer.Option("--once", metavar="", help="Drain what is there, and end.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show what would become of the records; keep and acknowledge nothing.")
    ] = False,
    source: Annotated[str | None, typer.Option(metavar="SOURCE", help="With --dry-run: look at this source only.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=10_000, help="With --dry-run: records of each source; 50.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Take in what the sources hold, until Ctrl-C or SIGTERM. What is not yet acknowledged comes again."""
    from tasks.adapters import logs
    from tasks.ledger_setup import prepare_state_directory
    from tasks.settings import settings

    out = Output(json=json)
    if dry_run:
        from tasks.cli import dry_run as looking

        looking.dry_run(out, source=source, limit=limit or looking.LIMIT)
        return
    if source is not None or limit is not None:
        raise Refused("--source and --limit are for --dry-run", hint="intake drains every source")
    prepare_state_directory(settings(), create=once)
    logs.configure(json=json or None, secrets=settings().secrets())
    runtime = _runtime()
    if not settings().sources:
        text = "there is no source; what is drained are the dead-letter queues of Redrive's own queues"
        out.warn(text, hint=f"add [sources.NAME] to {settings().source_file}")
    try:
        if once:
            _drain_once(out, runtime)
        elif not _follow(runtime):
            raise RedriveError("intake ended by a fault in Redrive", hint="the log has it; what was not acknowledged comes again")
    finally:
        runtime.close()


def _runtime() -> "Runtime":
    from tasks.celery import app
    from tasks.worker.delivery import runtime_of

    app.conf.broker_url  # noqa: B018 - read the configuration now: later there may be no memory or descriptor to load it with
    runtime = runtime_of(app)
    runtime.start_sentry()
    return runtime


def _follow(runtime: "Runtime") -> bool:
    from tasks.continuous_intake import follow_all
    from tasks.dlq.process import Role
    from tasks.worker.health import LoopHealth

    health = LoopHealth(runtime.settings, Role.INTAKE, sorted({source.name for source, _ in runtime.sources}))
    health.start()
    try:
        return follow_all(runtime, health.note_turn)
    finally:
        health.stop()


def _drain_once(out: Output, runtime: "Runtime") -> None:
    from tasks.continuous_intake import SHORT_POLL
    from tasks.dlq.ledger.dead_letters import Recorded
    from tasks.settings import settings

    runtime.ensure_ledger()
    if settings().broker.manage_queues:
        out.note("looks for the queues, and makes those that are missing")
    runtime.ensure_queues()
    names = list(dict.fromkeys(source.name for source, _ in runtime.sources))
    out.note(f"drains {join_names(names)}, until a poll of {SHORT_POLL:g} s each brings nothing")
    totals: dict[str, Recorded] = {}
    left: list[str] = []
    for source, reader in runtime.sources:
        try:
            taken = runtime.intake.drain(source, reader, seconds=float("inf"), wait=SHORT_POLL)
            totals[source.name] = totals.get(source.name, Recorded()) + taken
        except BrokerUnavailable as error:
            left.append(source.name)
            out.warn(f"source {source.name} was not drained: {error.message}", hint=error.hint, source=source.name)
    rows = [(name, each.accepted, each.known, each.rejected) for name, each in totals.items()]
    titles = ("source", "accepted", "known", "rejected")
    if out.json:
        for row in rows:
            out.record(dict(zip(titles, row, strict=True)))
    elif rows:
        out.table([Column("Source", fold=True), *(Column(title.capitalize(), right=True) for title in titles[1:])], rows)
    if left:
        raise (Partly if totals else OutOfReach)(f"not drained: {', '.join(left)}", hint="what is there stays there")
