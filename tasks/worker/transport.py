"""kombu's SQS transport, made fit for a worker that must outlive its broker's bad days and strangers' messages.

**Polls.** In kombu 5.7 an answer other than 200 to ReceiveMessage ends the polling loop, or the worker. Here whatever comes of a
poll, also nothing at all, the next one is scheduled.

**Messages.** Celery acknowledges what it cannot read, and what asks to be forgotten (`expires`), before any task has seen it. So
what it is handed here is built anew from what was read: one of Redrive's tasks with plain JSON arguments, and nothing else that
a producer may have asked for. Any other message becomes a call of `redrive.keep`, with its bytes.
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

#: Seconds until a poll counts as lost. The HTTP client gives one up after 20 s.
POLL_OVERDUE = 60
#: The longest rest in seconds between two polls that failed.
LONGEST_REST = 15
_MISSING = ("NonExistentQueue", "QueueDoesNotExist")

#: Sent when SQS has no such queue: it was emptied under us.
queue_missing = Signal(name="queue_missing")


@contextmanager
def _whole_answers(queue: str) -> Iterator[None]:
    """Take an answer that was cut off in its headers for a broken connection. botocore takes it for an empty answer."""
    try:
        yield
    except KeyError as missing:
        raise ConnectionResetError(f"SQS' answer was cut off, at queue {queue}: it has no {missing}") from missing


class Channel(SQS.Channel):
    """A channel that polls on whatever happens, and delivers nothing but calls of Redrive's tasks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.prepare_polls()
        super().__init__(*args, **kwargs)

    def _put(self, queue: str, message: Any, **kwargs: Any) -> Any:
        """Send. In kombu 5.7 a connection that broke while the queue was looked up leaves its old channel to the sender."""
        if self.connection is None:
            raise ConnectionResetError("the connection to SQS broke")  # kombu sends it again, by a new channel
        return super()._put(queue, message, **kwargs)

    def _new_queue(self, queue: str, **kwargs: Any) -> Any:
        with _whole_answers(queue):
            return super()._new_queue(queue, **kwargs)

    def _size(self, queue: str) -> int:
        with _whole_answers(queue):
            return int(super()._size(queue))

    def prepare_polls(self) -> None:
        """Begin with no poll out, and none failed."""
        self._failures: Counter[str] = Counter()
        self._overdue: dict[str, Any] = {}

    def _schedule_queue(self, queue: str) -> None:
        try:
            super()._schedule_queue(queue)
        except Exception as error:  # noqa: BLE001 - whatever it is, without a next poll the worker would be deaf
            self._rest(queue, error)

    def _get_async(self, queue: str, count: int = 1, callback: Callable[..., Any] | None = None) -> Any:
        """Poll once. kombu's own `callback` would not be called after an error: `_polled` and `_rest` schedule the next."""
        del callback
        url, name = self._new_queue(queue), self.canonical_queue_name(queue)
        connection = self.asynsqs(queue=name)
        poll = promise(self._polled, (queue, url), on_error=lambda *args: self._failed(queue, args[-1]))
        self._overdue[queue] = self._later(POLL_OVERDUE, self._give_up, queue, poll)
        try:
            return self._get_from_sqs(queue_name=name, queue_url=url, count=count, connection=connection, callback=poll)
        except Exception:  # not sent at all, for want of credentials perhaps: `_schedule_queue` rests
            poll.cancel()
            self._over(queue)
            raise

    def _polled(self, queue: str, url: str, answer: Any) -> None:
        self._over(queue)
        if not isinstance(answer, dict):  # what kombu makes of a 5xx, and of no answer
            raise ConnectionError(missing_resource() or "no answer from SQS")
        fetched = self._on_messages_ready(url, queue, answer)
        if self._failures.pop(queue, 0):
            log.info("SQS answers again", queue=queue)
        self._loop1(queue, fetched)

    def _failed(self, queue: str, error: BaseException) -> None:
        self._over(queue)
        self._rest(queue, error)

    def _over(self, queue: str) -> None:
        """One poll of the queue is out at a time: whatever ends it takes its alarm along."""
        if alarm := self._overdue.pop(queue, None):
            alarm.cancel()

    def _give_up(self, queue: str, poll: Any) -> None:
        poll.cancel()  # messages that come after all stay in SQS, and come again
        self._failed(queue, TimeoutError(f"no answer within {POLL_OVERDUE} s"))

    def _rest(self, queue: str, error: BaseException) -> None:
        """Say what happened to a poll, and schedule the next: after 1 s, 2 s, 4 s … 15 s."""
        seconds = min(2 ** self._failures[queue], LONGEST_REST)
        self._failures[queue] += 1
        said = f"{type(error).__name__}: {error}"
        log.warning("a poll of SQS failed; polling goes on", queue=queue, error=shorten(said), seconds=seconds)
        if any(code in said for code in _MISSING):
            queue_missing.send(sender=self)
        self._later(seconds, self._schedule_queue, queue)

    def _later(self, seconds: float, call: Callable[..., None], *args: Any) -> Any:
        hub: Any = self.hub  # only a channel without an event loop has none, and that never polls by itself
        return hub.call_later(seconds, call, *args)

    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> int:
        return sum(self._deliver_one(queue, qname, message) for message in messages.get("Messages") or ())

    def _deliver_one(self, queue: str, qname: str, message: dict[str, Any]) -> int:
        try:
            return int(super()._on_messages_ready(queue, qname, {"Messages": [message]}))
        except Exception as error:  # noqa: BLE001 - whatever one message does, the others are delivered
            log.warning("a message stays in SQS", queue=qname, error=f"{type(error).__name__}: {error}"[:200])
            with suppress(KeyError):  # it holds a place in the prefetch only if it came that far
                self.qos.get(message["ReceiptHandle"])
                self.qos.ack(message["ReceiptHandle"])  # gives the place back; deletes nothing
            return 1

    def _message_to_python(self, message: dict[str, Any], queue_name: str, q_url: str) -> Any:
        body = message["Body"].encode("utf-8", "surrogatepass")
        try:
            payload = redrive_call(read_message(body), message["MessageId"])
        except UnreadableBody as error:
            log.warning("a message is none of Redrive's; it is kept as rejected", queue=queue_name, reason=error.reason)
            kept = TaskMessage(task=KEEP, id=message["MessageId"], args=[base64.b64encode(body).decode()], kwargs={})
            payload = _payload(kept, message["MessageId"])
        return self._envelope_payload(payload, "", message, q_url)

    def _restore(self, message: Any, *_: Any) -> None:
        """Give back a message that was not acknowledged: SQS hands it out again at once.

        Nothing may be raised: kombu would write the content of such messages into a file in /tmp ("EMERGENCY DUMP").
        """
        origin = message.delivery_info
        try:
            self.sqs().change_message_visibility(
                QueueUrl=origin["sqs_queue"], ReceiptHandle=origin["sqs_message"]["ReceiptHandle"], VisibilityTimeout=0
            )
        except Exception as error:  # noqa: BLE001 - SQS has it still: it comes again when its time is over
            log.warning(
                "a message was not given back to SQS; it comes again later", error=f"{type(error).__name__}: {error}"[:200]
            )


def redrive_call(call: TaskMessage, message_id: str) -> dict[str, Any]:
    """Return the payload of a call of one of Redrive's tasks.

    Raises:
        UnreadableBody: see `check_call`; or it would not be to Celery what it is to us ("not-plain").
    """
    check_call(call, WAKEUPS)
    if call.task == SUBMIT:
        call = replace(call, args=[call.args, call.kwargs], kwargs={})
    payload = _payload(call, message_id)
    try:
        same = kombu_json.loads(payload["body"])[:2] == [call.args, call.kwargs]
    except MemoryError:  # says nothing of the message: it stays in SQS
        raise
    except Exception as error:  # whatever the code does that makes objects of what has a `__type__`
        raise not_plain() from error
    if not same:
        raise not_plain()
    return payload


def _payload(call: TaskMessage, message_id: str) -> dict[str, Any]:
    """Return what kombu hands to Celery: https://docs.celeryq.dev/en/stable/internals/protocol.html, version 2."""
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
    """The transport of `sqs://`."""

    Channel = Channel


def install() -> None:
    """Make it the transport of `sqs://` in this process."""
    TRANSPORT_ALIASES["sqs"] = "tasks.worker.transport:Transport"
    kombu_transport._transport_cache.pop("sqs", None)  # noqa: SLF001 - kombu keeps what a connection before this one resolved
