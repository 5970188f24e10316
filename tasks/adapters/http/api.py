"""The sync API: makes a call with `requests` and describes its end as a `SyncResult`."""

from __future__ import annotations

import http.client
import os
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import requests
from urllib3.exceptions import HTTPError

from tasks.adapters.http.connection import GRACE, GuardedAdapter
from tasks.adapters.http.deadline import PREPARING, CallGuard
from tasks.adapters.http.request import prepare_request, secrets_of
from tasks.dlq.calls.api import Answer, SyncResult
from tasks.dlq.clock import boottime
from tasks.dlq.secrets.redactor import Redactor
from tasks.dlq.shortage import missing_resource, shortage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tasks.dlq.calls.api import SyncRequest
    from tasks.dlq.calls.route import Route

#: Threads of a process that may hang after their deadline. While so many hang, no call is made.
_MAX_HUNG_THREADS = 32
#: Characters of a detail.
_MAX_DETAIL = 200
#: Characters of a Retry-After header.
_MAX_RETRY_AFTER = 100


class RequestsSyncApi:
    """The sync API on `requests`. Each process has its own connections.

    Args:
        tokens: bearer token by route name.
        ca_bundle: path of a PEM file or a directory of trusted authorities; those of certifi if None. TLS is always verified.
        clock: returns seconds, and counts also while the machine is suspended.
    """

    def __init__(self, tokens: Mapping[str, str], *, ca_bundle: str | None = None, clock: Callable[[], float] = boottime) -> None:
        self._tokens = tokens
        self._verify = ca_bundle or True
        self._clock = clock
        self._adapters: defaultdict[int, GuardedAdapter] = defaultdict(GuardedAdapter)
        self._guards: list[CallGuard] = []

    def call(self, request: SyncRequest) -> SyncResult:
        """Make one HTTP call; return within the route's deadline plus one second, whatever the server does."""
        began = self._clock()
        return replace(self._call(request, began), seconds=self._clock() - began)

    def close(self) -> None:
        """Close the idle connections of this process."""
        self._adapters[os.getpid()].close()

    def _call(self, request: SyncRequest, began: float) -> SyncResult:
        route = request.route
        self._guards = [guard for guard in self._guards if guard.is_running()]
        if len(self._guards) >= _MAX_HUNG_THREADS:
            return SyncResult(answer=Answer.NOT_SENT, detail=f"not sent: {_MAX_HUNG_THREADS} earlier calls still hang")
        try:
            mask = Redactor(secrets_of(route, self._tokens.get(route.name, "")), truncated=True)
            guard = CallGuard(ends=min(began + route.deadline, request.ends_by), clock=self._clock)
        except MemoryError as error:
            return SyncResult(answer=Answer.NOT_SENT, detail="not sent: no memory", short=shortage_of(error))
        self._guards.append(guard)
        result = guard.run(lambda: self._exchange(request, guard)) or _describe_end(guard, route)
        return replace(result, detail=_one_line(mask(result.detail[: 20 * _MAX_DETAIL])))

    def _exchange(self, request: SyncRequest, guard: CallGuard) -> SyncResult:
        """Send the request and read the answer, on the thread of the call."""
        route = request.route
        prepared = prepare_request(request, self._tokens.get(route.name, ""))
        left = guard.seconds_left()
        timeout = (left / 2, left + GRACE)  # an address that does not answer leaves half of the time for the next one
        adapter = self._adapters[os.getpid()]
        # Leaving the block closes the connection, unless the answer was read to its end.
        with adapter.send(prepared, stream=True, timeout=timeout, verify=self._verify) as response:
            status = response.status_code
            if status < http.HTTPStatus.OK:
                raise http.client.HTTPException(f"interim status {status} instead of a final one")
            guard.status = status
            guard.enter("reading the answer")
            body = _read_body(response.raw, route.max_response_bytes)
        detail = f"HTTP {status}"
        if status not in route.answers.success and response.headers.get("Content-Encoding", "identity") == "identity":
            detail += f" {response.reason or ''}: {body.decode(errors='replace')}"
        retry_after = response.headers.get("Retry-After", "")[:_MAX_RETRY_AFTER] or None
        return SyncResult(answer=Answer.ANSWERED, status=status, retry_after=retry_after, detail=detail)


def _read_body(raw: Any, limit: int) -> bytes:
    """Return the body as it was sent, up to about `limit` bytes. `read1` also bounds a chunk with a negative size."""
    body = bytearray()
    while len(body) < limit and (part := raw.read1(limit - len(body), decode_content=False)):
        body += part
    return bytes(body)


def _describe_end(guard: CallGuard, route: Route) -> SyncResult:
    """Return the result of a call without a complete answer."""
    error = guard.error
    shortage = "" if guard.sent else shortage_of(error) or ("" if guard.started else missing_resource())
    if error or shortage:
        cause = _root_cause(error)
        network = guard.phase != PREPARING and isinstance(cause, OSError | http.client.HTTPException | HTTPError)
        answer = Answer.NETWORK if guard.sent or (network and not shortage) else Answer.NOT_SENT
        detail = f"{guard.phase}: {shortage or f'{type(cause).__name__}: {cause}'}"
    else:
        status = f" (HTTP {guard.status})" if guard.status else ""
        answer = Answer.DEADLINE
        detail = f"no complete answer{status} within {route.deadline:g} s: gave up while {guard.phase}"
    return SyncResult(answer=answer, status=guard.status, detail=detail, unknown=guard.sent, short=shortage)


def _root_cause(error: BaseException | None) -> BaseException | None:
    """Return the error that `requests` and `urllib3` have wrapped."""
    while isinstance(error, requests.RequestException | HTTPError) and (inner := error.__cause__ or error.__context__):
        error = inner
    return error


def _one_line(text: str) -> str:
    """Return `text` on one printable line of at most 200 characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 10 * _MAX_DETAIL]).split()).rstrip(": ")
    return line if len(line) <= _MAX_DETAIL else line[: _MAX_DETAIL - 1] + "…"
