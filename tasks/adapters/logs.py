"""Logging of all processes: one line per event, in UTC, to stderr; logfmt on a terminal, JSON elsewhere.

structlog's and the standard library's loggers (Celery's, kombu's, Redrive's own) end in the same handler. A value can contain
anything that a stranger put into a message. Control characters are escaped, so no value can forge a line or steer a terminal.

WARNING is the default of `celery worker` and `celery beat`. At this level people see warnings, what Redrive reports, and those
reports of Celery that are news. INFO adds lines for each task; DEBUG adds everything, and the tracebacks of outages.
"""

from __future__ import annotations

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
from tasks.dlq.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping
    from typing import TextIO

    from structlog.typing import Processor

    from tasks.dlq.alerts.alert import Alert

    Event = MutableMapping[str, Any]

#: Below WARNING these libraries log whole requests: bodies, signatures, tokens in the path of a URL.
_VERBOSE = ("alembic", "apprise", "boto3", "botocore", "kombu", "requests", "s3transfer", "urllib3")
#: The INFO lines of these loggers are shown at WARNING.
_REPORTING = ("redrive", "tasks", "celery.app.trace", "celery.apps.worker", "celery.beat", "celery.worker.consumer.connection")
_LIBRARIES = {"amqp", "billiard", "celery", "kombu", "vine"}
#: The errors of an outage. Those of libraries that this module must not import are known by name.
_OUTAGES = (RedriveError, ConnectionError, TimeoutError, socket.gaierror)
_OUTAGE_NAMES = re.compile(r"(botocore|urllib3|redis)\.|kombu\.exceptions\.OperationalError|kombu\..*\.HttpError")
_SECRET_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{4,}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@]+@"), rf"\1{MASK}@"),
)
_SHORTEST_SECRET = 4
_FIRST = ("timestamp", "level", "logger", "event")


def configure(
    level: str = "INFO", *, json: bool | None = None, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Set up logging in this process. It replaces every earlier set-up.

    Args:
        level: The name of a level, in upper or lower case.
        json: JSON or logfmt; by default logfmt if `stream` is a terminal.
        secrets: Values to mask: tokens, DSN, notification URLs.
        stream: Where the lines go; by default stderr.

    Raises:
        ValueError: There is no such level.
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
        _shorten_warning,
        structlog.processors.StackInfoRenderer(),
        *([_shorten_outage] if number > logging.DEBUG else []),
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
                *([structlog.processors.JSONRenderer(separators=(",", ":"))] if as_json else [_escape, _LOGFMT]),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _REPORTING:
        logging.getLogger(name).setLevel(logging.INFO if number == logging.WARNING else logging.NOTSET)
    for name in _VERBOSE:
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
        cache_logger_on_first_use=False,  # this call must also apply to existing loggers
    )


def _is_wanted(record: logging.LogRecord, *, level: int) -> bool:
    """Tell whether a line belongs to this level. Celery logs news and routine alike at INFO."""
    if record.levelno != logging.INFO or level <= logging.DEBUG:
        return True
    text = str(record.msg)
    if record.name == "celery.beat" and "Sending due task" in text:
        return False  # the worker logs the result
    if record.name == "celery.app.trace" and level == logging.WARNING and "succeeded" in text:
        return _did_something(record)
    return True


def _did_something(record: logging.LogRecord) -> bool:
    """Tell whether a task did anything: its result contains a number other than zero (see tasks/sweeps.py)."""
    arguments = record.args if isinstance(record.args, dict) else {}
    return bool(re.search("[1-9]", str(arguments.get("return_value"))))


def _shorten_warning(_logger: object, _method: str, event: Event) -> Event:
    """Put a warning of Python on one line, without the line of code that caused it."""
    if event.get("logger") == "py.warnings":
        lines = str(event["event"]).splitlines()
        event["event"] = " ".join(filter(None, lines[:-1] if lines[-1].startswith("  ") else lines))
    return event


def _shorten_outage(_logger: object, _method: str, event: Event) -> Event:
    """Replace the traceback of an outage by its error: the place in a library helps nobody."""
    error = event.get("exc_info")
    outage = _outage_of(error[1] if isinstance(error, tuple) else error, event.get("logger", ""))
    if outage is not None:
        del event["exc_info"]
        event["event"] = str(event["event"]).partition("\n")[0]  # beat appends a whole stack
        event["error"] = f"{type(outage).__name__}: {outage}"
    return event


def _outage_of(error: object, logger: str) -> BaseException | None:
    """Return the error of an outage; None for a fault, or an outage that Redrive's own code should have handled."""
    if logger == "celery.app.trace":
        return error if isinstance(error, RedriveError) else None
    if logger.partition(".")[0] not in _LIBRARIES:
        return None
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:  # a chain of errors can be a circle
        seen.add(id(error))
        names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).mro()]
        if isinstance(error, _OUTAGES) or any(map(_OUTAGE_NAMES.match, names)):
            return error
        error = error.__cause__ or error.__context__
    return None


class _Masking:
    """Masks known secrets, values with the name of a secret, and texts that look like credentials."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._redact = Redactor(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        masked: Event = self._mask(event)
        return {key: masked[key] for key in (*_FIRST, *masked) if key in masked}

    def _mask(self, value: Any) -> Any:
        if isinstance(value, int | float | None):
            return value
        if isinstance(value, dict):
            return {str(key): MASK if is_secret(str(key)) else self._mask(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._mask(item) for item in value]
        text = self._redact(str(value))
        for pattern, mask in _SECRET_TEXT:
            text = pattern.sub(mask, text)
        return text


_LOGFMT = structlog.processors.LogfmtRenderer(bool_as_flag=False)


def _escape(_logger: object, _method: str, event: Event) -> Event:
    """Escape what JSON would escape by itself; logfmt accepts no blanks in a key."""
    return {"_".join(escape(key).split()): escape(value) for key, value in event.items()}


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
