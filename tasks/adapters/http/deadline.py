"""The total deadline of one call.

`requests` limits the time of each read alone, so a server that sends one byte a second passes every timeout. A name lookup
has no timeout at all. So each call runs on its own thread, and the waiting thread cuts the call at its deadline.
"""

from __future__ import annotations

import math
import socket
import threading
from _thread import start_new_thread
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.dlq.calls.api import SyncResult

#: Seconds between two looks at the clock. The clock counts while the machine is suspended; the timeout of an event does not.
_CLOCK_INTERVAL = 0.5
PREPARING = "preparing the call"


class CallCutError(Exception):
    """The call is over: it must not connect or send any more."""


class CallGuard:
    """Runs one call on its own thread and cuts it at its deadline.

    The guard keeps a duplicate of the socket's descriptor. `ssl` detaches the original socket before the handshake, and
    `http.client` closes it before the body is read. Only the guard closes the duplicate, under its lock. So it never shuts
    down a descriptor that meanwhile belongs to another file.

    Attributes:
        phase: what the call is doing, in words.
        started: whether the thread of the call has begun.
        sent: whether the call may have sent something.
        status: the HTTP status, once it is known.
        error: what ended the call before its deadline and without a result.
    """

    def __init__(self, *, ends: float, clock: Callable[[], float]) -> None:
        self.phase = "waiting for a thread"
        self.started = False
        self.sent = False
        self.status: int | None = None
        self.error: Exception | None = None
        self._ends = ends
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended_at = -math.inf
        self._socket: socket.socket | None = None
        self._result: SyncResult | None = None
        self._cut = False

    def seconds_left(self) -> float:
        """Return the seconds until the deadline."""
        return self._ends - self._clock()

    def is_running(self) -> bool:
        """Return whether the thread of the call has begun and not ended."""
        return self.started and not self._ended.is_set()

    def seconds_since_end(self) -> float:
        """Return the seconds since the thread of the call ended; infinite before."""
        return self._clock() - self._ended_at

    def run(self, make_call: Callable[[], SyncResult]) -> SyncResult | None:
        """Run `make_call` on a new thread until it ends or the deadline passes. Return None if there is no result."""
        try:
            # `threading.Thread.start` waits for ever if the system creates the thread but then has no memory for it.
            start_new_thread(self._run_thread, (make_call,))
            while (left := self.seconds_left()) > 0 and not self._ended.wait(min(left, _CLOCK_INTERVAL)):
                pass
        except (RuntimeError, MemoryError) as error:  # no thread, or no memory to wait with
            self.error = error
        finally:  # also when a signal interrupts the task
            with self._lock:
                self._cut = True
                result = self._result  # before the shutdown, which can look like the end of an answer
                if self._socket:
                    with suppress(OSError):  # the socket is not connected
                        self._socket.shutdown(socket.SHUT_RDWR)
        return result

    def enter(self, phase: str, sock: socket.socket | None = None, *, sending: bool = False) -> None:
        """Begin the next phase of the call, on `sock` from now on. Raises CallCutError when the call is over."""
        with self._lock:
            # A suspended process may pass the deadline, and this thread may then run first: it must not rely on the cut.
            if self._cut or self.seconds_left() <= 0:
                raise CallCutError
            if sock:
                self._close_socket()
                self._socket = socket.fromfd(sock.fileno(), sock.family, sock.type)
            self.phase, self.sent = phase, self.sent or sending

    def _run_thread(self, make_call: Callable[[], SyncResult]) -> None:
        try:
            self.enter(PREPARING)
            self.started = True
            current_guard.set(self)
            self._result = make_call()
        except Exception as error:  # noqa: BLE001 - the waiting thread makes a result of it
            if self.seconds_left() > 0:  # else the deadline is the cause of the error
                self.error = error
        finally:
            with self._lock:
                self._close_socket()
            self._ended_at = self._clock()
            self._ended.set()

    def _close_socket(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None


#: The guard of the call that the current thread makes. `urllib3` cannot pass it on to a connection.
current_guard: ContextVar[CallGuard] = ContextVar("current_guard")
