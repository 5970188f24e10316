"""What happened, as the sender, Redrive's ledger, the API and an observer of the ledger tell it. All times are monotonic seconds.

The clock that Redrive sees is moved by whole hours and a run is shorter than one: so each of its times says by its minutes when
it was, whatever the clock's steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.log import lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_HOUR = 3600_000


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message that was confirmed. `wiped`: SQS lost it, and Redrive had not asked to delete it before."""

    number: int
    identity: str
    poison: bool = False
    wiped: bool = False


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter. It was recorded at `recorded` or later; `number` is the sender's, None when there is none."""

    identity: str
    number: int | None
    recorded: float
    rejected: bool = False


@dataclass(frozen=True, kw_only=True)
class Need:
    identity: str
    key: str
    seq: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job's row. `key` is ROUTE/ID, as in the API's paths."""

    id: int
    key: str
    state: str
    covered_seq: int
    last_seq: int
    attempts: int = 0
    misses: int = 0
    crashes: int = 0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One call by Redrive's own log. `ended` is None while it is open; `covers_seq` is the last need that a success covers."""

    key: str
    fence: int
    covers_seq: int
    began: float
    ended: float | None
    outcome: str | None
    status: int | None = None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call by the API's log. `gone` is when the API saw that its client had left; None when it stayed to the end."""

    key: str
    fence: int
    began: float
    ended: float | None = None
    gone: float | None = None
    status: int | None = None

    @property
    def succeeded(self) -> bool:
        return self.ended is not None and self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, kw_only=True)
class Sample:
    """At this moment somebody who read the ledger saw the key covered so far."""

    at: float
    key: str
    covered_seq: int


@dataclass(frozen=True, kw_only=True)
class Act:
    """One command of an operator's, from its start to its end. `code` is its exit code, -1 when it was ended from outside.

    `arguments` are a route, or jobs; `results` are what it told of each job.
    """

    action: str
    arguments: tuple[str, ...]
    began: float
    ended: float
    code: int
    results: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One broken promise. `kind` is lost, overlaps, uncovered, bounds, fences, books or acts."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Span:
    """Some time, in which the API and the proxies stood still, or a worker's process was stopped."""

    since: float
    until: float


@dataclass(kw_only=True)
class History:
    """Everything that the checker reads. `sums` are those of `redrive audit`; `unsure` sends may have come in or not.

    `decisions` are the entries of Redrive's audit log: what was done, and to what. `stalls` are the API's own, `stops` those of
    processes that make calls. `settles_twice` where a commit's answer may be lost: the same settle is then made again.
    """

    sent: list[Sent] = field(default_factory=list)
    unsure: set[int] = field(default_factory=set)
    letters: list[Letter] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)
    acts: list[Act] = field(default_factory=list)
    decisions: list[tuple[str, str]] = field(default_factory=list)
    stalls: list[Span] = field(default_factory=list)
    stops: list[Span] = field(default_factory=list)
    settles_twice: bool = False


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One moment by both clocks: milliseconds since 1970 as nobody has moved them, and monotonic seconds."""

    wall: int
    monotonic: float

    def seconds(self, ledgers: int) -> float:
        """Return when it was by the monotonic clock that the ledger's said so: in the hour that begins with the epoch."""
        return self.monotonic + (ledgers - self.wall) % _HOUR / 1000


def read(folder: Path) -> History:
    """Read a run's logs and what its ledger held."""
    log = list(lines(folder / "run.jsonl"))
    began = next(event for event in log if event["event"] == "began")
    seen = list(lines(folder / "seen.jsonl"))
    after = {letter: each["after"] for each in seen if "letters" in each for letter in each["letters"]}
    history = read_rows(lines(folder / "rows.jsonl"), Epoch(wall=began["wall"], monotonic=began["at"]), after)
    history.sent, history.unsure = _sent(lines(folder / "sender.jsonl"), lines(folder / "sqs.jsonl"))
    history.calls = calls(lines(folder / "api.jsonl"))
    history.stalls = [
        Span(since=each["since"], until=each["at"]) for each in lines(folder / "api.jsonl") if each["event"] == "stalled"
    ]
    history.stops = list(_stops(log))
    history.settles_twice = began.get("ledger") == "postgresql"
    history.samples = [Sample(at=each["at"], key=each["key"], covered_seq=each["covered"]) for each in seen if "covered" in each]
    history.acts = [
        Act(
            action=each["action"],
            arguments=tuple(each["arguments"]),
            began=each["began"],
            ended=each["at"],
            code=each["code"],
            results=each["results"],
        )
        for each in lines(folder / "acts.jsonl")
    ]
    return history


def _stops(log: Iterable[dict[str, Any]]) -> Iterator[Span]:
    """Yield when a process of a worker's pool was stopped: until its worker was told to go on."""
    since: dict[str, float] = {}
    for event in log:
        if event["event"] != "step":
            continue
        if event["action"] == "stop_child":
            since[event["target"]] = event["at"]
        elif event["action"] == "go" and event["target"] in since:
            yield Span(since=since.pop(event["target"]), until=event["at"])
    for began in since.values():
        yield Span(since=began, until=float("inf"))


def _sent(sender: Iterable[dict[str, Any]], sqs: Iterable[dict[str, Any]]) -> tuple[list[Sent], set[int]]:
    deleted: dict[str, float] = {}
    for event in sqs:
        for identity in event["identities"]:
            deleted.setdefault(identity, event["at"])
    found: dict[str, Sent] = {}
    unsure: set[int] = set()
    for event in sender:
        if event["event"] == "confirmed":
            found[event["identity"]] = Sent(number=event["number"], identity=event["identity"], poison=event["poison"])
        elif event["event"] == "wiped":
            for identity in event["identities"]:
                is_redrives = deleted.get(identity, event["at"]) < event["at"]
                found[identity] = replace(found[identity], wiped=found[identity].wiped or not is_redrives)
        else:
            unsure.add(event["number"])
    return list(found.values()), unsure


def calls(log: Iterable[dict[str, Any]]) -> list[Call]:
    """Return the API's calls in the order in which they began."""
    found: dict[int, Call] = {}
    for event in log:
        if event["event"] == "stalled":
            continue
        number = event["call"]
        if event["event"] == "begin":
            found[number] = Call(key=event["key"], fence=event["fence"], began=event["at"])
        elif event["event"] == "gone":
            found[number] = replace(found[number], gone=event["at"])
        else:
            found[number] = replace(found[number], ended=event["at"], status=event["status"])
    return list(found.values())


def read_rows(rows: Iterable[dict[str, Any]], epoch: Epoch, after: Mapping[int, float]) -> History:
    """Read what a ledger held. `after` has the moments at which somebody looked, and letters were not there yet, by their ids."""
    history = History()
    identities: dict[int, str] = {}
    for row in rows:
        match row.pop("row"):
            case "sums":
                history.sums = row
            case "letter":
                letter, received = row.pop("id"), epoch.seconds(row.pop("received_at"))
                identities[letter] = row["identity"]
                history.letters.append(Letter(recorded=max(received, after.get(letter, received)), **row))
            case "job":
                history.jobs.append(Job(**row))
            case "need":
                history.needs.append(Need(identity=identities[row["letter"]], key=row["key"], seq=row["seq"]))
            case "attempt":
                ended = row.pop("ended_at")
                began = epoch.seconds(row.pop("began_at"))
                history.attempts.append(Attempt(began=began, ended=None if ended is None else epoch.seconds(ended), **row))
            case "decision":
                history.decisions.append((row["action"], row["subject"]))
    return history
