from __future__ import annotations

import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from doubles.hostile_server import OK, HostileServer, Peer, after_request, answer
from http_calls import CHUNKED, HEAD, call_in_time, request, server_tls
from ledger_bench import A, B, a_letter
from requests.adapters import HTTPAdapter
from sqlalchemy import select
from stopped_worker import DEADLINE as STOPPED_DEADLINE
from stopped_worker import START
from waiting import TEST_TIMEOUT

from tasks.adapters.http import RequestsSyncApi
from tasks.adapters.http.deadline import CallCutError, CallGuard
from tasks.dlq.calls.api import Answer, SyncResult
from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.dead_letters import record_dead_letters
from tasks.dlq.ledger.schema import jobs, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

WORKER = Path(__file__).with_name("stopped_worker.py")
DEADLINE = 0.6

# --- slow servers ----------------------------------------------------------------------------------------------------

SLOW: dict[str, Callable[[Peer], None]] = {
    "silence": Peer.hang,
    "silence after the request": after_request(Peer.hang),
    "half a status line": after_request(Peer.hang, b"HTTP/1.1 2"),
    "half the headers": after_request(Peer.hang, HEAD + b"Content-Le"),
    "no body after the headers": after_request(Peer.hang, HEAD + b"Content-Length: 9\r\n\r\n"),
    "no end of the body": after_request(Peer.hang, HEAD + b"Connection: close\r\n\r\nok"),
    "no end of the chunks": after_request(Peer.hang, CHUNKED + b"2\r\nok\r\n"),
    "a dripping status line": after_request(Peer.drip),
    "dripping headers": after_request(lambda peer: peer.drip(b"X-Drip: 1\r\n"), HEAD),
    "a dripping body": after_request(Peer.drip, HEAD + b"Content-Length: 9999\r\n\r\n"),
    "a dripping body until the close": after_request(Peer.drip, HEAD + b"Connection: close\r\n\r\n"),
    "dripping chunks": after_request(lambda peer: peer.drip(b"1\r\nx\r\n"), CHUNKED),
    "dripping trailers": after_request(lambda peer: peer.drip(b"X-Drip: 1\r\n"), CHUNKED + b"0\r\n"),
    "interim answers without end": after_request(lambda peer: peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "a flood of interim answers": after_request(lambda peer: peer.flood(b"HTTP/1.1 100 Continue\r\n\r\n")),
}


@pytest.mark.parametrize(
    ("name", "scheme"), [*((name, "http") for name in SLOW), *((name, "https") for name in SLOW if "body" in name)]
)
def test_a_slow_server_is_cut_off_at_the_deadline(http_api: RequestsSyncApi, name: str, scheme: str):
    with HostileServer(SLOW[name], tls=server_tls() if scheme == "https" else None) as server:
        deadline = DEADLINE if scheme == "http" else 2 * DEADLINE
        result = call_in_time(http_api, request(server.url(scheme=scheme), deadline=deadline))
        assert (result.answer, result.unknown) == (Answer.DEADLINE, True)
        assert result.detail.startswith("no complete answer")
        assert server.gone.wait(TEST_TIMEOUT)  # the connection is closed


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x03", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["silence", "half a record", "no TLS"])
def test_a_server_that_never_agrees_on_tls(http_api: RequestsSyncApi, first: bytes):
    def script(peer: Peer) -> None:
        peer.send(first)
        peer.hang()

    with HostileServer(script) as server:
        result = call_in_time(http_api, request(server.url(scheme="https"), deadline=DEADLINE))
        assert server.gone.wait(TEST_TIMEOUT)
    assert result.answer is (Answer.NETWORK if first.startswith(b"HTTP") else Answer.DEADLINE)
    assert not result.unknown
    assert "agreeing on TLS" in result.detail


def test_a_dripping_tls_handshake(http_api: RequestsSyncApi):
    with HostileServer(lambda peer: peer.drip(b"\x16\x03\x03\x3f\xff" + b"\0" * 0x3FFF)) as server:
        result = call_in_time(http_api, request(server.url(scheme="https"), deadline=DEADLINE))
        assert server.gone.wait(TEST_TIMEOUT)
    assert (result.answer, result.unknown) == (Answer.DEADLINE, False)


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that answers no packet: its backlog is full, and the kernel drops every further connection."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_a_server_that_never_accepts(http_api: RequestsSyncApi, black_hole: tuple[str, int]):
    result = call_in_time(http_api, request(f"http://127.0.0.1:{black_hole[1]}/{{employeeId}}", deadline=DEADLINE))
    assert (result.answer, result.unknown) == (Answer.NETWORK, False)
    assert result.detail == f"connecting to 127.0.0.1:{black_hole[1]}: TimeoutError: timed out"


def test_an_address_that_never_accepts_leaves_time_for_the_next(
    http_api: RequestsSyncApi, black_hole: tuple[str, int], monkeypatch: pytest.MonkeyPatch
):
    with HostileServer(answer(OK)) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
        closed.close()
        targets = (refusing, black_hole, ("127.0.0.1", server.port))
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", target) for target in targets]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        assert http_api.call(request("http://company.test/{employeeId}", deadline=2)).status == 200


def test_nothing_is_sent_after_a_name_lookup_that_hung(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    resolved, look_up = threading.Event(), socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        resolved.wait(TEST_TIMEOUT)
        return look_up(*args, **kwargs)

    with HostileServer(answer(OK)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        result = call_in_time(http_api, request(server.url(host="localhost"), deadline=DEADLINE))
        assert (result.answer, result.unknown) == (Answer.DEADLINE, False)
        assert result.detail.endswith(f"gave up while connecting to localhost:{server.port}")
        resolved.set()
        assert server.gone.wait(TEST_TIMEOUT)  # the thread has connected, and closed the connection
        assert server.requests == []
        assert http_api.call(request(server.url())).status == 200


def test_the_number_of_hanging_threads_is_bounded(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    resolved = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        resolved.wait(120)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    call = request("http://localhost:1/{employeeId}", deadline=0.05)
    answers = [call_in_time(http_api, call).answer for _ in range(33)]
    assert answers == [Answer.DEADLINE] * 32 + [Answer.NOT_SENT]
    resolved.set()
    until = time.monotonic() + 5
    while http_api.call(call).answer is Answer.NOT_SENT:
        assert time.monotonic() < until, "the threads have ended"


class InterruptionError(BaseException):
    """Raised by a signal handler, as Celery raises SoftTimeLimitExceeded."""


# --- time and interruption -------------------------------------------------------------------------------------------


def test_time_in_suspension_counts():
    """The machine sleeps for an hour in the middle of a call: the clock jumps, although no timer has run."""
    asleep = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        asleep.set()
        peer.hang()

    api = RequestsSyncApi({}, clock=lambda: time.monotonic() + (3600 if asleep.is_set() else 0))
    with HostileServer(script) as server:
        began = time.monotonic()
        result = api.call(request(server.url(), deadline=60))
        assert time.monotonic() - began < 5
    assert (result.answer, result.unknown) == (Answer.DEADLINE, True)
    assert result.seconds > 3600


def test_a_failure_after_the_deadline_is_the_deadlines():
    """On a busy machine the thread of the call may run before the thread that would cut it."""
    late = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        late.set()
        peer.reset()

    api = RequestsSyncApi({}, clock=lambda: time.monotonic() + (3600 if late.is_set() else 0))
    with HostileServer(script) as server:
        result = api.call(request(server.url(), deadline=60))
    assert (result.answer, result.unknown) == (Answer.DEADLINE, True)


def test_a_call_that_a_signal_interrupts_is_cut(http_api: RequestsSyncApi):
    def interrupt(*_: object) -> None:
        raise InterruptionError

    before = signal.signal(signal.SIGUSR2, interrupt)
    try:
        with HostileServer(after_request(lambda peer: (os.kill(os.getpid(), signal.SIGUSR2), peer.hang())[1])) as server:
            with pytest.raises(InterruptionError):
                http_api.call(request(server.url(), deadline=60))
            assert server.gone.wait(TEST_TIMEOUT)  # the client has closed the connection
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_nothing_is_sent_after_a_signal_has_interrupted_the_call(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    interrupted, look_up = threading.Event(), socket.getaddrinfo

    def interrupt(*_: object) -> None:
        raise InterruptionError

    def hang(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGUSR2)
        interrupted.wait(TEST_TIMEOUT)
        return look_up(*args, **kwargs)

    before = signal.signal(signal.SIGUSR2, interrupt)
    try:
        with HostileServer(answer(OK)) as server:
            monkeypatch.setattr(socket, "getaddrinfo", hang)
            with pytest.raises(InterruptionError):
                http_api.call(request(server.url(), deadline=60))
            interrupted.set()
            assert server.gone.wait(TEST_TIMEOUT)  # the thread has connected, and closed the connection
            assert server.requests == []
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_cut_call_enters_no_other_phase():
    guard = CallGuard(ends=time.monotonic() + 0.05, clock=time.monotonic)
    refused = threading.Event()
    mine, theirs = socket.socketpair()

    def make_call() -> SyncResult:
        guard.enter("connecting", mine)
        assert mine.recv(1) == b""  # the cut shuts the socket down
        with pytest.raises(CallCutError):
            guard.enter("sending", mine, sending=True)
        refused.set()
        return SyncResult(answer=Answer.ANSWERED, status=200)

    with mine, theirs:
        assert guard.run(make_call) is None
        assert refused.wait(TEST_TIMEOUT)
        assert theirs.recv(1) == b""
    assert not guard.sent


def test_a_result_that_came_before_the_cut_counts():
    now = [0.0]
    result = SyncResult(answer=Answer.ANSWERED, status=200)

    def make_call() -> SyncResult:
        now[0] = 100.0
        return result

    assert CallGuard(ends=1.0, clock=lambda: now[0]).run(make_call) is result


# --- shortage --------------------------------------------------------------------------------------------------------


@contextmanager
def free_descriptors(free: int) -> Iterator[None]:
    """Let this process open `free` more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("free", [0, 1], ids=["none for the socket", "none for its duplicate"])
def test_a_call_without_a_file_descriptor_was_not_sent(http_api: RequestsSyncApi, free: int):
    with HostileServer(answer(OK)) as server:
        with free_descriptors(free):
            result = call_in_time(http_api, request(server.url()))
        assert server.requests == []
    assert (result.answer, result.unknown) == (Answer.NOT_SENT, False)
    assert "no more files" in result.short
    assert "no more files" in result.detail


def test_a_call_whose_thread_does_not_begin_says_what_is_missing(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    """The system may create a thread and then have no memory to run it."""
    monkeypatch.setattr("tasks.adapters.http.deadline.start_new_thread", lambda *_: None)
    with free_descriptors(0):
        result = call_in_time(http_api, request("http://127.0.0.1:1/employees/{employeeId}", deadline=DEADLINE))
    assert (result.answer, result.unknown) == (Answer.NOT_SENT, False)
    assert "no more files" in result.short


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=repr)
def test_a_call_without_a_thread_was_not_sent(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("tasks.adapters.http.deadline.start_new_thread", fail)
    results = [call_in_time(http_api, request("http://127.0.0.1:1/employees/{employeeId}")) for _ in range(40)]
    assert {(result.answer, result.unknown, bool(result.short)) for result in results} == {(Answer.NOT_SENT, False, True)}
    assert "hang" not in results[-1].detail


def test_a_call_without_memory_was_not_sent(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(HTTPAdapter, "send", fail)
    result = call_in_time(http_api, request("http://127.0.0.1:1/employees/{employeeId}"))
    assert (result.answer, result.unknown, result.short) == (Answer.NOT_SENT, False, "this process gets no more memory")


def test_a_call_whose_memory_ends_after_it_was_sent_has_an_unknown_end(
    http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", fail)
    with HostileServer(answer(OK)) as server:
        result = call_in_time(http_api, request(server.url()))
    assert (result.answer, result.unknown, result.short) == (Answer.NETWORK, True, "")


def test_a_thread_that_begins_after_the_deadline_does_nothing(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    late: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
    monkeypatch.setattr("tasks.adapters.http.deadline.start_new_thread", lambda *call: late.append(call))
    with HostileServer(answer(OK)) as server:
        result = call_in_time(http_api, request(server.url(), deadline=DEADLINE))
        assert (result.answer, result.unknown) == (Answer.DEADLINE, False)
        [(run, arguments)] = late
        run(*arguments)
    assert (server.accepted, server.requests) == (0, [])


# --- a worker that is stopped between its claim and its call ---------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    metadata.create_all(ledger.engine)
    yield ledger
    ledger.close()


def put_due(ledger: Ledger, *keys: str) -> None:
    ledger.transact(lambda tx: record_dead_letters(tx, [a_letter(key) for key in keys], delays={"employees": 0.0}))


def rows(ledger: Ledger) -> list[Mapping[str, Any]]:
    with ledger.begin(read_only=True) as tx:
        return list(tx.connection.execute(select(jobs).order_by(jobs.c.id)).mappings())


def work(ledger: Ledger, server: HostileServer, edge: str) -> None:
    """Run a worker to its end. If it stops on its way, let it go on after the deadline of its call."""
    command = [sys.executable, str(WORKER), str(ledger.engine.url), server.url(), "1", edge]
    with subprocess.Popen(command) as worker:
        try:
            seen = os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert seen is not None
            if edge != "never":
                assert seen.si_code == os.CLD_STOPPED
                time.sleep(START + STOPPED_DEADLINE + 0.2)  # the deadline passes while the process is stopped
                worker.send_signal(signal.SIGCONT)
            assert worker.wait(TEST_TIMEOUT) == 0
        finally:
            worker.kill()


def test_a_worker_that_is_not_stopped_calls(ledger: Ledger):
    put_due(ledger, A, B)
    with HostileServer(answer(OK)) as server:
        work(ledger, server, "never")
    assert len(server.requests) == 2
    assert [row["state"] for row in rows(ledger)] == ["completed", "completed"]


@pytest.mark.parametrize(
    ("edge", "outcome", "connected"),
    [
        ("claimed", "not_sent", 0),
        ("about to prepare", "deadline", 0),
        ("about to connect", "deadline", 0),
        ("about to send", "deadline", 1),
    ],
)
def test_a_worker_that_was_stopped_for_too_long_sends_nothing(ledger: Ledger, edge: str, outcome: str, connected: int):
    put_due(ledger, A)
    with HostileServer(answer(OK)) as server:
        work(ledger, server, edge)
    assert (server.accepted, server.requests) == (connected, [])
    (job,) = rows(ledger)
    assert (job["state"], job["calls"], job["outcome"], job["rest_until"]) == ("retryable", 1, outcome, None)


def test_a_stopped_worker_sends_nothing_on_a_kept_connection(ledger: Ledger):
    put_due(ledger, A, B)
    with HostileServer(answer(OK)) as server:
        work(ledger, server, "about to send the second call")
    assert (server.accepted, len(server.requests)) == (1, 1)
    assert [row["state"] for row in rows(ledger)] == ["completed", "retryable"]
