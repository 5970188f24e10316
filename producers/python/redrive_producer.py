# Redrive producer 1.0: hands the failures of a Kafka consumer to Redrive. Copy this file beside your consumer.
# SPDX-License-Identifier: Apache-2.0
# Python 3.9+ and its standard library; boto3's client or the Celery application is yours and is passed in.
"""Hand the failures of a message handler to Redrive, before the consumer commits.

    redrive = Redrive(to_sqs(boto3.client("sqs"), QUEUE_URL), catch=StaleDataError, group="payroll")

    with redrive.handling(message):     # or @redrive.handler on the function
        handle(message)
    consumer.commit(message=message)

When the handler raises what is to be caught, the failure is sent, and only a confirmed send lets the consumer go on. When
the send fails, the handler's own exception is raised, with the send's error as its context: nothing may be committed then.
Sending twice does no harm.

A message is whatever has `topic`, `partition`, `offset`, `timestamp`, `key` and `value` as attributes or methods, each of
them optional: that of confluent-kafka, kafka-python or aiokafka, or just the document itself.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import inspect
import json
import logging
import re
import traceback
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Union

    #: What is told of a failure: names and values as `origin_of` has them.
    Origin = dict[str, Union[str, int]]
    #: Sends a failure (message, origin). It returns only when the broker has confirmed it, and raises otherwise.
    Send = Callable[[Any, Origin], None]
    Exceptions = Union[type[BaseException], tuple[type[BaseException], ...]]

__version__ = "1.0"
__all__ = ["Handling", "NotConfirmedError", "Redrive", "json_of", "origin_of", "to_celery", "to_sqs"]

log = logging.getLogger("redrive_producer")

#: Characters of a text such as the exception's message, and of a stack trace, of which the end is kept.
MAX_TEXT, MAX_STACKTRACE = 500, 4000
#: What SQS refuses in a message or its attributes:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_REFUSED_BY_SQS = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BYTES = (bytes, bytearray, memoryview)

_F = TypeVar("_F", bound="Callable[..., Any]")


class NotConfirmedError(Exception):
    """The broker's answer does not say that it has the message."""


class Redrive:
    """Hands failures over.

    Args:
        send: where to: `to_sqs(…)` or `to_celery(…)`.
        catch: the exceptions that are failures for Redrive, such as your database's optimistic-lock error. All others pass.
        group: the consumer group, for people who look at the failure.
        stacktrace: also send the end of the stack trace.
    """

    def __init__(self, send: Send, *, catch: Exceptions = Exception, group: str | None = None, stacktrace: bool = False) -> None:
        self._send = send
        self._catch = catch
        self._group = group
        self._stacktrace = stacktrace

    def handling(self, message: Any) -> Handling:
        """Return a context manager (`with`, or `async with`) around the handling of one message."""
        return Handling(self, message)

    def handler(self, function: _F) -> _F:
        """Decorate a function, or a coroutine function, whose first argument is the message.

        It returns None when the failure was handed over.
        """
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def handle_async(message: Any, /, *args: Any, **kwargs: Any) -> Any:
                async with self.handling(message):
                    return await function(message, *args, **kwargs)

            return cast("_F", handle_async)

        @functools.wraps(function)
        def handle(message: Any, /, *args: Any, **kwargs: Any) -> Any:
            with self.handling(message):
                return function(message, *args, **kwargs)

        return cast("_F", handle)

    def hand_over(self, message: Any, error: BaseException) -> bool:
        """Send a failure, and tell whether the consumer may commit: False when `error` is not to be caught.

        Raises:
            error itself, when it could not be sent.
        """
        if not isinstance(error, self._catch):
            return False
        try:
            origin = origin_of(message, error, group=self._group, stacktrace=self._stacktrace)
            self._send(message, origin)
        except Exception as trouble:  # noqa: BLE001 - whatever it is, the consumer must hear of it
            said = f"{_class(trouble)}: {_said(trouble)}"
            log.error("%s could not be handed to Redrive: %s", _class(error), said)  # noqa: TRY400 - it is raised
            raise error  # noqa: B904 - the send's error becomes its context, and its own cause stays
        place = "/".join(str(origin.get(name, "?")) for name in ("topic", "partition", "offset"))
        log.warning("%s at %s was handed to Redrive", origin["exception"], place)
        return True


class Handling:
    """The handling of one message; see `Redrive.handling`."""

    def __init__(self, redrive: Redrive, message: Any) -> None:
        self._redrive = redrive
        self._message = message

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> bool:
        """Swallow a failure that was handed over."""
        return error is not None and self._redrive.hand_over(self._message, error)

    async def __aenter__(self) -> None:
        """Begin."""

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> bool:
        """Swallow a failure that was handed over; the event loop goes on meanwhile."""
        return error is not None and await asyncio.to_thread(self._redrive.hand_over, self._message, error)


def to_sqs(client: Any, queue_url: str, *, body: Callable[[Any], Any] | None = None) -> Send:
    """Return what sends failures to an SQS queue as plain JSON, with their origin in message attributes.

    Args:
        client: `boto3.client("sqs")`.
        queue_url: the queue of an SQS source in redrive.toml.
        body: makes the document from the message; by default it is the message's own value. SQS takes at most 1 MiB.
    """

    def send(message: Any, origin: Origin) -> None:
        document = json_of(message) if body is None else json.dumps(body(message), default=str)
        fifo = {}
        if queue_url.endswith(".fifo"):  # two failures are never one, and need no order
            fifo = dict.fromkeys(("MessageGroupId", "MessageDeduplicationId"), uuid.uuid4().hex)
        answer = client.send_message(
            QueueUrl=queue_url,
            MessageBody=document,
            MessageAttributes={name: {"DataType": "String", "StringValue": str(value)} for name, value in origin.items()},
            **fifo,
        )
        if not (isinstance(answer, dict) and answer.get("MessageId")):
            raise NotConfirmedError(f"SQS answered with no MessageId but {type(answer).__name__}: is the client boto3's own?")

    return send


def to_celery(
    app: Any,
    route: str,
    parameters: Callable[[Any], Mapping[str, Any] | Iterable[Mapping[str, Any]]],
    *,
    queue: str = "redrive-submit",
) -> Send:
    """Return what sends failures as the task `redrive.submit` (docs/reference/redrive-submit.schema.json).

    Args:
        app: a Celery application on the broker that Redrive's workers have.
        route: a route of redrive.toml.
        parameters: makes the route's parameters from the message: a mapping or, for several entities, a list of them.
        queue: the queue that Redrive's workers listen to, with the prefix that it may have.
    """

    def send(message: Any, origin: Origin) -> None:
        found = parameters(message)
        # A message about nothing is sent as well: Redrive keeps it as rejected, for people to look at.
        for each in [found] if isinstance(found, Mapping) else list(found) or [{}]:
            app.send_task(
                "redrive.submit",
                kwargs={"route": route, "parameters": dict(each), "origin": origin},
                queue=queue,
                serializer="json",
                ignore_result=True,
            )

    return send


def origin_of(message: Any, error: BaseException, *, group: str | None = None, stacktrace: bool = False) -> Origin:
    """Return what is known of a failure: at most ten values, which is what SQS takes.

    `topic`, `partition`, `offset`, `timestamp` (epoch milliseconds), `key`, `group`, `exception` and `cause` (class names),
    `message` (the exception's), `stacktrace`. What is not known is left out.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    timestamp = _field(message, "timestamp")
    found = {
        "topic": _text(_field(message, "topic")),
        "partition": _number(_field(message, "partition")),
        "offset": _number(_field(message, "offset")),
        "timestamp": _number(timestamp[1] if isinstance(timestamp, tuple) else timestamp) or None,  # confluent-kafka: (type, ms)
        "key": _text(_field(message, "key")),
        "group": _text(group),
        "exception": _class(error),
        "cause": _class(cause) if cause else None,
        "message": _text(_said(error)),
        "stacktrace": _stacktrace(error) if stacktrace else None,
    }
    return {name: value for name, value in found.items() if value is not None and value != ""}


def json_of(message: Any) -> str:
    """Return the message's own value as the text of a JSON document, of characters that SQS takes.

    Bytes and text are taken as JSON already, and sent as they are; anything else is written as JSON. Bytes that are no UTF-8
    become `{"base64": "…"}`; text that is no JSON, and that SQS does not take, `{"text": "…"}`; no value becomes `null`. What is
    no JSON thus never becomes a document that somebody could have meant.
    """
    value = getattr(message, "value", message)
    if callable(value):
        value = value()
    if isinstance(value, _BYTES):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError:
            value = {"base64": _base64(value)}
    if not isinstance(value, str):
        return json.dumps(value, default=str)
    if value and not _REFUSED_BY_SQS.search(value):
        return value
    try:
        json.loads(value, parse_int=str)  # Python refuses to make a number of very many digits
    except (ValueError, RecursionError):  # to escape what SQS refuses could make it JSON
        return json.dumps({"text": value})
    return _REFUSED_BY_SQS.sub(lambda refused: f"\\u{ord(refused[0]):04x}", value)


def _field(message: Any, name: str) -> Any:
    value = getattr(message, name, None)
    if not callable(value):
        return value
    try:
        return value()
    except TypeError:  # not a message's method: str has a `partition` of its own
        return None


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode()


def _decoded(value: Any) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return _base64(value)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = _decoded(value) if isinstance(value, _BYTES) else str(value)
    text = _REFUSED_BY_SQS.sub("\ufffd", text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None  # clients say -1 or -1001 for none


def _class(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - somebody else's class: what it cannot say must not keep the failure from being sent
        return ""


def _stacktrace(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return _REFUSED_BY_SQS.sub("\ufffd", lines)[-MAX_STACKTRACE:]
