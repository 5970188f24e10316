"""The sync API: prepares a call, runs it on a thread of its own, and makes a `SyncResult` of whatever happens."""

from __future__ import annotations

import http.client
import json
import os
from _thread import start_new_thread
from collections import deque
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError

from tasks.adapters.http.session import GRACE, NOT_YET, CutError, Line, Session, active
from tasks.dlq.calls.api import Answer, SyncResult
from tasks.dlq.calls.url import expand, variables
from tasks.dlq.clock import boottime
from tasks.dlq.secrets.names import document_secrets, header_secrets, query_secrets
from tasks.dlq.secrets.redactor import Redactor
from tasks.dlq.shortage import missing_resource, shortage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tasks.dlq.calls.api import SyncRequest
    from tasks.dlq.calls.route import Route

#: Seconds between looks at the clock, which goes on while the machine is suspended: an event's own time-out does not.
_TICK = 0.5
#: Seconds that an idle connection is kept: less than servers and gateways on the way do, so that it is rarely stale.
_KEEP_ALIVE = 15.0
#: Threads that hang after their deadline, in a process. While there are that many nothing is sent.
_MAX_STRAYS = 32
#: Characters of a detail.
_MAX_DETAIL = 200
#: A value of at least so many characters, in a header or under a secret's name in the URL, may be an API key.
_SECRET = 8
_USER_AGENT = f"redrive/{version('redrive')}"


class RequestsSyncApi:
    """The sync API, by requests. Connections are kept per route and process, and shared by nobody while a call uses them.

    Args:
        tokens: bearer token by route name.
        ca_bundle: path of a PEM file or directory of trusted authorities; certifi's when None. TLS is always verified.
        clock: returns seconds, counted while the machine is suspended too.
    """

    def __init__(self, tokens: Mapping[str, str], *, ca_bundle: str | None = None, clock: Callable[[], float] = boottime) -> None:
        self._tokens = tokens
        self._verify = ca_bundle or True
        self._clock = clock
        self._idle: dict[tuple[int, str], deque[tuple[Session, float]]] = {}
        self._strays: list[Line] = []

    def call(self, request: SyncRequest) -> SyncResult:
        """Make one HTTP call; return within the route's deadline plus one second, whatever the server does."""
        began = self._clock()
        return replace(self._call(request, began), seconds=self._clock() - began)

    def close(self) -> None:
        """Close the idle connections of this process."""
        for (process, _), sessions in list(self._idle.items()):
            while process == os.getpid() and sessions:
                sessions.pop()[0].close()

    def _call(self, request: SyncRequest, began: float) -> SyncResult:
        route = request.route
        try:
            redact = self._redactor(route)
            try:
                prepared = self._prepare(request)
            except ValueError as error:
                return SyncResult(answer=Answer.NOT_SENT, detail=_safe(f"not sent: {error}", redact))
            self._strays = [stray for stray in self._strays if not stray.ended.is_set()]
            if len(self._strays) >= _MAX_STRAYS:
                return SyncResult(answer=Answer.NOT_SENT, detail=f"not sent: {_MAX_STRAYS} earlier calls still hang")
            line = Line(prepared.path_url, redact=redact, ends=min(began + route.deadline, request.ends_by), clock=self._clock)
        except Exception as error:
            if missing := shortage_of(error):
                return _not_sent(missing)
            raise
        return self._wait_for(line, prepared, route)

    def _wait_for(self, line: Line, prepared: requests.PreparedRequest, route: Route) -> SyncResult:
        """Have a thread make the call, until it ends or its deadline comes."""
        short = ""
        try:
            # Not `threading.Thread`: its start() waits for ever for a thread that the system let begin, but gave no memory.
            start_new_thread(self._run, (line, prepared, route))
            while (left := line.left()) > 0 and not line.ended.wait(min(left, _TICK)):
                pass
        except (RuntimeError, MemoryError) as error:  # there is no thread, or no memory to wait with
            short = shortage_of(error) or str(error)
        finally:  # also when a signal ends the task: nothing is sent behind its back
            result = line.cut()
        return result or self._given_up(line, route, short)

    def _given_up(self, line: Line, route: Route, short: str) -> SyncResult:
        """Return what is known of a call that has been cut. Whether it was sent is settled by now: `Line.cut`."""
        died = line.ended.is_set() and line.left() > 0  # its thread could not even say how it ended
        if not short and (died or not line.begun):
            short = missing_resource()
        if line.begun and not (line.ended.is_set() if short else line.ended.wait(GRACE)):
            self._strays.append(line)
        if short and not line.sent:
            return _not_sent(short)
        if died and not line.sent:
            return SyncResult(answer=Answer.NOT_SENT, detail=f"not sent: the call broke off while {line.phase}")
        said = f" (HTTP {line.status})" if line.status else ""
        why = short or f"no complete answer{said} within {route.deadline:g} s"
        detail = f"{why}: gave up while {line.phase}"
        return SyncResult(answer=Answer.DEADLINE, status=line.status, detail=detail, unknown=line.sent)

    def _prepare(self, request: SyncRequest) -> requests.PreparedRequest:
        """Return what is sent. Raises ValueError with a message that holds no secret."""
        route = request.route
        in_url = variables(route.url) if route.body else request.parameters.keys()
        url = expand(route.url, {name: value for name, value in request.parameters.items() if name in in_url})
        body = route.body.render(request.parameters) if route.body else None
        headers = CaseInsensitiveDict({
            "User-Agent": _USER_AGENT,
            **route.headers,
            "Accept-Encoding": "identity",
            "Redrive-Job": str(request.job_id),
            "Redrive-Attempt": str(request.attempt),
            "Redrive-Fence": str(request.fence),
        })  # fmt: skip
        if token := self._tokens.get(route.name):
            headers["Authorization"] = f"Bearer {token}"
        try:
            prepared = requests.Request(route.method, url, headers, data=body).prepare()
        except (ValueError, requests.RequestException) as error:  # their messages hold the header's value
            raise ValueError(f"requests takes neither method nor headers as they are ({type(error).__name__})") from None
        if prepared.url != url.replace(urlsplit(url).netloc, urlsplit(url).netloc.lower(), 1):
            raise ValueError(f"requests would send {prepared.url} for {url}")
        return prepared

    def _redactor(self, route: Route) -> Redactor:
        """Return what masks in a detail what an API was sent: it may say so, in any spelling."""
        own = [*header_secrets(route.headers), *query_secrets(route.url)]
        own += document_secrets(json.loads(route.body.text)) if route.body else ()
        values = [self._tokens.get(route.name, ""), *(value for value in own if len(value) >= _SECRET)]
        return Redactor(values, truncated=True)

    def _run(self, line: Line, prepared: requests.PreparedRequest, route: Route) -> None:
        """Make the call on the present thread; `line` takes the result unless the deadline was first."""
        session = None
        keep = False
        try:
            line.begin()
            active.line = line
            session = self._borrow(route.name)
            result = self._exchange(session, line, prepared, route)
            keep = line.finish(result)
        except CutError:
            pass
        except Exception as error:  # noqa: BLE001 - whatever a server makes requests raise ends as a result
            if line.left() > 0:  # else it is the deadline's: a read that timed out before this call was cut
                line.finish(_failure(line, error))
        finally:
            try:
                if session and keep:
                    self._idle[os.getpid(), route.name].append((session, self._clock()))
                elif session:
                    session.close()
            finally:
                line.release()

    def _borrow(self, route: str) -> Session:
        idle = self._idle.setdefault((os.getpid(), route), deque())
        with suppress(IndexError):
            while True:
                session, since = idle.pop()
                if self._clock() - since < _KEEP_ALIVE:
                    return session
                session.close()
        return Session()

    def _exchange(self, session: Session, line: Line, prepared: requests.PreparedRequest, route: Route) -> SyncResult:
        timeout = route.deadline + GRACE
        with session.send(prepared, stream=True, timeout=timeout, verify=self._verify) as response:
            line.status, line.phase = response.status_code, "reading the answer"
            if line.status < http.HTTPStatus.OK:
                raise http.client.HTTPException(f"an interim answer ({line.status}) where the final one belongs")
            body = bytearray()
            while len(body) < route.max_response_bytes:
                some = response.raw.read(route.max_response_bytes - len(body), decode_content=False)
                if not some:
                    break
                body += some
        detail = f"HTTP {line.status}"
        if line.status not in route.answers.success and response.headers.get("Content-Encoding", "identity") == "identity":
            detail += f" {response.reason or ''}: {body.decode(errors='replace')}"
        return SyncResult(
            answer=Answer.ANSWERED,
            status=line.status,
            retry_after=response.headers.get("Retry-After", "")[:100] or None,
            detail=_safe(detail, line.redact).rstrip(": "),
        )


def _failure(line: Line, error: Exception) -> SyncResult:
    """Return what a call that raised means: a failure here before anything was looked up, or one of the network."""
    root: BaseException = error
    while isinstance(root, requests.RequestException | HTTPError) and not isinstance(root, http.client.HTTPException):
        inner = root.__cause__ or root.__context__
        if inner is None:
            break
        root = inner
    missing = "" if line.sent else shortage_of(error)
    outside = not missing and isinstance(root, OSError | http.client.HTTPException | HTTPError) and line.phase != NOT_YET
    return SyncResult(
        answer=Answer.NETWORK if outside or line.sent else Answer.NOT_SENT,
        status=line.status,
        detail=_safe(f"{line.phase}: {missing or f'{type(root).__name__}: {root}'}", line.redact),
        unknown=line.sent,
        short=missing,
    )


def _not_sent(missing: str) -> SyncResult:
    return SyncResult(answer=Answer.NOT_SENT, detail=f"not sent: {missing}", short=missing)


def _safe(text: str, redact: Callable[[str], str]) -> str:
    """Return `text` on one printable line of at most 200 characters, without secrets."""
    text = redact(text[: 20 * _MAX_DETAIL])[: 10 * _MAX_DETAIL]
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _MAX_DETAIL else line[: _MAX_DETAIL - 1] + "…"
