"""Logging for all processes: one line an event, UTC, on stderr; for people on a terminal, JSON for machines.

structlog's and the standard library's loggers (Celery's, kombu's, Redrive's own) end in the same handler. A value can hold
whatever a stranger put into a message, so control characters are escaped: no value can forge a line or steer a terminal.
"""

from __future__ import annotations

import json as json_codec
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping
    from typing import TextIO

    from structlog.typing import Processor

    Event = MutableMapping[str, Any]

MASK = "***"
#: What these libraries log below WARNING holds requests whole: bodies, signatures, the tokens in a URL's path.
_TALKATIVE = ("alembic", "apprise", "boto3", "botocore", "kombu", "requests", "s3transfer", "urllib3")
_SECRET_NAME = re.compile(r"(?i)(^|[_.-])(authorization|cookie|credentials?|dsn|passw(or)?d|secret|token|api_?key)($|[_.-])")
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
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _Redactor(secrets),
                _json_line if as_json else _text_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
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


class _Redactor:
    """Masks known secrets anywhere, values under a secret's name, and what looks like credentials."""

    def __init__(self, secrets: Iterable[str]) -> None:
        parts = {part for secret in secrets for part in (secret, *re.split(r"[\s,]+", secret))}  # a list of URLs is many secrets
        known = sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        return {key: MASK if _SECRET_NAME.search(key) else self._clean(value) for key, value in event.items()}

    def _clean(self, value: Any) -> Any:
        if isinstance(value, int | float | bool | None):
            return value
        if isinstance(value, dict):
            return {str(key): MASK if _SECRET_NAME.search(str(key)) else self._clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        text = str(value)
        if self._known:
            text = self._known.sub(MASK, text)
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
