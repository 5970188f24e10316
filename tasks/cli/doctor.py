"""`redrive doctor`: checks everything that Redrive depends on, and says what to do."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli.options import Json
from tasks.cli.output import Column, Output
from tasks.dlq.errors import Refused
from tasks.dlq.process import STALE_AFTER, Role
from tasks.dlq.text import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tasks.dlq.calls.limits import Limits
    from tasks.doctor.findings import Finding
    from tasks.settings import Settings

#: Seconds for all checks: they run in parallel.
_TIME_LIMIT = 25.0
_ROLES = ", ".join(Role)


def doctor(
    *,
    ready: Annotated[
        Role | None, typer.Option(metavar="ROLE", help=f"Only: can this machine's process of this role work? ({_ROLES})")
    ] = None,
    live: Annotated[Role | None, typer.Option(metavar="ROLE", help="Only: does its main loop run?")] = None,
    within: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="With --ready and --live: how old a sign of life may be.")
    ] = STALE_AFTER,
    offline: Annotated[bool, typer.Option("--offline", metavar="", help="Do not connect to the hosts of the APIs.")] = False,
    json: Json = False,
) -> None:
    """Check everything that Redrive depends on.

    Exit code 1: something is wrong. 5: the ledger or SQS does not answer.
    """
    out = Output(json=json)
    if ready is not None and live is not None:
        raise Refused("--ready and --live are two questions", hint="ask one at a time")
    if ready is not None:
        from tasks.doctor.probes import check_readiness

        _probe(out, partial(check_readiness, role=ready, within=within))
    elif live is not None:
        from tasks.doctor.probes import check_liveness

        _probe(out, partial(check_liveness, role=live, within=within))
    else:
        _examine(out, offline=offline)


def _probe(out: Output, check: "Callable[[Settings], Finding]") -> None:
    """Print one finding on one line; end with 0 or 1."""
    from tasks.doctor.findings import State
    from tasks.settings import settings

    finding = check(settings())
    ok = finding.state is State.OK
    if out.json:
        out.record({"ok": ok} | _drop_empty(detail=finding.detail, hint=finding.hint))
    else:
        out.line(" → ".join(filter(None, [finding.detail, finding.hint])))
    raise typer.Exit(0 if ok else 1)


def _examine(out: Output, *, offline: bool) -> None:
    from tasks.adapters import logs
    from tasks.doctor.findings import State, examine, exit_code
    from tasks.settings import settings

    logs.configure("CRITICAL", secrets=settings().secrets())
    findings = examine(_list_checks(settings(), offline=offline), seconds=_TIME_LIMIT)
    code = exit_code(findings)
    if out.json:
        _record(out, findings, settings().limits, ok=not code)
    else:
        _print_findings(out, findings)
        out.line()
        _print_limits(out, settings().limits)
        out.line()
        ok, warnings, wrong = (sum(finding.state is state for finding in findings) for state in State)
        out.line(f"{ok} ok, {format_count(warnings, 'warning')}, {wrong} wrong")
    raise typer.Exit(code)


def _list_checks(settings: "Settings", *, offline: bool) -> "dict[str, Callable[[], Iterable[Finding]]]":
    """Return the checks, in the order in which their findings are printed."""
    from tasks.doctor.ledger import check_ledger
    from tasks.doctor.machine import check_machine
    from tasks.doctor.network import check_host, check_side_channel, hosts
    from tasks.doctor.queues import check_celery_queues
    from tasks.doctor.secrets import check_secrets
    from tasks.sources import check_source

    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "machine": partial(check_machine, settings),
        "secrets": partial(check_secrets, settings),
        "ledger": partial(check_ledger, settings),
        "queues": partial(check_celery_queues, settings),
    }
    for name in settings.sources:
        checks[f"source {name}"] = partial(check_source, settings, name)
    for (scheme, host, port), routes in ({} if offline else hosts(settings)).items():
        checks[f"API {host}:{port}"] = partial(check_host, scheme, host, port, routes, ca_bundle=settings.worker.ca_bundle)
    if settings.monitor.url:
        checks["side channel"] = partial(check_side_channel, settings.monitor.url)
    return checks


def _record(out: Output, findings: "Sequence[Finding]", limits: "Limits", *, ok: bool) -> None:
    checks = [
        _drop_empty(name=finding.name, state=finding.state, detail=finding.detail, hint=finding.hint) for finding in findings
    ]
    out.record({"ok": ok, "checks": checks, "limits": [asdict(limit) for limit in limits.explained()]})


def _drop_empty(**fields: str) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}


def _print_findings(out: Output, findings: "Sequence[Finding]") -> None:
    rows: list[tuple[str, str, str]] = []
    for finding in findings:
        rows.append((finding.state, finding.name, finding.detail))
        if finding.hint:
            rows.append(("", "", f"→ {finding.hint}"))
    out.table([Column("State"), Column("Check", fold=True), Column("Finding, and what to do", fold=True)], rows)


def _print_limits(out: Output, limits: "Limits") -> None:
    rows = [(limit.name, f"{limit.seconds:g} s", limit.formula, limit.meaning) for limit in limits.explained()]
    titles = ("Computed, in seconds", "Purpose")
    out.table([Column("Limit", fold=True), Column("", right=True), *(Column(title, fold=True) for title in titles)], rows)
