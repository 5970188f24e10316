"""Answers that are not quite HTTP: each is refused as a failure of the network, and none is taken for another's."""

from __future__ import annotations

import resource
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile_server import OK, HostileServer, Peer, after_request, answer, status

from tasks.adapters.http import RequestsSyncApi
from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult
from tasks.dlq.calls.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEM = Path(__file__).with_name("loopback.pem")
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def api() -> Iterator[RequestsSyncApi]:
    api = RequestsSyncApi({}, ca_bundle=str(PEM))
    yield api
    api.close()


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def served(script: Callable[[Peer], None], scheme: str = "http") -> HostileServer:
    if scheme == "http":
        return HostileServer(script)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    return HostileServer(script, tls=context)


def call(api: RequestsSyncApi, server: HostileServer, scheme: str = "http") -> SyncResult:
    route = Route(name="r", url=server.url("/all", scheme=scheme), deadline=5)
    return api.call(SyncRequest(route=route, parameters={}, job_id=1, attempt=1, fence=1))


# --- what follows an answer ----------------------------------------------------------------------------------------------


def padded(size: int, first: bytes = HEAD, end: bytes = b"Content-Length: 2\r\n\r\nok") -> bytes:
    """Return an answer of so many bytes: 8192 are what the client reads at once."""
    return first + b"X-Pad: " + b"p" * (size - len(first + end) - 9) + b"\r\n" + end


SURPLUS = {
    "a short answer": OK + OK,
    "an answer beyond the reader's buffer": padded(8192) + OK,
    "an answer across the edge of the buffer": padded(8190) + OK,
    "an answer after chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK,
    "an answer after chunks beyond the buffer": padded(8192, end=b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n") + OK,
    "an answer after none": b"HTTP/1.1 204 No Content\r\n\r\n" + OK,
    "the body of an answer that has none": b"HTTP/1.1 204 No Content\r\nContent-Length: 12000\r\n\r\n" + b"B" * 12_000,
    "the body of what was not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n" + b"B" * 12_000,
    "one byte": OK + b"\n",
    "a long body": OK + status(404, b"x" * 100_000),
}


@pytest.mark.parametrize("first", SURPLUS.values(), ids=SURPLUS)
def test_what_follows_an_answer_is_not_the_next_ones(api: RequestsSyncApi, first: bytes, scheme: str):
    answers = [first]

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(answers.pop() if answers else status(409))

    with served(script, scheme) as server:
        assert call(api, server, scheme).status in {200, 204, 304}
        assert [call(api, server, scheme).status for _ in range(2)] == [409, 409]
    assert (server.accepted, len(server.requests)) == (2, 3)


def test_nor_is_what_follows_later(api: RequestsSyncApi, scheme: str):
    """In a packet, and a record, of its own, while nobody reads."""
    more, sent, answers = threading.Event(), threading.Event(), [OK]

    def script(peer: Peer) -> None:
        while peer.read_request():
            if not answers:
                peer.send(status(409))
                continue
            peer.send(answers.pop())
            more.wait(5)
            peer.send(OK)
            sent.set()

    with served(script, scheme) as server:
        assert call(api, server, scheme).status == 200
        more.set()
        assert sent.wait(5)
        assert call(api, server, scheme).status == 409
    assert server.accepted == 2


def test_a_connection_with_nothing_left_is_used_again(api: RequestsSyncApi, scheme: str):
    bodies = [padded(8192), padded(8193), padded(20_000), CHUNKED + b"2\r\nok\r\n0\r\n\r\n", status(204), status(304), OK]
    with served(answer(*bodies), scheme) as server:
        assert [call(api, server, scheme).status for _ in bodies] == [200, 200, 200, 200, 204, 304, 200]
    assert server.accepted == 1


def test_an_answer_of_which_two_headers_say_where_it_ends_is_the_last_of_its_connection(api: RequestsSyncApi):
    both = HEAD + b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with served(answer(both)) as server:
        assert [call(api, server).status for _ in range(2)] == [200, 200]
    assert server.accepted == 2


# --- what is no HTTP -----------------------------------------------------------------------------------------------------


def with_header(line: str) -> bytes:
    return HEAD + line.encode() + b"\r\n\r\nok"


NO_HTTP = {
    "a status with a sign": (b"HTTP/1.1 +200 OK\r\nContent-Length: 0\r\n\r\n", "+200"),
    "a status with underscores": (b"HTTP/1.1 2_0_0 OK\r\nContent-Length: 0\r\n\r\n", "2_0_0"),
    "a status of four digits": (b"HTTP/1.1 0200 OK\r\nContent-Length: 0\r\n\r\n", "0200"),
    "a status in full-width digits": ("HTTP/1.1 \uff12\uff10\uff10 OK\r\nContent-Length: 0\r\n\r\n".encode(), "BadStatusLine"),
    "a status line without an end": (b"HTTP/1.1 200", "closed in the middle"),
    "headers without an end": (HEAD + b"X: y\r\n", "closed in the middle"),
    "half a header": (HEAD + b"Content-Le", "closed in the middle"),
    "a length below none": (with_header("Content-Length: -1"), "a Content-Length of '-1'"),
    "a length with a sign": (with_header("Content-Length: +2"), "a Content-Length of '+2'"),
    "a length with underscores": (with_header("Content-Length: 0_2"), "a Content-Length of '0_2'"),
    "a length in other digits": (with_header("Content-Length: \uff12"), "a Content-Length of"),
    "a length of 5,000 digits": (with_header("Content-Length: " + "9" * 5000), "a Content-Length of '99999"),
    "an empty length": (with_header("Content-Length:"), "a Content-Length of ''"),
    "a list of lengths": (with_header("Content-Length: 2, 2"), "a Content-Length of '2, 2'"),
    "two lengths": (with_header("Content-Length: 2\r\nContent-Length: 3"), "a Content-Length of '2, 3'"),
    "half a body": (with_header("Content-Length: 3"), "IncompleteRead"),
    "chunks that are compressed": (with_header("Transfer-Encoding: gzip, chunked"), "a Transfer-Encoding of 'gzip, chunked'"),
    "chunks of chunks": (with_header("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "'chunked, chunked'"),
    "a chunk below none": (CHUNKED + b"-1\r\nok\r\n0\r\n\r\n", "a chunk of '-1"),
    "a chunk in Python's hex": (CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n", "a chunk of '0x2"),
    "a chunk with a sign": (CHUNKED + b"+2\r\nok\r\n0\r\n\r\n", "a chunk of '+2"),
    "a chunk with underscores": (CHUNKED + b"0_2\r\nok\r\n0\r\n\r\n", "a chunk of '0_2"),
    "a chunk of no size": (CHUNKED + b"\r\nok\r\n0\r\n\r\n", "a chunk of '"),
    "a chunk of 100 digits": (CHUNKED + b"f" * 100 + b"\r\nok\r\n0\r\n\r\n", "a chunk of 'ffff"),
    "a chunk longer than it says": (CHUNKED + b"2\r\nokay\r\n0\r\n\r\n", "a chunk that is longer than it says"),
    "half a chunk": (CHUNKED + b"5\r\nok", "IncompleteRead"),
    "chunks without the last": (CHUNKED + b"2\r\nok\r\n", "closed in the middle"),
    "chunks without an end": (CHUNKED + b"2\r\nok\r\n0\r\n", "closed in the middle"),
    "codings": (with_header("Content-Encoding: gzip,gzip\r\nContent-Length: 2"), "2 content codings (gzip, gzip)"),
    "codings in two headers": (with_header("Content-Encoding: br\r\nContent-Encoding: gzip"), "2 content codings (br, gzip)"),
    "a thousand codings": (with_header("Content-Encoding: " + "gzip," * 1000), "1000 content codings"),
    "long headers": (HEAD + (b"X: " + b"y" * 8000 + b"\r\n") * 9 + b"\r\n", "more than 65536 bytes of headers"),
    "long headers of hints": (
        (b"HTTP/1.1 103 Early Hints\r\nLink: " + b"y" * 8000 + b"\r\n\r\n") * 9 + OK,
        "more than 65536 bytes of headers",
    ),
    "long trailers": (CHUNKED + b"0\r\n" + b"X: y\r\n" * 20_000, "more than 65536 bytes of headers"),
    "a long line of a chunk": (CHUNKED + b"2;" + b"x" * 70_000 + b"\r\nok\r\n0\r\n\r\n", "more than 65536 bytes of headers"),
}


@pytest.mark.parametrize(("said", "why"), NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_a_network_failure_with_unknown_end(api: RequestsSyncApi, said: bytes, why: str):
    with served(answer(said, then_close=True)) as server:
        result = call(api, server)
    assert (result.answer, result.unknown) == (Answer.NETWORK, True), result
    assert why in result.detail


HTTP = {
    "a length said twice alike": with_header("Content-Length: 2\r\nContent-Length: 2"),
    "one coding": with_header("Content-Encoding: gzip\r\nContent-Length: 2"),
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "an empty reason": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "extensions and trailers": CHUNKED + b"2 ; x=y\r\nok\r\n00;last\r\nX: y\r\n\r\n",
    "large digits": HEAD + b"transfer-encoding: Chunked\r\n\r\n" + b"A\r\n0123456789\r\n0a\r\n0123456789\r\n0\r\n\r\n",
    "as many headers as are taken": padded(65_536 - 2, end=b"Content-Length: 0\r\n\r\n"),
    "many small chunks": CHUNKED + b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n",
}


@pytest.mark.parametrize("said", HTTP.values(), ids=HTTP)
def test_unusual_http_is_taken_and_in_step(api: RequestsSyncApi, said: bytes):
    with served(answer(said, status(409))) as server:
        assert [call(api, server).status for _ in range(2)] == [200, 409]
    assert server.accepted == 1


# --- what costs more than it should --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["-1", "7fffffffffffffff"])
def test_no_chunk_costs_more_memory_than_the_cap(size: str):
    program = """
import resource, sys
from tasks.adapters.http import RequestsSyncApi
from tasks.dlq.calls.api import SyncRequest
from tasks.dlq.calls.route import Route
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
route = Route(name="r", url=sys.argv[1], deadline=30)
print(RequestsSyncApi({}).call(SyncRequest(route=route, parameters={}, job_id=1, attempt=1, fence=1)))
"""
    flood = after_request(lambda peer: peer.flood(b"x" * 65_536), CHUNKED + size.encode() + b"\r\n")
    limit = 1_000_000_000 if resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY else -1
    with HostileServer(flood) as server:
        command = [sys.executable, "-c", program, server.url("/all"), str(limit)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert server.sent < 20_000_000  # what fits into the sockets' buffers
    assert ("NETWORK" if size == "-1" else "status=200") in done.stdout


def test_no_cookie_is_read(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    def read(*_: object) -> None:
        raise AssertionError("a cookie is read")

    monkeypatch.setattr("requests.adapters.extract_cookies_to_jar", read)
    monkeypatch.setattr("requests.sessions.extract_cookies_to_jar", read)
    monkeypatch.setattr("http.cookiejar.CookieJar.extract_cookies", read)
    with served(answer(status(200, Set_Cookie="session=1"))) as server:
        assert call(api, server).status == 200
