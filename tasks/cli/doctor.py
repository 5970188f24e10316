"""`redrive doctor`: whether everything that Redrive stands on is there, and what to do where it is not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli.options import Json  # noqa: TC001 - Typer reads it
from tasks.cli.output import Column, Output
from tasks.dlq.errors import Refused
from tasks.dlq.process import STALE_AFTER, Role
from tasks.dlq.text import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tasks.dlq.calls.limits import Limits
    from tasks.doctor.findings import Finding
    from tasks.settings import Settings

#: Seconds for everything: the checks run side by side.
_PATIENCE = 25.0

_ROLES = ", ".join(Role)


def doctor(
    *,
    ready: Annotated[
        Role | None, typer.Option(metavar="ROLE", help=f"Ask only whether this machine's process can work: {_ROLES}.")
    ] = None,
    live: Annotated[
        Role | None, typer.Option(metavar="ROLE", help="Ask only whether its main loop goes on, whatever the ledger does.")
    ] = None,
    within: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="With --ready and --live: how old a sign of life may be.")
    ] = STALE_AFTER,
    offline: Annotated[bool, typer.Option("--offline", metavar="", help="Leave out the APIs' hosts.")] = False,
    json: Json = False,
) -> None:
    """Look at everything that Redrive stands on. Exit code 1: something is wrong, 5: the ledger or SQS does not answer."""
    out = Output(json=json)
    if ready is not None and live is not None:
        raise Refused("--ready and --live are two questions", hint="ask one at a time")
    if role := ready or live:
        _answer(out, role, within=within, needs_ledger=ready is not None)
    else:
        _examine(out, offline=offline)


def _answer(out: Output, role: Role, *, within: float, needs_ledger: bool) -> None:
    from tasks.doctor import probes
    from tasks.doctor.findings import State
    from tasks.settings import settings

    finding = (probes.ready if needs_ledger else probes.live)(settings(), role, within=within)
    ok = finding.state is State.OK
    if out.json:
        out.record({"ok": ok} | _shown(detail=finding.detail, hint=finding.hint))
    else:
        out.line(" → ".join(filter(None, [finding.detail, finding.hint])))
    raise typer.Exit(0 if ok else 1)


def _examine(out: Output, *, offline: bool) -> None:
    from tasks.adapters import logs
    from tasks.doctor.findings import State, examine, exit_code
    from tasks.settings import settings

    logs.configure("CRITICAL", secrets=settings().secrets())
    findings = examine(_checks(settings(), offline=offline), seconds=_PATIENCE)
    code = exit_code(findings)
    if out.json:
        _record(out, findings, settings().limits, ok=not code)
    else:
        _show(out, findings)
        out.line()
        _show_limits(out, settings().limits)
        out.line()
        ok, warnings, wrong = (sum(each.state is state for each in findings) for state in State)
        out.line(f"{ok} ok, {format_count(warnings, 'warning')}, {wrong} wrong")
    raise typer.Exit(code)


def _checks(settings: Settings, *, offline: bool) -> dict[str, Callable[[], Iterable[Finding]]]:
    """Return the checks that run side by side, in the order in which they are shown."""
    from tasks.doctor.ledger import check_ledger
    from tasks.doctor.machine import check_machine
    from tasks.doctor.network import check_host, check_side_channel, hosts
    from tasks.doctor.queues import check_celery_queues
    from tasks.sources import check_source

    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "machine": partial(check_machine, settings),
        "ledger": partial(check_ledger, settings),
        "queues": partial(check_celery_queues, settings),
    }
    for name in settings.sources:
        checks[f"source {name}"] = partial(check_source, settings, name)
    asked = {} if offline else hosts(settings)
    for (scheme, host, port), routes in asked.items():
        checks[f"API {host}:{port}"] = partial(check_host, scheme, host, port, routes, ca_bundle=settings.worker.ca_bundle)
    if settings.monitor.url:
        checks["side channel"] = partial(check_side_channel, settings.monitor.url)
    return checks


def _record(out: Output, findings: Sequence[Finding], limits: Limits, *, ok: bool) -> None:
    checks = [_shown(name=each.name, state=each.state, detail=each.detail, hint=each.hint) for each in findings]
    explained = [
        {"name": each.name, "seconds": each.seconds, "formula": each.formula, "meaning": each.meaning}
        for each in limits.explained()
    ]
    out.record({"ok": ok, "checks": checks, "limits": explained})


def _shown(**fields: str) -> dict[str, str]:
    """Return the fields that are not empty."""
    return {name: value for name, value in fields.items() if value}


def _show(out: Output, findings: Sequence[Finding]) -> None:
    rows: list[tuple[str, str, str]] = []
    for each in findings:
        rows.append((each.state, each.name, each.detail))
        if each.hint:
            rows.append(("", "", f"→ {each.hint}"))
    out.table([Column("State"), Column("Check", fold=True), Column("What there is, and what to do", fold=True)], rows)


def _show_limits(out: Output, limits: Limits) -> None:
    rows = [(each.name, f"{each.seconds:g} s", each.formula, each.meaning) for each in limits.explained()]
    titles = ("Made of, in seconds", "So that")
    out.table([Column("Limit", fold=True), Column("", right=True), *(Column(title, fold=True) for title in titles)], rows)
