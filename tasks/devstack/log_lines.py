"""Formats the log lines of child processes for people."""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

_STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}
#: Loggers of Celery that report every message. Their info lines are hidden, because Redrive logs its own result.
_VERBOSE_LOGGERS = {"celery.app.trace", "celery.beat", "celery.worker.strategy"}


def format_line(line: str) -> Text | None:
    """Return the text for a line, or None for a line to hide. A JSON line becomes its event and facts.

    Control characters are escaped, so that no line can change the terminal.
    """
    record = _parse_record(line)
    if not line.strip():
        return None
    if record is None:
        return Text(_escape(line.rstrip()))
    level = record.pop("level", "info")
    if level == "info" and record.get("logger") in _VERBOSE_LOGGERS:
        return None
    event, exception = str(record.pop("event")), str(record.pop("exception", ""))
    facts = [f"{name}={_format_value(value)}" for name, value in record.items() if name not in {"timestamp", "logger"}]
    first, *more = [_escape(part) for part in (" ".join([event, *facts]), *exception.splitlines())]
    return Text("\n    ".join([first, *more]), style=_STYLES.get(level, ""))


def _parse_record(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _format_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _escape(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
