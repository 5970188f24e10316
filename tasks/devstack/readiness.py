"""Waiting until processes are there: by what they say, or by HTTP."""

from __future__ import annotations

import http.client
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tasks.devstack.processes import Processes

#: Seconds that everything gets to start on a busy machine.
PATIENCE = 90.0


class Readiness:
    """What is still awaited.

    `lines` has a piece of the line that each process says when it is there; `ports` are those of HTTP servers, with a path that
    answers 200; `also` returns what else is missing; `told` is called with all that is missing while it waits. `heard` is for
    `Processes`.
    """

    def __init__(
        self,
        lines: Mapping[str, str],
        ports: Mapping[str, tuple[int, str]],
        *,
        also: Callable[[], Iterable[str]] = lambda: (),
        told: Callable[[Sequence[str]], None] = lambda _missing: None,
        where: str = "above",
    ) -> None:
        self._lines = dict(lines)
        self._ports = dict(ports)
        self._also = also
        self._told = told
        self._where = where

    def heard(self, name: str, line: str) -> None:
        """Take note of a line that a process wrote."""
        if name in self._lines and self._lines[name] in line:
            del self._lines[name]

    def wait(self, processes: Processes) -> None:
        """Return when all are there.

        Raises:
            OutOfReach: one has ended, or they take too long.
        """
        patience = time.monotonic() + PATIENCE
        while missing := self._missing():
            if ended := processes.ended():
                raise OutOfReach(f"{ended} at its start", hint=f"what it said is {self._where}")
            if time.monotonic() > patience:
                raise OutOfReach(f"not ready in {PATIENCE:.0f} s: {', '.join(missing)}", hint=f"what they said is {self._where}")
            self._told(missing)
            time.sleep(0.1)

    def _missing(self) -> list[str]:
        for name in [name for name, (port, path) in self._ports.items() if _answers(port, path)]:
            del self._ports[name]
        return sorted([*self._lines, *self._ports, *self._also()])


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
