"""What happened, as the sender, Redrive's ledger, the API and an observer of the ledger tell it. All times are monotonic seconds.

The clock that Redrive sees is moved by whole hours and a run is shorter than one: so each of its times says by its minutes when
it was, whatever the clock's steps.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torture_log import lines

from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.audit import audit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_HOUR = 3600_000
#: A sender's own number, in a body of any kind.
_NUMBER = re.compile(rb'"?n"?[:=] ?(\d+)')


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message that SQS confirmed. `wiped`: SQS lost it, and Redrive had not asked to delete it before."""

    number: int
    identity: str
    poison: bool = False
    wiped: bool = False


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter. `recorded` is when its transaction ran; `number` the sender's, None when the body has none."""

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

    key: str
    state: str
    covered_seq: int
    last_seq: int
    attempts: int = 0
    misses: int = 0
    crashes: int = 0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One call by Redrive's own log. `ended` is None while it is open."""

    key: str
    fence: int
    began: float
    ended: float | None
    outcome: str | None


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


@dataclass(kw_only=True)
class History:
    """Everything that the checker reads. `sums` are those of `redrive audit`; `unsure` sends may have come in or not."""

    sent: list[Sent] = field(default_factory=list)
    unsure: set[int] = field(default_factory=set)
    letters: list[Letter] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One moment by both clocks: milliseconds since 1970 as nobody has moved them, and monotonic seconds."""

    wall: int
    monotonic: float

    def seconds(self, ledgers: int) -> float:
        """Return when it was by the monotonic clock that the ledger's said so: in the hour that begins with the epoch."""
        return self.monotonic + (ledgers - self.wall) % _HOUR / 1000


def read(folder: Path) -> History:
    """Read a run's logs and its ledger."""
    began = next(event for event in lines(folder / "run.jsonl") if event["event"] == "began")
    epoch = Epoch(wall=began["wall"], monotonic=began["at"])
    history = read_ledger(folder / "ledger" / "ledger.db", epoch)
    history.sent, history.unsure = _sent(lines(folder / "sender.jsonl"), lines(folder / "sqs.jsonl"))
    history.calls = calls(lines(folder / "api.jsonl"))
    history.samples = [
        Sample(at=each["at"], key=each["key"], covered_seq=each["covered"]) for each in lines(folder / "seen.jsonl")
    ]
    return history


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
        number = event["call"]
        if event["event"] == "begin":
            found[number] = Call(key=event["key"], fence=event["fence"], began=event["at"])
        elif event["event"] == "gone":
            found[number] = replace(found[number], gone=event["at"])
        else:
            found[number] = replace(found[number], ended=event["at"], status=event["status"])
    return list(found.values())


def read_ledger(file: Path, epoch: Epoch) -> History:
    """Read what the ledger holds, as rows and as Redrive's own audit has it."""
    history = History()
    ledger = Ledger(f"sqlite:///{file}")
    try:
        with ledger.begin(read_only=True) as tx:
            history.sums = {name: value for name, value in audit(tx).as_dict().items() if isinstance(value, int)}
    finally:
        ledger.close()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as rows:
        rows.row_factory = sqlite3.Row
        for row in rows.execute("SELECT identity, body, received_at, reject_reason FROM dead_letters ORDER BY id"):
            number = _NUMBER.search(row["body"])
            history.letters.append(
                Letter(
                    identity=row["identity"],
                    number=int(number[1]) if number else None,
                    recorded=epoch.seconds(row["received_at"]),
                    rejected=row["reject_reason"] is not None,
                )
            )
        keys = {row["id"]: f"{row['route']}/{json.loads(row['key'])['id']}" for row in rows.execute("SELECT * FROM jobs")}
        for row in rows.execute("SELECT * FROM jobs"):
            counted = {name: row[name] for name in ("state", "covered_seq", "last_seq", "attempts", "misses", "crashes")}
            history.jobs.append(Job(key=keys[row["id"]], **counted))
        joined = "SELECT d.identity, n.job_id, n.seq FROM needs n JOIN dead_letters d ON d.id = n.dead_letter_id"
        history.needs = [Need(identity=row["identity"], key=keys[row["job_id"]], seq=row["seq"]) for row in rows.execute(joined)]
        for row in rows.execute("SELECT * FROM attempts ORDER BY id"):
            ended = None if row["ended_at"] is None else epoch.seconds(row["ended_at"])
            history.attempts.append(
                Attempt(
                    key=keys[row["job_id"]],
                    fence=row["fence"],
                    began=epoch.seconds(row["began_at"]),
                    ended=ended,
                    outcome=row["outcome"],
                )
            )
    return history
