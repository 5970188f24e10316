"""What a ledger holds at the end of a run, as JSON lines: so that it can be checked again when the ledger has gone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.audit import audit
from tasks.dlq.ledger.schema import attempts, audit_log, dead_letters, jobs, needs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

#: A sender's own number, in a body of any kind.
_NUMBER = re.compile(rb'"?n"?[:=] ?(\d+)')


def keep(url: str, file: Path) -> None:
    """Write all rows that the checker reads, and Redrive's own audit of them, into `file`."""
    ledger = Ledger(url)
    try:
        with ledger.begin(read_only=True) as tx, file.open("w") as out:
            for line in (_sums(audit(tx).as_dict()), *_rows(tx.connection)):
                out.write(json.dumps(line) + "\n")
    finally:
        ledger.close()


def _sums(audited: dict[str, Any]) -> dict[str, Any]:
    return {"row": "sums", **{name: value for name, value in audited.items() if isinstance(value, int)}}


def _rows(connection: Connection) -> Iterator[dict[str, Any]]:
    for letter in connection.execute(select(dead_letters).order_by(dead_letters.c.id)):
        yield {
            "row": "letter",
            "id": letter.id,
            "identity": place(letter.source, letter.identity, letter.origin),
            "number": _number(letter.body, letter.origin),
            "received_at": letter.received_at,
            "rejected": letter.reject_reason is not None,
        }
    keys: dict[int, str] = {}
    for job in connection.execute(select(jobs)):
        keys[job.id] = f"{job.route}/{json.loads(job.key)['id']}"
        counted = {name: getattr(job, name) for name in ("state", "covered_seq", "last_seq", "attempts", "misses", "crashes")}
        yield {"row": "job", "id": job.id, "key": keys[job.id], **counted}
    identities = select(needs.c.job_id, needs.c.seq, needs.c.dead_letter_id)
    for need in connection.execute(identities):
        yield {"row": "need", "letter": need.dead_letter_id, "key": keys[need.job_id], "seq": need.seq}
    for attempt in connection.execute(select(attempts).order_by(attempts.c.id)):
        told = {name: getattr(attempt, name) for name in ("fence", "covers_seq", "began_at", "ended_at", "outcome", "status")}
        yield {"row": "attempt", "key": keys[attempt.job_id], **told}
    for entry in connection.execute(select(audit_log)):
        yield {"row": "decision", "action": entry.action, "subject": entry.subject}


def place(source: str, identity: str, origin: str) -> str:
    """Return what a letter's sender knows it by: the message id of SQS, or where it stands in Kafka (without the digest)."""
    return str(json.loads(origin)["message_id"]) if source == "celery" else identity.partition("#")[0]


def _number(body: bytes, origin: str) -> int | None:
    """Return the sender's number: in the body, or in the origin that a Celery producer gives."""
    found = _NUMBER.search(body)
    number: int | None = int(found[1]) if found else json.loads(origin).get("n")
    return number
