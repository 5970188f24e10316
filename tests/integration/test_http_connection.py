from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from doubles.hostile_server import OK, HostileServer, Peer, after_request, answer, status
from http_calls import CHUNKED, HEAD, PEM, TOKEN, call_in_time, header, request, server_tls
from waiting import TEST_TIMEOUT

from tasks.adapters.http import RequestsSyncApi
from tasks.dlq.calls.api import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT_DEADLINE = 0.6


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def serve(script: Callable[[Peer], None], scheme: str) -> HostileServer:
    return HostileServer(script, tls=server_tls() if scheme == "https" else None)


def padded(size: int, end: bytes = b"Content-Length: 2\r\n\r\nok") -> bytes:
    """Return an answer of `size` bytes. `http.client` reads 8192 bytes at once."""
    return HEAD + b"X-Pad: " + b"p" * (size - len(HEAD + end) - 9) + b"\r\n" + end


# --- when a connection is used again ---------------------------------------------------------------------------------


def test_a_connection_is_used_again(http_api: RequestsSyncApi, scheme: str):
    answers = [
        OK,
        status(204),
        status(304),
        status(503, b"busy"),
        CHUNKED + b"2 ; x=y\r\nok\r\n0\r\nX: y\r\n\r\n",
        padded(8192),
        padded(8193),
        padded(20_000),
        OK,
    ]
    with serve(answer(*answers), scheme) as server:
        statuses = [http_api.call(request(server.url(scheme=scheme))).status for _ in answers]
    assert statuses == [200, 204, 304, 503, 200, 200, 200, 200, 200]
    assert server.accepted == 1


def test_an_idle_connection_is_kept_for_15_seconds():
    now = [0.0]
    api = RequestsSyncApi({}, clock=lambda: now[0])
    with HostileServer(answer(OK)) as server:
        for moment in (0, 14, 28, 50):
            now[0] = moment
            assert api.call(request(server.url())).status == 200
        api.close()
    assert server.accepted == 2


def test_close_closes_the_idle_connections(scheme: str):
    api = RequestsSyncApi({}, ca_bundle=str(PEM))
    with serve(answer(OK), scheme) as server:
        assert api.call(request(server.url(scheme=scheme))).status == 200
        assert not server.gone.is_set()
        api.close()
        assert server.gone.wait(TEST_TIMEOUT)


def test_a_connection_that_the_server_closed_is_replaced(http_api: RequestsSyncApi):
    with HostileServer(answer(OK, then_close=True)) as server:
        assert http_api.call(request(server.url())).status == 200
        assert server.gone.wait(TEST_TIMEOUT)
        assert http_api.call(request(server.url())).status == 200
    assert server.accepted == 2


def test_a_connection_that_was_cut_is_not_used_again(http_api: RequestsSyncApi):
    with HostileServer(after_request(Peer.hang)) as server:
        for _ in range(2):
            result = call_in_time(http_api, request(server.url(), deadline=SHORT_DEADLINE))
            assert result.answer is Answer.DEADLINE
    assert server.accepted == 2


@pytest.mark.parametrize(
    "first",
    [
        status(503, b"x" * 100_000),
        CHUNKED + b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"Content-Length: -1\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        b"\x00\xff nonsense\r\n\r\n",
    ],
    ids=["beyond the cap", "chunks beyond the cap", "HTTP 1.0", "close", "no length", "interim status", "garbage"],
)
def test_a_connection_without_a_clean_end_is_not_used_again(http_api: RequestsSyncApi, first: bytes):
    answers = [first]

    def script(peer: Peer) -> None:
        while peer.read_request():
            if not answers:
                peer.send(status(409))
                continue
            peer.send(answers.pop())
            if b"Content-Length: -1" in first:
                return  # such a body ends when the connection is closed

    with HostileServer(script) as server:
        http_api.call(request(server.url(), max_response_bytes=10))
        assert [http_api.call(request(server.url())).status for _ in range(2)] == [409, 409]
    assert server.accepted == 2


def test_simultaneous_calls_use_connections_of_their_own(http_api: RequestsSyncApi):
    together = threading.Barrier(4)

    def script(peer: Peer) -> None:
        while peer.read_request():
            together.wait(TEST_TIMEOUT)
            peer.send(OK)

    with HostileServer(script) as server, ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            results = pool.map(http_api.call, [request(server.url()) for _ in range(4)])
            assert [result.status for result in results] == [200] * 4
    assert server.accepted == 4


def test_a_forked_process_uses_connections_of_its_own():
    """A prefork pool forks after the parent may have called. Two processes on one socket would mix their answers."""
    program = """
import os, sys
from tasks.adapters.http import RequestsSyncApi
from tasks.dlq.calls.api import SyncRequest
from tasks.dlq.calls.route import Route
api = RequestsSyncApi({})
call = SyncRequest(route=Route(name="r", url=sys.argv[1]), parameters={}, job_id=1, attempt=1, fence=1)
assert api.call(call).status == 200
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
assert [api.call(call).status for _ in range(5)] == [200] * 5
"""
    with HostileServer(answer(OK)) as server:
        subprocess.run([sys.executable, "-c", program, server.url("/all")], check=True, timeout=TEST_TIMEOUT)
    assert (server.accepted, len(server.requests)) == (2, 11)


def test_cookies_are_not_kept(http_api: RequestsSyncApi):
    with HostileServer(answer(status(200, Set_Cookie="session=1"))) as server:
        for _ in range(2):
            assert http_api.call(request(server.url())).status == 200
    assert [header(head, "Cookie") for head in server.requests] == [[], []]


# --- bytes after an answer -------------------------------------------------------------------------------------------

SURPLUS = {
    "a short answer": OK + OK,
    "an answer beyond the buffer": padded(8192) + OK,
    "an answer across the edge of the buffer": padded(8190) + OK,
    "an answer after chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK,
    "an answer after chunks beyond the buffer": padded(8192, end=b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n") + OK,
    "an answer after none": b"HTTP/1.1 204 No Content\r\n\r\n" + OK,
    "a body of status 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 12000\r\n\r\n" + b"B" * 12_000,
    "a body of status 304": b"HTTP/1.1 304 Not Modified\r\n\r\n" + b"B" * 12_000,
    "one byte": OK + b"\n",
    "a long body": OK + status(404, b"x" * 100_000),
}


@pytest.mark.parametrize("first", SURPLUS.values(), ids=SURPLUS)
def test_bytes_after_an_answer_are_not_the_next_answer(http_api: RequestsSyncApi, first: bytes, scheme: str):
    answers = [first]

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(answers.pop() if answers else status(409))

    with serve(script, scheme) as server:
        assert http_api.call(request(server.url(scheme=scheme))).status in {200, 204, 304}
        assert [http_api.call(request(server.url(scheme=scheme))).status for _ in range(2)] == [409, 409]
    assert len(server.requests) == 3
    assert server.accepted == (2 if len(first) > 8192 else 1)  # nothing is left of what was read together with the answer


def test_bytes_that_arrive_on_an_idle_connection_close_it(http_api: RequestsSyncApi, scheme: str):
    more, sent, answers = threading.Event(), threading.Event(), [OK]

    def script(peer: Peer) -> None:
        while peer.read_request():
            if not answers:
                peer.send(status(409))
                continue
            peer.send(answers.pop())
            more.wait(TEST_TIMEOUT)
            peer.send(OK)
            sent.set()

    with serve(script, scheme) as server:
        assert http_api.call(request(server.url(scheme=scheme))).status == 200
        more.set()
        assert sent.wait(TEST_TIMEOUT)
        assert http_api.call(request(server.url(scheme=scheme))).status == 409
    assert server.accepted == 2


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", ["default", "environment"])
def test_an_unknown_authority_is_refused(trust: str, monkeypatch: pytest.MonkeyPatch):
    if trust == "environment":
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(PEM))
    with serve(answer(OK), "https") as server:
        result = call_in_time(RequestsSyncApi({"employees": TOKEN}), request(server.url(scheme="https")))
    assert (result.answer, result.unknown, server.requests) == (Answer.NETWORK, False, [])
    assert "certificate verify failed" in result.detail


def test_a_certificate_of_another_host_is_refused(http_api: RequestsSyncApi):
    with serve(answer(OK), "https") as server:
        result = call_in_time(http_api, request(server.url(scheme="https", host="localhost")))
    assert (result.answer, result.unknown, server.requests) == (Answer.NETWORK, False, [])
    assert "localhost" in result.detail


def test_a_missing_ca_bundle_is_no_fault_of_the_api():
    api = RequestsSyncApi({}, ca_bundle="/nowhere/ca.pem")
    with serve(answer(OK), "https") as server:
        result = call_in_time(api, request(server.url(scheme="https")))
    assert (result.answer, result.unknown, server.accepted) == (Answer.NOT_SENT, False, 0)
    assert "/nowhere/ca.pem" in result.detail
