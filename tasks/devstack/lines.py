"""What a person reads of the lines that child processes write: JSON log lines as text, and nothing twice."""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}
#: What Celery says of every message that goes well; what Redrive did with it, Redrive tells itself.
_CHATTER = {"celery.app.trace", "celery.beat", "celery.worker.strategy"}


def readable(line: str) -> Text | None:
    """Return a line for people; None for one that tells them nothing. Nothing in it can steer the terminal."""
    record = _record(line)
    if not line.strip():
        return None
    if record is None:
        return Text(_printable(line.rstrip()))
    level = record.pop("level", "info")
    if level == "info" and record.get("logger") in _CHATTER:
        return None
    event, exception = str(record.pop("event")), str(record.pop("exception", ""))
    facts = [f"{name}={_value(value)}" for name, value in record.items() if name not in {"timestamp", "logger"}]
    first, *more = [_printable(part) for part in (" ".join([event, *facts]), *exception.splitlines())]
    return Text("\n    ".join([first, *more]), style=STYLES.get(level, ""))


def _record(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
