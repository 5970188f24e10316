"""Logging for all processes: one line an event, UTC, on stderr; for people on a terminal, JSON for machines.

structlog's and the standard library's loggers (Celery's, kombu's, Redrive's own) end in the same handler. A value can hold
whatever a stranger put into a message, so control characters are escaped: no value can forge a line or steer a terminal.

WARNING, where `celery worker` and `celery beat` are by default, is what a person wants to read: warnings, what Redrive itself
reports, and of Celery's reports those that are news. INFO adds a line for each task, DEBUG everything and an outage's tracebacks.
"""

from __future__ import annotations

import json as json_codec
import logging
import re
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from tasks.dlq.errors import RedriveError
from tasks.dlq.secrets.names import MASK, is_secret
from tasks.dlq.secrets.redactor import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping
    from typing import TextIO

    from structlog.typing import Processor

    from tasks.dlq.alerts.alert import Alert

    Event = MutableMapping[str, Any]

#: What these libraries log below WARNING holds requests whole: bodies, signatures, the tokens in a URL's path.
_TALKATIVE = ("alembic", "apprise", "boto3", "botocore", "kombu", "requests", "s3transfer", "urllib3")
#: What reports news at INFO.
_REPORTING = ("redrive", "tasks", "celery.app.trace", "celery.apps.worker", "celery.beat", "celery.worker.consumer.connection")
_LIBRARIES = {"amqp", "billiard", "celery", "kombu", "vine"}
#: What a part that is away makes the standard library and others raise; by module, for Celery's and kombu's are not known here.
_AWAY = (RedriveError, ConnectionError, TimeoutError, socket.gaierror)
_AWAY_ELSEWHERE = re.compile(r"(botocore|urllib3|redis)\.|kombu\.exceptions\.OperationalError|kombu\..*\.HttpError")
_SECRET_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{4,}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@]+@"), rf"\1{MASK}@"),
)
_SHORTEST_SECRET = 4


def configure(
    level: str = "INFO", *, json: bool | None = None, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Set up logging in this process, in place of whatever was set up before.

    Args:
        level: a name of `logging`'s, in any case.
        json: one JSON object a line, or text for people; None: text when `stream` is a terminal.
        secrets: values that never appear, wherever they come from (tokens, DSN, notification URLs).
        stream: where to; stderr by default.

    Raises:
        ValueError: no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"no log level {level!r}: use DEBUG, INFO, WARNING or ERROR")
    stream = stream or sys.stderr
    as_json = json if json is not None else not stream.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _one_line_warning,
        structlog.processors.StackInfoRenderer(),
        *([_one_line_outage] if number > logging.DEBUG else []),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(stream)
    handler.addFilter(partial(_is_wanted, level=number))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _Masking(secrets),
                _json_line if as_json else _text_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _REPORTING:
        logging.getLogger(name).setLevel(logging.INFO if number == logging.WARNING else logging.NOTSET)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a logger made before this call must obey it too
    )


def _is_wanted(record: logging.LogRecord, *, level: int) -> bool:
    """Tell whether a line says something at this level: Celery has one INFO for all."""
    if record.levelno != logging.INFO or level <= logging.DEBUG:
        return True
    text = str(record.msg)
    if record.name == "celery.beat" and "Sending due task" in text:
        return False  # whoever takes it says what came of it
    if record.name == "celery.app.trace" and level == logging.WARNING and "succeeded" in text:
        return _did_something(record)
    return True


def _did_something(record: logging.LogRecord) -> bool:
    """Tell a task that returned what it did (see tasks/sweeps) from one that found nothing to do."""
    arguments = record.args if isinstance(record.args, dict) else {}
    return bool(re.search("[1-9]", str(arguments.get("return_value"))))


def _one_line_warning(_logger: object, _method: str, event: Event) -> Event:
    """Say in one line what Python's `warnings` has been told, without the line of code that told it."""
    if event.get("logger") == "py.warnings":
        lines = str(event["event"]).splitlines()
        event["event"] = " ".join(filter(None, lines[:-1] if lines[-1].startswith("  ") else lines))
    return event


def _one_line_outage(_logger: object, _method: str, event: Event) -> Event:
    """Say in one line that a part is away: where in a library that was noticed helps nobody."""
    error = event.get("exc_info")
    outage = _outage_of(error[1] if isinstance(error, tuple) else error, event.get("logger", ""))
    if outage is not None:
        del event["exc_info"]
        event["event"] = str(event["event"]).partition("\n")[0]  # beat puts a whole stack behind it
        event["error"] = f"{type(outage).__name__}: {outage}"
    return event


def _outage_of(error: object, logger: str) -> BaseException | None:
    """Return what a part that is away has raised; None for a fault, or what Redrive's own code did not foresee."""
    if logger == "celery.app.trace":
        return error if isinstance(error, RedriveError) else None
    if logger.partition(".")[0] not in _LIBRARIES:
        return None
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:  # a chain may lead back to where it began
        seen.add(id(error))
        names = [f"{each.__module__}.{each.__qualname__}" for each in type(error).mro()]
        if isinstance(error, _AWAY) or any(map(_AWAY_ELSEWHERE.match, names)):
            return error
        error = error.__cause__ or error.__context__
    return None


class _Masking:
    """Masks known secrets anywhere, values under a secret's name, and what looks like credentials."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._redact = Redactor(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        return {key: MASK if is_secret(key) else self._clean(value) for key, value in event.items()}

    def _clean(self, value: Any) -> Any:
        if isinstance(value, int | float | bool | None):
            return value
        if isinstance(value, dict):
            return {str(key): MASK if is_secret(str(key)) else self._clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        text = self._redact(str(value))
        for pattern, mask in _SECRET_TEXT:
            text = pattern.sub(mask, text)
        return text


def _json_line(_logger: object, _method: str, event: Event) -> str:
    head = {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "logger": event.pop("logger", "")}
    return json_codec.dumps({**head, "event": event.pop("event"), **event}, ensure_ascii=True, separators=(",", ":"))


def _text_line(_logger: object, _method: str, event: Event) -> str:
    line = f"{event.pop('timestamp')} {event.pop('level'):<8} {event.pop('logger', '')}: {_escaped(event.pop('event'))}"
    return " ".join([line, *(f"{_escaped(key)}={_quoted(value)}" for key, value in event.items())])


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json_codec.dumps(value, ensure_ascii=False)
    text = _escaped(text)
    return f'"{text}"' if isinstance(value, str) and (" " in text or not text) else text


def _escaped(value: Any) -> str:
    """Return the text with every character that does not print (line ends, ANSI, bidirectional marks) as its escape."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class LogSink:
    """Writes each alert into the log, as one line."""

    name = "log"

    def send(self, alert: Alert) -> bool:
        structlog.get_logger("redrive.alerts").warning(
            "alert_ended" if alert.over else "alert_begun",
            kind=alert.kind,
            severity=alert.severity.value,
            subject=alert.subject,
            title=alert.title,
            text=" ".join(alert.text.split()),
        )
        return True
