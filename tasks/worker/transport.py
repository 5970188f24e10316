"""kombu's SQS transport, changed so that a worker survives failures of SQS and messages that Redrive did not send.

**Polls.** In kombu 5.7, an answer other than 200 to ReceiveMessage ends the polling loop, or the worker. This transport schedules
the next poll after every result, also after none.

**Messages.** Celery acknowledges messages that it cannot read or that have expired (`expires`), before a task sees them. So this
transport reads each message itself and builds a new one for Celery: a call of one of Redrive's tasks with plain JSON arguments.
Other options of the producer are dropped. Any other message becomes a call of `redrive.keep` with its bytes.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from celery.utils.dispatch import Signal
from kombu import transport as kombu_transport
from kombu.transport import SQS, TRANSPORT_ALIASES
from kombu.utils import json as kombu_json
from vine import promise

from tasks.adapters.celery_messages import TaskMessage, check_call, not_plain, read_message
from tasks.dlq.errors import UnreadableBody
from tasks.dlq.shortage import missing_resource
from tasks.dlq.text import shorten
from tasks.names import KEEP, SUBMIT, WAKEUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger("redrive.transport")

#: Seconds until a poll counts as lost. The HTTP client itself times out after 20 s.
POLL_OVERDUE = 60
#: The longest pause in seconds after a poll that failed.
LONGEST_PAUSE = 15
_MISSING = ("NonExistentQueue", "QueueDoesNotExist")

#: Sent when SQS does not have the queue (any more).
queue_missing = Signal(name="queue_missing")


@contextmanager
def _complete_answers(queue: str) -> Iterator[None]:
    """Turn an answer that was cut off in its headers into a connection error. botocore returns an empty answer for it."""
    try:
        yield
    except KeyError as missing:
        raise ConnectionResetError(f"the answer of SQS about queue {queue} was cut off: {missing} is missing") from missing


class Channel(SQS.Channel):
    """A channel that keeps polling, and delivers only calls of Redrive's tasks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.prepare_polls()
        super().__init__(*args, **kwargs)

    def _put(self, queue: str, message: Any, **kwargs: Any) -> Any:
        """Send a message. In kombu 5.7, a connection that breaks during a queue lookup leaves the sender a closed channel."""
        if self.connection is None:
            raise ConnectionResetError("the connection to SQS broke")  # kombu then sends it again on a new channel
        return super()._put(queue, message, **kwargs)

    def _new_queue(self, queue: str, **kwargs: Any) -> Any:
        with _complete_answers(queue):
            return super()._new_queue(queue, **kwargs)

    def _size(self, queue: str) -> int:
        with _complete_answers(queue):
            return int(super()._size(queue))

    def prepare_polls(self) -> None:
        """Reset the state of all polls."""
        self._failures: Counter[str] = Counter()
        self._overdue: dict[str, Any] = {}

    def _schedule_queue(self, queue: str) -> None:
        try:
            super()._schedule_queue(queue)
        except Exception as error:  # noqa: BLE001 - without a next poll the worker would receive nothing
            self._pause(queue, error)

    def _get_async(self, queue: str, count: int = 1, callback: Callable[..., Any] | None = None) -> Any:
        """Poll once. kombu does not call its `callback` after an error, so `_polled` and `_pause` schedule the next poll."""
        del callback
        url, name = self._new_queue(queue), self.canonical_queue_name(queue)
        connection = self.asynsqs(queue=name)
        poll = promise(self._polled, (queue, url), on_error=lambda *args: self._failed(queue, args[-1]))
        self._overdue[queue] = self._later(POLL_OVERDUE, self._abandon, queue, poll)
        try:
            return self._get_from_sqs(queue_name=name, queue_url=url, count=count, connection=connection, callback=poll)
        except Exception:  # not sent, for example without credentials: `_schedule_queue` pauses
            poll.cancel()
            self._cancel_alarm(queue)
            raise

    def _polled(self, queue: str, url: str, answer: Any) -> None:
        self._cancel_alarm(queue)
        if not isinstance(answer, dict):  # kombu's result for a 5xx, and for no answer
            raise ConnectionError(missing_resource() or "no answer from SQS")
        fetched = self._on_messages_ready(url, queue, answer)
        if self._failures.pop(queue, 0):
            log.info("poll_recovered", queue=queue)
        self._loop1(queue, fetched)

    def _failed(self, queue: str, error: BaseException) -> None:
        self._cancel_alarm(queue)
        self._pause(queue, error)

    def _cancel_alarm(self, queue: str) -> None:
        """Cancel the alarm of the queue's poll. Each queue has at most one open poll."""
        if alarm := self._overdue.pop(queue, None):
            alarm.cancel()

    def _abandon(self, queue: str, poll: Any) -> None:
        poll.cancel()  # messages of a late answer stay in SQS and are delivered again
        self._failed(queue, TimeoutError(f"no answer within {POLL_OVERDUE} s"))

    def _pause(self, queue: str, error: BaseException) -> None:
        """Log a failed poll, and schedule the next one: after 1 s, 2 s, 4 s … 15 s."""
        seconds = min(2 ** self._failures[queue], LONGEST_PAUSE)
        self._failures[queue] += 1
        message = f"{type(error).__name__}: {error}"
        log.warning("poll_failed", queue=queue, error=shorten(message), next_in_seconds=seconds)
        if any(code in message for code in _MISSING):
            queue_missing.send(sender=self)
        self._later(seconds, self._schedule_queue, queue)

    def _later(self, seconds: float, call: Callable[..., None], *args: Any) -> Any:
        hub: Any = self.hub  # a channel without an event loop has no hub, and does not poll
        return hub.call_later(seconds, call, *args)

    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> int:
        return sum(self._deliver_one(queue, qname, message) for message in messages.get("Messages") or ())

    def _deliver_one(self, queue: str, qname: str, message: dict[str, Any]) -> int:
        try:
            return int(super()._on_messages_ready(queue, qname, {"Messages": [message]}))
        except Exception as error:  # noqa: BLE001 - the other messages must be delivered
            log.warning("message_undelivered", queue=qname, error=shorten(f"{type(error).__name__}: {error}"))
            with suppress(KeyError):  # it may not have a place in the prefetch yet
                self.qos.get(message["ReceiptHandle"])
                self.qos.ack(message["ReceiptHandle"])  # frees the place; deletes nothing
            return 1

    def _message_to_python(self, message: dict[str, Any], queue_name: str, q_url: str) -> Any:
        body = message["Body"].encode("utf-8", "surrogatepass")
        try:
            payload = build_payload(read_message(body), message["MessageId"])
        except UnreadableBody as error:
            log.warning("message_rejected", queue=queue_name, reason=error.reason)
            kept = TaskMessage(task=KEEP, id=message["MessageId"], args=[base64.b64encode(body).decode()], kwargs={})
            payload = _payload(kept, message["MessageId"])
        return self._envelope_payload(payload, "", message, q_url)

    def _restore(self, message: Any, *_: Any) -> None:
        """Return a message that was not acknowledged to SQS, which delivers it again at once.

        This must not raise: kombu would write the content of the messages into a file in /tmp ("EMERGENCY DUMP").
        """
        origin = message.delivery_info
        try:
            self.sqs().change_message_visibility(
                QueueUrl=origin["sqs_queue"], ReceiptHandle=origin["sqs_message"]["ReceiptHandle"], VisibilityTimeout=0
            )
        except Exception as error:  # noqa: BLE001 - SQS delivers it again after the visibility timeout
            log.warning("message_not_returned", error=shorten(f"{type(error).__name__}: {error}"))


def build_payload(call: TaskMessage, message_id: str) -> dict[str, Any]:
    """Return the payload for a call of one of Redrive's tasks.

    Raises:
        UnreadableBody: see `check_call`; or kombu would decode the arguments to other values ("not-plain").
    """
    check_call(call, WAKEUPS)
    if call.task == SUBMIT:
        call = replace(call, args=[call.args, call.kwargs], kwargs={})
    payload = _payload(call, message_id)
    try:
        same = kombu_json.loads(payload["body"])[:2] == [call.args, call.kwargs]
    except MemoryError:  # not the message's fault: it stays in SQS
        raise
    except Exception as error:  # kombu builds objects from `__type__`, which can fail in any way
        raise not_plain() from error
    if not same:
        raise not_plain()
    return payload


def _payload(call: TaskMessage, message_id: str) -> dict[str, Any]:
    """Return a message as kombu passes it to Celery: https://docs.celeryq.dev/en/stable/internals/protocol.html, version 2."""
    return {
        "body": json.dumps([call.args, call.kwargs, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": call.task,
            "id": call.id,
            "root_id": call.id,
            "retries": call.retries,
            "argsrepr": call.argsrepr,
            "kwargsrepr": call.kwargsrepr,
            "sqs_message_id": message_id,
        },
        "properties": {"correlation_id": call.id, "delivery_info": {}},
    }


class Transport(SQS.Transport):
    """The transport for `sqs://` URLs."""

    Channel = Channel


def install() -> None:
    """Use this transport for `sqs://` in this process."""
    TRANSPORT_ALIASES["sqs"] = "tasks.worker.transport:Transport"
    kombu_transport._transport_cache.pop("sqs", None)  # noqa: SLF001 - kombu caches the transport of an earlier connection
