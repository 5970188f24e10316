"""Checks the variables that hold secrets, and where alerts go."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tasks.dlq.errors import ConfigError, RedriveError
from tasks.dlq.process import STALE_AFTER, Role
from tasks.dlq.text import join_names
from tasks.doctor.findings import Finding, State, of_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tasks.settings import Settings


def check_secrets(settings: Settings) -> Iterator[Finding]:
    """Check the secrets that a worker and an intake need, and those for alerts."""
    reads: dict[Role, list[Callable[[], object]]] = {
        Role.WORKER: [settings.tokens],
        Role.INTAKE: [partial(settings.source_secrets, name) for name in settings.sources],
    }
    missing = {role: errors for role, functions in reads.items() if (errors := _collect_errors(functions))}
    if missing:
        yield judge_missing(missing, _find_running(settings))
    else:
        optional = {settings.alerts.notify_env, settings.alerts.sentry_dsn_env}
        names = sorted(set(settings.secret_variables) - optional)
        yield Finding(name="secrets", detail=f"set in this shell: {', '.join(names)}" if names else "none is needed")
    yield _check_sentry(settings)
    yield _check_notifications(settings)


def judge_missing(missing: Mapping[Role, Sequence[ConfigError]], running: Mapping[Role, Sequence[str]]) -> Finding:
    """Judge secrets that are missing in this shell. A process that runs had its own: it does not start without them."""
    problems = "; ".join(line for errors in missing.values() for error in errors for line in error.message.splitlines())
    if missing.keys() <= running.keys():
        names = join_names([f"{role} {name}" for role in missing for name in running[role]])
        detail = f"not in this shell: {problems}; the running {names} started with its own"
        hint = "nothing to do for processes that run; to check the values, set the variables in this shell"
        return Finding(name="secrets", state=State.WARNING, detail=detail, hint=hint)
    first = next(error for errors in missing.values() for error in errors)
    return Finding(name="secrets", state=State.WRONG, detail=problems, hint=first.hint)


def _collect_errors(reads: Sequence[Callable[[], object]]) -> list[ConfigError]:
    errors = []
    for read in reads:
        try:
            read()
        except ConfigError as error:
            errors.append(error)
    return errors


def _find_running(settings: Settings) -> dict[Role, list[str]]:
    """Return the processes with a fresh heartbeat in the ledger, by role; none if the ledger does not answer."""
    from tasks.dlq.ledger.processes import list_processes
    from tasks.ledger_setup import open_ledger

    running: dict[Role, list[str]] = {}
    try:
        with open_ledger(settings) as ledger, ledger.begin(read_only=True) as tx:
            for row in list_processes(tx):
                if row["silent"] <= STALE_AFTER:
                    running.setdefault(Role(row["role"]), []).append(f"{row['host']}:{row['main_pid']}")
    except RedriveError:
        return {}
    return {role: sorted(set(names)) for role, names in running.items()}


def _check_sentry(settings: Settings) -> Finding:
    try:
        dsn = settings.sentry_dsn()
    except ConfigError as error:
        return of_error("Sentry", error)
    return Finding(name="Sentry", detail="on" if dsn else f"off: {settings.alerts.sentry_dsn_env} is not set in this shell")


def _check_notifications(settings: Settings) -> Finding:
    """Check that Apprise takes the URLs. Sends nothing."""
    name, variable = "notifications", settings.alerts.notify_env
    try:
        urls = settings.notify_urls()
        if urls:
            from tasks.adapters.notify import apprise_sinks

            return Finding(name=name, detail=f"to {join_names([sink.name for sink in apprise_sinks(urls, origin=variable)])}")
        sentry = settings.sentry_dsn()
    except ConfigError as error:
        return of_error(name, error)
    detail = f"none: {variable} is not set in this shell; alerts go to {'Sentry and ' if sentry else ''}the log"
    if sentry:
        return Finding(name=name, detail=detail)
    hint = f"set {variable} where the workers run; docs/reference/alerts.md shows how"
    return Finding(name=name, state=State.WARNING, detail=detail, hint=hint)
