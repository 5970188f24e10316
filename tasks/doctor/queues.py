"""What SQS says: whether every queue is there, and keeps what it is given for as long as Redrive needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's

from tasks.adapters.queues import Connection, dead_letter_queue
from tasks.adapters.sqs import talking_to
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.shortage import HINT
from tasks.dlq.text import format_count
from tasks.doctor.findings import Finding, State, of_error
from tasks.names import CELERY_QUEUES
from tasks.settings.sources import SqsSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_sqs import SQSClient

    from tasks.settings import Settings

#: Seconds that a queue keeps a message at least, so that a long weekend without Redrive loses none.
_LEAST_RETENTION = 4 * 86_400
#: What SQS says of a queue that is not there, behind its last dot.
_NO_QUEUE = {"NonExistentQueue", "QueueDoesNotExist"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A queue that Redrive reads: its name or URL, the source that reads it (none for its own), the client to ask."""

    queue: str
    client: SQSClient
    visibility: float
    source: str = ""

    @property
    def label(self) -> str:
        """What the finding is called."""
        return f"source {self.source}" if self.source else self.queue.rpartition("/")[2]


def check_queues(settings: Settings) -> Iterator[Finding]:
    """Look at every queue, with its dead-letter queue. One server that does not answer is asked once."""
    away: set[int] = set()
    for wanted in _wanted(settings):
        if id(wanted.client) in away:
            continue
        try:
            yield _look(wanted, settings)
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, ClientError):  # it answers, and refuses
                broker = settings.broker
                fixed = bool(broker.predefined_queues) or "://" in wanted.queue
                yield refused(wanted, error, error.__cause__, managed=broker.manage_queues, fixed=fixed)
            else:
                away.add(id(wanted.client))
                yield silent(wanted.client.meta.endpoint_url, error)


def _wanted(settings: Settings) -> Iterator[Wanted]:
    broker = settings.broker
    own = Connection(
        region=broker.region,
        endpoint_url=broker.endpoint_url,
        access_key_id=broker.access_key_id,
        secret_access_key=broker.secret_access_key,
    ).client(patient=False)
    for name in CELERY_QUEUES:
        queue = broker.predefined_queues.get(name, broker.queue_prefix + name)
        yield Wanted(queue=queue, client=own, visibility=settings.limits.busy)
    for name, table in settings.sources.items():
        if isinstance(table, SqsSource):
            other = Connection(region=broker.region, endpoint_url=table.endpoint).client(patient=False) if table.endpoint else own
            yield Wanted(queue=table.queue, client=other, visibility=0.0, source=name)


def _look(wanted: Wanted, settings: Settings) -> Finding:
    with talking_to(wanted.queue):
        url = _url(wanted.client, wanted.queue)
        found = wanted.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    attributes = {str(name): value for name, value in found.items()}
    dead = dead_letters_of(attributes)
    return judge_queue(wanted, attributes, waiting=_waiting(wanted.client, settings, dead) if dead else None)


def _url(client: SQSClient, queue: str) -> str:
    return queue if "://" in queue else client.get_queue_url(QueueName=queue)["QueueUrl"]


def refused(wanted: Wanted, error: BrokerUnavailable, answer: ClientError, *, managed: bool, fixed: bool) -> Finding:
    """Judge what SQS refused: it answers, so that it is not out of reach.

    Args:
        wanted: the queue.
        error: what to say of the refusal.
        answer: what SQS said.
        managed: Redrive makes queues that are missing (`broker.manage_queues`),
        fixed: but not where their URLs are given.
    """
    finding = replace(of_error(wanted.label, error), out_of_reach=False)
    if answer.response.get("Error", {}).get("Code", "").rpartition(".")[2] not in _NO_QUEUE or not managed:
        return finding
    if fixed:
        return replace(finding, hint="create it, or correct its URL; docs/reference/aws.md has the commands")
    return replace(finding, hint="the first worker, beat or intake makes it: start one; if one runs, see its log")


def silent(endpoint: str, error: BrokerUnavailable) -> Finding:
    """Judge an SQS that does not answer."""
    finding = of_error("SQS", error)
    if error.hint == HINT or not isinstance(error.__cause__, (ConnectionError, HTTPClientError)):  # it was not asked
        return finding
    hint = f"see whether SQS runs at {endpoint} (broker.url) and can be reached; then check the region and the credentials"
    return replace(finding, hint=hint)


def dead_letters_of(attributes: Mapping[str, str]) -> str | None:
    """Return the name of the dead-letter queue that a queue has."""
    policy = attributes.get("RedrivePolicy")
    return str(json.loads(policy)["deadLetterTargetArn"]).rpartition(":")[2] if policy else None


def _waiting(client: SQSClient, settings: Settings, dead: str) -> int | None:
    """Return how many messages wait in a dead-letter queue; None where it cannot be asked: it may be another account's."""
    address = settings.broker.predefined_queues.get(dead, dead)
    try:
        url = _url(client, address)
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    except ClientError:
        return None
    return int(found["ApproximateNumberOfMessages"])


def judge_queue(wanted: Wanted, attributes: Mapping[str, str], *, waiting: int | None) -> Finding:
    """Judge one queue by what SQS calls its attributes; `waiting` are the messages in its dead-letter queue, None if unknown."""
    hidden, kept = int(attributes["VisibilityTimeout"]), int(attributes.get("MessageRetentionPeriod", _LEAST_RETENTION))
    dead, name = dead_letters_of(attributes), wanted.queue.rpartition("/")[2]
    finding = _Judged(wanted.label, f"{name}: " if wanted.source else "")
    if dead is None:
        expected = dead_letter_queue(name)
        hint = f"give it a redrive policy to {expected}; docs/reference/aws.md has the commands"
        return finding.wrong(f"no dead-letter queue: SQS throws away what fails (expected {expected})", hint)
    if hidden < wanted.visibility:
        hint = f"set its VisibilityTimeout to {round(wanted.visibility)} or more, in seconds"
        return finding.wrong(f"hides a message for {hidden} s, a worker may be busy for {wanted.visibility:g} s", hint)
    if kept < _LEAST_RETENTION:
        hint = "set its MessageRetentionPeriod to 1209600, 14 days"
        return finding.warning(f"keeps a message for {kept / 86_400:.1f} days only", hint)
    if waiting:
        hint = "a sweep takes them in within seconds; if they stay, see the maintenance worker's log"
        return finding.warning(f"{format_count(waiting, 'message')} in {dead}", hint)
    return finding.ok(f"hides {hidden} s, keeps {kept // 86_400} days, dead letters to {dead}")


@dataclass(frozen=True)
class _Judged:
    name: str
    prefix: str

    def ok(self, detail: str) -> Finding:
        return Finding(name=self.name, detail=self.prefix + detail)

    def warning(self, detail: str, hint: str) -> Finding:
        return Finding(name=self.name, state=State.WARNING, detail=self.prefix + detail, hint=hint)

    def wrong(self, detail: str, hint: str) -> Finding:
        return Finding(name=self.name, state=State.WRONG, detail=self.prefix + detail, hint=hint)
