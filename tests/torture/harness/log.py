"""Append-only logs of JSON lines, stamped by the machine's monotonic clock, which nobody moves and all processes share."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Log:
    """One file. A line is with the system once `write` returns."""

    def __init__(self, file: Path) -> None:
        self._lines = file.open("a", buffering=1)
        self._lock = threading.Lock()

    def write(self, **facts: Any) -> None:
        with self._lock:
            self._lines.write(json.dumps({"at": time.monotonic(), **facts}) + "\n")

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield a log's lines; none when there is no such file."""
    if file.exists():
        with file.open() as text:
            yield from map(json.loads, text)
