"""The words of alerts: what happened, how many, since when, where to look, which command to run. No job's own data is in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def clock_time(milliseconds: int) -> str:
    """Return a time of the ledger for people, as `2026-01-31 23:59 UTC`."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, tz=UTC):%Y-%m-%d %H:%M UTC}"


def in_words(count: int, noun: str) -> str:
    """Return the count with its noun: "1 job", "2 jobs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def cause(facts: Mapping[str, Any]) -> str:
    """Return why the calls of a failure group fail: "HTTP 404 (hopeless)", "deadline"."""
    outcome = str(facts.get("outcome") or "unknown").replace("_", " ")
    return f"HTTP {facts['status']} ({outcome})" if facts.get("status") else outcome


def group_text(route: str, count: int, facts: Mapping[str, Any]) -> str:
    """Say that jobs of one failure group are parked."""
    verb = "is" if count == 1 else "are"
    return (
        f"{in_words(count, 'job')} of route {route} {verb} parked since {facts['since']}: {cause(facts)}. "
        f"Nothing is lost; a parked job waits for you or for a new failure of the same entity.\n"
        f"Look: redrive show {facts['first_job']}\n"
        f"All: redrive jobs --state parked --route {route}"
    )


def more_groups_text(route: str, groups: int) -> str:
    """Say that there are too many failure groups to tell of each."""
    return (
        f"Jobs of route {route} are parked in {in_words(groups, 'more failure group')} than are told one by one.\n"
        f"Look: redrive jobs --state parked --route {route}"
    )


def burst_text(route: str, count: int, within: float) -> str:
    """Say that calls fail too often."""
    return (
        f"{in_words(count, 'call')} of route {route} failed within {within:g} seconds. "
        f"They are called again as the route's retry policy says; you will hear when it is over.\n"
        f"Look: redrive jobs --state retryable --route {route}"
    )


def paused_text(route: str, since: str) -> str:
    """Say that the API refuses the route's credentials."""
    return (
        f"The API refuses the credentials of route {route} (401 or 403), so the route paused itself at {since}. "
        f"No job is parked for it: they all wait.\n"
        f"Mend the route's token, then run: redrive resume {route}"
    )


def breaker_text(route: str) -> str:
    """Say that the API seems to be down."""
    return (
        f"Calls of route {route} fail one after the other, for the API's fault. So one call at a time probes it; that spends no "
        f"attempt and parks nothing, and all goes on by itself when the API answers.\n"
        f"Look: redrive stats"
    )


def over_words(kind: str, route: str, facts: Mapping[str, Any], began_at: int) -> tuple[str, str]:
    """Return title and text for an alert that is over."""
    if kind == "route_paused":
        what = "the route is resumed"
    elif kind == "breaker_open":
        what = "the API answers again"
    elif kind == "burst":
        what = "calls no longer fail in a burst"
    elif "groups" in facts:
        what = "no more failure groups than are told one by one"
    else:
        what = f"no job is parked any more for {cause(facts)}"
    return f"{route}: over: {what}", f"Route {route}: {what}. It began {clock_time(began_at)}."
