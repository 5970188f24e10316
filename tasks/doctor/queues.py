"""Checks the queues on SQS: that each exists, and keeps messages for as long as Redrive needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's

from tasks.adapters.sqs import SqsQueue
from tasks.adapters.sqs.client import find_url, is_missing, translate_errors
from tasks.adapters.sqs.queues import dead_letter_queue, dead_letter_target
from tasks.celery_queues import connect_broker, locate_queue
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.shortage import HINT
from tasks.dlq.text import format_count
from tasks.doctor.findings import Finding, State, of_error
from tasks.names import CELERY_QUEUES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_sqs import SQSClient

    from tasks.settings import Settings

#: Seconds for which a queue should keep a message, so that none is lost over a long weekend.
_LEAST_RETENTION = 4 * 86_400
#: Seconds for one answer.
_TIMEOUT = 5


def check_celery_queues(settings: Settings) -> Iterator[Finding]:
    """Check Redrive's own queues. If SQS does not answer, there is one finding for all of them."""
    broker = settings.broker
    connection = connect_broker(broker)
    client = connection.client(timeout=_TIMEOUT, tries=1)
    for name in CELERY_QUEUES:
        address = locate_queue(broker, name) or broker.queue_prefix + name
        queue = SqsQueue(source="", queue=address, connection=connection, managed=broker.creates_queues)
        try:
            attributes, waiting = _read(client, address, urls=broker.predefined_queues)
            yield judge_queue(queue, attributes, waiting=waiting, visibility=settings.limits.busy)
        except BrokerUnavailable as error:
            if not isinstance(error.__cause__, ClientError):
                yield judge_silence("SQS", client.meta.endpoint_url, error)
                return
            yield judge_refusal(queue, error, error.__cause__)


def check_queue(queue: SqsQueue) -> Iterator[Finding]:
    """Check the queue of a source."""
    client = queue.connection.client(timeout=_TIMEOUT, tries=1)
    try:
        attributes, waiting = _read(client, queue.queue)
        yield judge_queue(queue, attributes, waiting=waiting)
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, ClientError):
            yield judge_refusal(queue, error, error.__cause__)
        else:
            yield judge_silence(_label(queue), client.meta.endpoint_url, error)


def _label(queue: SqsQueue) -> str:
    return f"source {queue.source}" if queue.source else queue.queue.rpartition("/")[2]


def _read(client: SQSClient, queue: str, urls: Mapping[str, str] | None = None) -> tuple[dict[str, str], int | None]:
    """Return a queue's attributes, and how many messages its dead-letter queue holds; None if SQS does not say.

    `urls` are those of predefined queues, by name. Raises BrokerUnavailable.
    """
    with translate_errors(queue):
        found = client.get_queue_attributes(QueueUrl=find_url(client, queue), AttributeNames=["All"])["Attributes"]
    attributes = {str(name): value for name, value in found.items()}
    target = dead_letter_target(attributes)
    return attributes, _count_waiting(client, (urls or {}).get(target, target)) if target else None


def _count_waiting(client: SQSClient, queue: str) -> int | None:
    """Return how many messages wait in a dead-letter queue; None if SQS refuses: another account may own it."""
    try:
        found = client.get_queue_attributes(QueueUrl=find_url(client, queue), AttributeNames=["ApproximateNumberOfMessages"])[
            "Attributes"
        ]
    except ClientError:
        return None
    return int(found["ApproximateNumberOfMessages"])


def judge_refusal(queue: SqsQueue, error: BrokerUnavailable, answer: ClientError) -> Finding:
    """Judge what SQS refused. It answers, so it is not out of reach."""
    finding = replace(of_error(_label(queue), error), out_of_reach=False)
    if is_missing(answer) and "://" in queue.queue:
        return replace(finding, hint="create it, or correct its URL; docs/reference/aws.md has the commands")
    if is_missing(answer) and queue.managed:
        return replace(finding, hint="the first worker, beat or intake creates it: start one; if one runs, see its log")
    return finding


def judge_silence(name: str, endpoint: str, error: BrokerUnavailable) -> Finding:
    """Judge an SQS that does not answer."""
    finding = of_error(name, error)
    if error.hint == HINT or not isinstance(error.__cause__, (ConnectionError, HTTPClientError)):  # no request was sent
        return finding
    hint = f"see whether SQS runs at {endpoint} and can be reached; then check broker.url, the region and the credentials"
    return replace(finding, hint=hint)


def judge_queue(queue: SqsQueue, attributes: Mapping[str, str], *, waiting: int | None, visibility: float = 0.0) -> Finding:
    """Judge a queue by its attributes.

    Args:
        queue: the queue.
        attributes: what SQS says of it.
        waiting: the number of messages in its dead-letter queue; None if unknown.
        visibility: the least visibility timeout, in seconds.
    """
    hidden, kept = int(attributes["VisibilityTimeout"]), int(attributes.get("MessageRetentionPeriod", _LEAST_RETENTION))
    target, name = dead_letter_target(attributes), queue.queue.rpartition("/")[2]
    state, hint = State.WARNING, ""
    if target is None:
        expected = dead_letter_queue(name)
        state, detail = State.WRONG, f"no dead-letter queue: SQS deletes what fails (expected {expected})"
        hint = f"give it a redrive policy to {expected}; docs/reference/aws.md has the commands"
    elif hidden < visibility:
        state, detail = State.WRONG, f"hides a message for {hidden} s, a worker may be busy for {visibility:g} s"
        hint = f"set its VisibilityTimeout to {round(visibility)} or more, in seconds"
    elif kept < _LEAST_RETENTION:
        detail = f"keeps a message for {kept / 86_400:.1f} days only"
        hint = "set its MessageRetentionPeriod to 1209600, 14 days"
    elif waiting:
        detail = f"{format_count(waiting, 'message')} in {target}"
        hint = "a sweep takes them in within seconds; if they stay, see the maintenance worker's log"
    else:
        state, detail = State.OK, f"hides {hidden} s, keeps {kept // 86_400} days, dead letters to {target}"
    prefix = f"{name}: " if queue.source else ""
    return Finding(name=_label(queue), state=state, detail=prefix + detail, hint=hint)
