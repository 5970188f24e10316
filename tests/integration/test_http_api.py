from __future__ import annotations

import gzip
import resource
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from doubles.hostile_server import OK, HostileServer, Peer, after_request, answer, status
from http_calls import CHUNKED, HEAD, TOKEN, call_in_time, request
from waiting import TEST_TIMEOUT

from tasks.dlq.calls.api import Answer
from tasks.dlq.calls.outcome import Answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.adapters.http import RequestsSyncApi

# --- complete answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 202, 204, 304, 400, 404, 409, 429, 500, 503, 999])
def test_any_final_status_is_an_answer(http_api: RequestsSyncApi, code: int):
    with HostileServer(answer(status(code))) as server:
        result = http_api.call(request(server.url()))
    assert (result.answer, result.status, result.unknown) == (Answer.ANSWERED, code, False)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(http_api: RequestsSyncApi, code: int):
    with HostileServer(answer(OK)) as elsewhere, HostileServer(answer(status(code, Location=elsewhere.url("/x")))) as server:
        assert http_api.call(request(server.url())).status == code
    assert (len(server.requests), elsewhere.accepted) == (1, 0)


def test_status_100_is_skipped(http_api: RequestsSyncApi):
    with HostileServer(answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 25 + OK)) as server:
        results = [call_in_time(http_api, request(server.url())) for _ in range(2)]
    assert [(result.answer, result.status) for result in results] == [(Answer.ANSWERED, 200)] * 2
    assert server.accepted == 1


def test_retry_after_is_handed_on_unchanged(http_api: RequestsSyncApi):
    with HostileServer(answer(status(503, Retry_After="120"), status(503), status(503, Retry_After="9" * 5000))) as server:
        headers = [http_api.call(request(server.url())).retry_after for _ in range(3)]
    assert headers == ["120", None, "9" * 100]


def test_the_detail_is_a_short_line_of_the_error(http_api: RequestsSyncApi):
    body = "employee 1234\r\n is\tlocked \x00\x1b[31m\u202e…".encode()
    with HostileServer(answer(status(409, body), status(200, body), status(404, body), status(500, b"x" * 5000))) as server:
        call = request(server.url(), answers=Answers(success=frozenset({200, 404})))
        details = [call_in_time(http_api, call).detail for _ in range(4)]
    assert details[:3] == ["HTTP 409 Status: employee 1234 is locked [31m …", "HTTP 200", "HTTP 404"]
    assert details[3].startswith("HTTP 500 Status: xxx")
    assert details[3].endswith("x…")


@pytest.mark.parametrize("echo", [TOKEN, TOKEN.replace("/", "\\/"), TOKEN.replace("/", "%2F").replace("=", "%3D"), TOKEN[:15]])
def test_an_echoed_token_is_masked(http_api: RequestsSyncApi, echo: str):
    key = "api-key-0123456789"
    body = f"you sent Bearer {echo} and {key}, go away".encode()
    echoed = [status(401, body), f"HTTP/1.1 403 {echo}\r\nContent-Length: 0\r\n\r\n".encode(), f"GARBAGE {echo}\r\n\r\n".encode()]
    with HostileServer(answer(*echoed)) as server:
        details = [call_in_time(http_api, request(server.url(), headers={"X-Key": key})).detail for _ in echoed]
    assert details[0] == "HTTP 401 Status: you sent Bearer *** and *** go away"
    assert not any(secret in detail for detail in details for secret in (echo[:9], key))


@pytest.mark.parametrize("echo", ["s3same/+0123456789", "s3same%2F%2B0123456789", "s3same%2F%2B"])
def test_an_echoed_secret_of_the_url_is_masked(http_api: RequestsSyncApi, echo: str):
    url = "/employees/{employeeId}?a=abcdefghij&code=s3same%2F%2B0123456789"
    with HostileServer(answer(status(404, f"no function for {echo}&x of abcdefghij".encode()))) as server:
        result = call_in_time(http_api, request(server.url(url)))
    assert result.detail == "HTTP 404 Status: no function for *** of abcdefghij"


# --- long answers ----------------------------------------------------------------------------------------------------

FLOODS: dict[str, Callable[[Peer], None]] = {
    "an endless body": after_request(lambda peer: peer.flood(b"x" * 65536), HEAD + b"\r\n"),
    "endless chunks": after_request(lambda peer: peer.flood(b"8\r\n12345678\r\n" * 999), CHUNKED),
    "100 MB": after_request(lambda peer: peer.flood(b"x" * 65536), HEAD + b"Content-Length: 104857600\r\n\r\n"),
    "an endless redirect": after_request(
        lambda peer: peer.flood(b"x" * 65536), b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 104857600\r\n\r\n"
    ),
    "an endless error": after_request(lambda peer: peer.flood(b"x" * 65536), b"HTTP/1.1 500 Oh\r\n\r\n"),
}


@pytest.mark.parametrize("script", FLOODS.values(), ids=FLOODS)
def test_no_more_is_read_than_the_cap(http_api: RequestsSyncApi, script: Callable[[Peer], None]):
    with HostileServer(script) as server:
        result = call_in_time(http_api, request(server.url(), max_response_bytes=1000))
        assert result.answer is Answer.ANSWERED
        assert result.status in {200, 302, 500}
    assert server.sent < 20_000_000  # what fits into the buffers of the sockets, not what a thread can read in ten seconds


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
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TEST_TIMEOUT)
        assert server.sent < 20_000_000
    assert "status=200" in done.stdout


def test_the_status_counts_although_the_body_is_cut(http_api: RequestsSyncApi):
    with HostileServer(answer(status(503, b"x" * 100_000))) as server:
        assert http_api.call(request(server.url(), max_response_bytes=10)).detail == "HTTP 503 Status: xxxxxxxxxx"
        assert http_api.call(request(server.url(), max_response_bytes=10)).status == 503


def test_a_compressed_answer_is_not_unpacked(http_api: RequestsSyncApi):
    bomb = gzip.compress(b"\0" * 10_000_000)
    with HostileServer(
        answer(status(500, bomb, Content_Encoding="gzip"), status(200, b"no gzip", Content_Encoding="gzip"))
    ) as server:
        assert call_in_time(http_api, request(server.url())).detail == "HTTP 500"
        assert call_in_time(http_api, request(server.url())).answer is Answer.ANSWERED
    assert server.accepted == 1


# --- no answer -------------------------------------------------------------------------------------------------------

BROKEN: dict[str, Callable[[Peer], None]] = {
    "closed at accept": lambda peer: peer.sock.close(),
    "closed after the request": after_request(lambda peer: peer.sock.close()),
    "reset after the request": after_request(Peer.reset),
    "reset in the headers": after_request(Peer.reset, HEAD + b"X: y\r\n"),
    "closed in the status line": answer(b"HTTP/1.1 20", then_close=True),
    "garbage": answer(b"\x00\xff\xfe nonsense \r\n\r\n", then_close=True),
    "another protocol": answer(b"SSH-2.0-OpenSSH_9.2\r\n", then_close=True),
    "no number for a status": answer(b"HTTP/1.1 two OK\r\n\r\n", then_close=True),
    "a status too low": answer(b"HTTP/1.1 99 Low\r\n\r\n", then_close=True),
    "an interim status": answer(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK),
    "switching protocols": answer(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", then_close=True),
    "two lengths": answer(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    "too short a body": answer(HEAD + b"Content-Length: 100\r\n\r\nshort", then_close=True),
    "too few chunks": answer(CHUNKED + b"5\r\nabc", then_close=True),
    "no last chunk": answer(CHUNKED + b"2\r\nok\r\n", then_close=True),
    "no number for a chunk": answer(CHUNKED + b"zz\r\nabc\r\n", then_close=True),
    "too many headers": answer(HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(101)) + b"\r\n"),
    "a huge header": answer(HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n"),
    "a huge status line": answer(b"HTTP/1.1 200 " + b"y" * 70_000 + b"\r\n\r\n"),
    "a huge chunk line": answer(CHUNKED + b"1" * 70_000 + b"\r\n"),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_a_network_failure_with_unknown_end(http_api: RequestsSyncApi, script: Callable[[Peer], None]):
    with HostileServer(script) as server:
        result = call_in_time(http_api, request(server.url()))
        assert (result.answer, result.unknown) == (Answer.NETWORK, True), result
        assert result.detail.startswith(("waiting for the answer: ", "reading the answer: "))
        assert server.gone.wait(TEST_TIMEOUT)  # the connection is closed
    assert len(server.requests) <= 1  # nothing is repeated


def test_a_refused_connection_was_never_sent(http_api: RequestsSyncApi):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = call_in_time(http_api, request(f"http://127.0.0.1:{port}/{{employeeId}}"))
    assert (result.answer, result.unknown) == (Answer.NETWORK, False)
    assert result.detail == f"connecting to 127.0.0.1:{port}: ConnectionRefusedError: [Errno 111] Connection refused"


def test_a_reset_while_connecting_was_never_sent(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    def reset(*_: Any) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(socket.socket, "connect", reset)
    result = call_in_time(http_api, request("http://127.0.0.1:1/{employeeId}"))
    assert (result.answer, result.unknown) == (Answer.NETWORK, False)
    assert result.detail.endswith("ConnectionResetError: [Errno 104] Connection reset by peer")


def test_an_unknown_name_was_never_sent(http_api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = call_in_time(http_api, request("http://nowhere.invalid/{employeeId}"))
    assert (result.answer, result.unknown) == (Answer.NETWORK, False)
    assert result.detail == "connecting to nowhere.invalid:80: gaierror: [Errno -2] Name or service not known"
