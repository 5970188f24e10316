import gzip
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hostile_server import OK, HostileServer, Peer, after_request, answer, status

from tasks.adapters.http import RequestsSyncApi
from tasks.adapters.http.session import NOT_YET, CutError, Line
from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult
from tasks.dlq.calls.outcome import Answers
from tasks.dlq.calls.route import Route
from tasks.dlq.calls.url import expand
from tasks.dlq.parameters import Integer, Text

DEADLINE = 0.6
TOKEN = "eyJhbGciOiJub25lIn0.secret/part+one=="
PEM = Path(__file__).with_name("loopback.pem")
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def api() -> Iterator[RequestsSyncApi]:
    api = RequestsSyncApi({"employees": TOKEN}, ca_bundle=str(PEM))
    yield api
    api.close()


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    return context


def request(url: str, employee: str = "1234", **route: Any) -> SyncRequest:
    settings = {"name": "employees", "params": {"employeeId": Integer()}, "deadline": 10} | route
    return SyncRequest(route=Route(url=url, **settings), parameters={"employeeId": employee}, job_id=7, attempt=3, fence=42)


def in_time(api: RequestsSyncApi, call: SyncRequest) -> SyncResult:
    began = time.monotonic()
    result = api.call(call)
    seconds = time.monotonic() - began
    assert seconds <= call.route.deadline + 1  # the contract itself
    assert 0 <= result.seconds <= seconds + 0.1
    assert result.detail.isprintable()
    assert len(result.detail) <= 200
    assert TOKEN[:12] not in result.detail
    return result


def wait_for_threads(api: RequestsSyncApi) -> None:
    for stray in api._strays:
        assert stray.ended.wait(5)


def header(head: bytes, name: str) -> list[str]:
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
    return [value.strip() for key, _, value in lines if key.lower() == name.lower()]


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_the_default_request_is_the_empty_json_put(api: RequestsSyncApi):
    with HostileServer(answer(OK)) as server:
        result = api.call(request(server.url()))
    head = server.requests[0].decode()
    assert (result.answer, result.status, result.unknown, result.detail) == (Answer.ANSWERED, 200, False, "HTTP 200")
    assert head.startswith("PUT /employees/1234 HTTP/1.1\r\n")
    assert "\r\nContent-type: application/json\r\n" in head
    assert header(server.requests[0], "Content-Length") == ["0"]
    assert header(server.requests[0], "Authorization") == [f"Bearer {TOKEN}"]
    assert header(server.requests[0], "Accept-Encoding") == ["identity"]
    assert [header(server.requests[0], f"Redrive-{name}") for name in ("Job", "Attempt", "Fence")] == [["7"], ["3"], ["42"]]
    assert header(server.requests[0], "User-Agent")[0].startswith("redrive/")
    assert header(server.requests[0], "Host") == [f"127.0.0.1:{server.port}"]
    assert header(server.requests[0], "Cookie") == []


def test_method_and_headers_are_the_routes_but_not_those_that_are_redrives(api: RequestsSyncApi):
    headers = {
        "X-Tenant": "größe",
        "redrive-fence": "1",
        "accept-encoding": "gzip",
        "AUTHORIZATION": "Basic x",
        "user-agent": "me",
    }
    with HostileServer(answer(OK)) as server:
        assert api.call(request(server.url(), method="POST", headers=headers)).status == 200
        assert api.call(request(server.url(), method="POST", headers=headers, name="other")).status == 200
    first, second = server.requests
    assert first.startswith(b"POST /employees/1234 HTTP/1.1\r\n")
    assert header(first, "X-Tenant") == ["größe"]
    assert header(first, "Redrive-Fence") == ["42"]
    assert header(first, "Accept-Encoding") == ["identity"]
    assert header(first, "Authorization") == [f"Bearer {TOKEN}"]
    assert header(first, "User-Agent") == ["me"]
    assert header(second, "Authorization") == ["Basic x"]


def test_the_target_on_the_wire_is_the_expanded_one(api: RequestsSyncApi):
    weapons = random.Random(7)
    alphabet = "az09AZ-._~!$&'()*+,;=:@/?#[]%{}|\\^`\"<> äß日2eE5fF"
    with HostileServer(answer(OK)) as server:
        sent = 0
        for _ in range(300):
            text = "".join(weapons.choices(alphabet, k=weapons.randint(1, 8)))
            try:
                Text().parse(text)
            except ValueError:
                continue
            call = request(server.url("/x%20y/{employeeId}/sync?by={employeeId}"), text, params={"employeeId": Text()})
            assert api.call(call).status == 200
            sent += 1
            expanded = expand(call.route.url, call.parameters).removeprefix(f"http://127.0.0.1:{server.port}")
            assert server.requests[-1].split(b" ")[1].decode() == expanded
    assert sent > 100
    assert server.accepted == 1


@pytest.mark.parametrize(
    ("route", "employee", "says"),
    [
        ({}, "..", "leaves the template"),
        ({}, "", "is empty"),
        ({"url": "http://127.0.0.1:{port}/{employeeId}"}, "1", "no variables"),
        ({"method": "PUT /x HTTP/1.1\r\nX:"}, "1", "ValueError"),
        ({"headers": {"X-Key": "secret-key\r\nX: y"}}, "1", "InvalidHeader"),
        ({"headers": {"X-Key": "secret-key \u2026"}}, "1", "UnicodeEncodeError"),
    ],
)
def test_what_cannot_be_sent_is_not_sent(api: RequestsSyncApi, route: dict[str, Any], employee: str, says: str):
    with HostileServer(answer(OK)) as server:
        result = in_time(api, request(**{"url": server.url(), "employee": employee} | route))
    assert (result.answer, result.unknown, server.requests) == (Answer.NOT_SENT, False, [])
    assert says in result.detail
    assert "secret-key" not in result.detail


@pytest.mark.parametrize("path", ["/a/../b", "/a/%2e%2e/b", "/a/./b", "/a b", "/%41"])
def test_what_requests_would_rewrite_is_not_sent(api: RequestsSyncApi, path: str, monkeypatch: pytest.MonkeyPatch):
    with HostileServer(answer(OK)) as server:
        monkeypatch.setattr("tasks.adapters.http.api.expand", lambda *_: server.url(path))
        result = in_time(api, request(server.url()))
    assert (result.answer, server.accepted) == (Answer.NOT_SENT, 0)
    assert "requests would send" in result.detail


def test_what_urllib3_would_rewrite_is_not_sent(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("urllib3.connectionpool._encode_target", lambda _: "/admin")
    with HostileServer(answer(OK)) as server:
        result = in_time(api, request(server.url()))
    assert (result.answer, server.requests) == (Answer.NOT_SENT, [])
    assert result.detail == "preparing the call: ValueError: the request line would say /admin for /employees/1234"


def test_nothing_is_read_from_the_environment(api: RequestsSyncApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with HostileServer(answer(OK)) as server, HostileServer(answer(status(500))) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert api.call(request(server.url())).status == 200
        assert api.call(request(server.url(), name="without_token")).status == 200
    assert [header(head, "Authorization") for head in server.requests] == [[f"Bearer {TOKEN}"], []]
    assert proxy.accepted == 0


# --- connections -----------------------------------------------------------------------------------------------------


def test_the_connection_is_kept(api: RequestsSyncApi):
    bodies = [
        OK,
        status(204),
        status(503, b"busy"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        OK,
    ]
    with HostileServer(answer(*bodies)) as server:
        assert [api.call(request(server.url())).status for _ in bodies] == [200, 204, 503, 200, 200]
    assert server.accepted == 1


def test_an_idle_connection_is_not_trusted_for_long():
    now = [0.0]
    api = RequestsSyncApi({}, clock=lambda: now[0])
    with HostileServer(answer(OK)) as server:
        for moment in (0, 14, 28, 50):
            now[0] = moment
            assert api.call(request(server.url())).status == 200
        api.close()
    assert server.accepted == 2


def test_a_connection_that_the_server_closed_is_replaced(api: RequestsSyncApi):
    with HostileServer(answer(OK, then_close=True)) as server:
        assert api.call(request(server.url())).status == 200
        [[(session, _)]] = api._idle.values()
        [pool] = session.poolmanager.pools._container.values()
        [sock] = [connection.sock for connection in pool.pool.queue if connection]
        sock.settimeout(5)
        assert sock.recv(1, socket.MSG_PEEK) == b""  # the server's FIN is here
        assert api.call(request(server.url())).status == 200
    assert server.accepted == 2


def test_a_failed_call_leaves_no_connection_behind(api: RequestsSyncApi):
    with HostileServer(after_request(Peer.hang)) as server:
        assert in_time(api, request(server.url(), deadline=DEADLINE)).answer is Answer.DEADLINE
        assert server.gone.wait(5)
        assert in_time(api, request(server.url(), deadline=DEADLINE)).answer is Answer.DEADLINE
    assert server.accepted == 2


def test_cookies_are_not_kept(api: RequestsSyncApi):
    with HostileServer(answer(status(200, Set_Cookie="session=1"))) as server:
        for _ in range(2):
            assert api.call(request(server.url())).status == 200
    assert [header(head, "Cookie") for head in server.requests] == [[], []]


def test_calls_side_by_side_use_connections_of_their_own(api: RequestsSyncApi):
    together = threading.Barrier(4)

    def script(peer: Peer) -> None:
        while peer.read_request():
            together.wait(5)
            peer.send(OK)

    with HostileServer(script) as server, ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            results = pool.map(api.call, [request(server.url()) for _ in range(4)])
            assert [result.status for result in results] == [200] * 4
    assert server.accepted == 4


def test_a_forked_process_uses_connections_of_its_own():
    """A prefork pool forks after the parent may have called: two processes on one socket would mix their answers."""
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
        subprocess.run([sys.executable, "-c", program, server.url("/all")], check=True, timeout=60)
    assert (server.accepted, len(server.requests)) == (2, 11)


# --- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 202, 204, 304, 400, 404, 409, 429, 500, 503, 999])
def test_any_final_status_is_an_answer(api: RequestsSyncApi, code: int):
    with HostileServer(answer(status(code))) as server:
        result = api.call(request(server.url()))
    assert (result.answer, result.status, result.unknown) == (Answer.ANSWERED, code, False)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(api: RequestsSyncApi, code: int):
    with HostileServer(answer(OK)) as elsewhere, HostileServer(answer(status(code, Location=elsewhere.url("/x")))) as server:
        assert api.call(request(server.url())).status == code
    assert (len(server.requests), elsewhere.accepted) == (1, 0)


INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103 with headers": b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nRetry-After: 7\r\nConnection: close\r\n\r\n",
    "one that nobody knows yet": b"HTTP/1.1 199 Later\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("before", [*INTERIM.values(), b"".join(INTERIM.values()) * 25], ids=[*INTERIM, "a hundred of them"])
def test_interim_answers_are_skipped_and_the_final_one_counts(api: RequestsSyncApi, before: bytes):
    with HostileServer(answer(before + OK, before + status(503, b"busy"), before + OK)) as server:
        results = [in_time(api, request(server.url())) for _ in range(3)]
    assert [(result.answer, result.status, result.retry_after) for result in results] == [
        (Answer.ANSWERED, 200, None),
        (Answer.ANSWERED, 503, None),
        (Answer.ANSWERED, 200, None),
    ]
    assert results[1].detail == "HTTP 503 Status: busy"
    assert server.accepted == 1  # the connection is still in step


def test_interim_answers_may_come_in_pieces(api: RequestsSyncApi):
    """Byte by byte, each in a packet of its own."""

    def act(peer: Peer) -> None:
        for some in (*INTERIM.values(), OK):
            for index in range(len(some)):
                peer.send(some[index : index + 1])

    with HostileServer(after_request(act)) as server:
        assert in_time(api, request(server.url())).status == 200


def test_one_interim_answer_too_many_is_a_failure(api: RequestsSyncApi):
    with HostileServer(answer(INTERIM["102"] * 101 + OK)) as server:
        result = in_time(api, request(server.url()))
    assert (result.answer, result.unknown) == (Answer.NETWORK, True)
    assert result.detail == "waiting for the answer: HTTPException: more than 100 interim answers, and no final one"


def test_retry_after_is_handed_on_as_it_came(api: RequestsSyncApi):
    with HostileServer(answer(status(503, Retry_After="120"), status(503), status(503, Retry_After="9" * 5000))) as server:
        headers = [api.call(request(server.url())).retry_after for _ in range(3)]
    assert headers == ["120", None, "9" * 100]


def test_the_detail_is_a_short_line_of_the_error(api: RequestsSyncApi):
    body = "employee 1234\r\n is\tlocked \x00\x1b[31m\u202e…".encode()
    with HostileServer(answer(status(409, body), status(200, body), status(404, body), status(500, b"x" * 5000))) as server:
        call = request(server.url(), answers=Answers(success=frozenset({200, 404})))
        details = [in_time(api, call).detail for _ in range(4)]
    assert details[:3] == ["HTTP 409 Status: employee 1234 is locked [31m …", "HTTP 200", "HTTP 404"]
    assert details[3].startswith("HTTP 500 Status: xxx")
    assert details[3].endswith("x…")


@pytest.mark.parametrize("echo", [TOKEN, TOKEN.replace("/", "\\/"), TOKEN.replace("/", "%2F").replace("=", "%3D"), TOKEN[:15]])
def test_an_echoed_token_is_not_told(api: RequestsSyncApi, echo: str):
    key = "api-key-0123456789"
    body = f"you sent Bearer {echo} and {key}, go away".encode()
    echoed = [status(401, body), f"HTTP/1.1 403 {echo}\r\nContent-Length: 0\r\n\r\n".encode(), f"GARBAGE {echo}\r\n\r\n".encode()]
    with HostileServer(answer(*echoed)) as server:
        details = [in_time(api, request(server.url(), headers={"X-Key": key})).detail for _ in echoed]
    assert details[0] == "HTTP 401 Status: you sent Bearer *** and *** go away"
    assert not any(secret in detail for detail in details for secret in (echo[:9], key))


@pytest.mark.parametrize("echo", ["s3same/+0123456789", "s3same%2F%2B0123456789", "s3same%2F%2B"])
def test_an_echoed_secret_of_the_url_is_not_told(api: RequestsSyncApi, echo: str):
    url = "/employees/{employeeId}?a=abcdefghij&code=s3same%2F%2B0123456789"
    with HostileServer(answer(status(404, f"no function for {echo}&x of abcdefghij".encode()))) as server:
        result = in_time(api, request(server.url(url)))
    assert result.detail == "HTTP 404 Status: no function for *** of abcdefghij"


def test_tokens_are_not_shown():
    assert TOKEN not in repr(vars(RequestsSyncApi({})) | {"api": RequestsSyncApi({"employees": TOKEN})})


# --- hostile servers -------------------------------------------------------------------------------------------------

SLOW: dict[str, Callable[[Peer], None]] = {
    "silence": Peer.hang,
    "silence after the request": after_request(Peer.hang),
    "half a status line": after_request(Peer.hang, b"HTTP/1.1 2"),
    "half the headers": after_request(Peer.hang, HEAD + b"Content-Le"),
    "no body after the headers": after_request(Peer.hang, HEAD + b"Content-Length: 9\r\n\r\n"),
    "no end of the body": after_request(Peer.hang, HEAD + b"Connection: close\r\n\r\nok"),
    "no end of the chunks": after_request(Peer.hang, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
    "a dripping status line": after_request(Peer.drip),
    "dripping headers": after_request(lambda peer: peer.drip(b"X-Drip: 1\r\n"), HEAD),
    "a dripping body": after_request(Peer.drip, HEAD + b"Content-Length: 9999\r\n\r\n"),
    "a dripping body until the close": after_request(Peer.drip, HEAD + b"Connection: close\r\n\r\n"),
    "dripping chunks": after_request(lambda peer: peer.drip(b"1\r\nx\r\n"), HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "interim answers for ever": after_request(lambda peer: peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "hints for ever": after_request(lambda peer: peer.drip(b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    "dripping headers of a hint": after_request(lambda peer: peer.drip(b"X-Drip: 1\r\n"), b"HTTP/1.1 103 Early Hints\r\n"),
}


@pytest.mark.parametrize(
    ("name", "scheme"), [*((name, "http") for name in SLOW), *((name, "https") for name in SLOW if "body" in name)]
)
def test_a_slow_server_is_cut_off_at_the_deadline(api: RequestsSyncApi, tls: ssl.SSLContext, name: str, scheme: str):
    with HostileServer(SLOW[name], tls=tls if scheme == "https" else None) as server:
        result = in_time(api, request(server.url(scheme=scheme), deadline=DEADLINE if scheme == "http" else 2 * DEADLINE))
        assert (result.answer, result.unknown) == (Answer.DEADLINE, True)
        assert result.detail.startswith("no complete answer")
        wait_for_threads(api)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x03", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["silence", "half a record", "no TLS"])
def test_a_server_that_never_agrees_on_tls(api: RequestsSyncApi, first: bytes):
    def script(peer: Peer) -> None:
        peer.send(first)
        peer.hang()

    with HostileServer(script) as server:
        result = in_time(api, request(server.url(scheme="https"), deadline=DEADLINE))
        wait_for_threads(api)
    assert result.answer is (Answer.NETWORK if first.startswith(b"HTTP") else Answer.DEADLINE)
    assert not result.unknown
    assert "agreeing on TLS" in result.detail


def test_a_dripping_tls_handshake(api: RequestsSyncApi):
    with HostileServer(lambda peer: peer.drip(b"\x16\x03\x03\x3f\xff" + b"\0" * 0x3FFF)) as server:
        result = in_time(api, request(server.url(scheme="https"), deadline=DEADLINE))
    assert (result.answer, result.unknown) == (Answer.DEADLINE, False)


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that swallows every packet: its backlog is full, and the kernel drops what else knocks."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_a_server_that_never_accepts(api: RequestsSyncApi, black_hole: tuple[str, int]):
    result = in_time(api, request(f"http://127.0.0.1:{black_hole[1]}/{{employeeId}}", deadline=DEADLINE))
    wait_for_threads(api)
    assert (result.answer, result.unknown) == (Answer.DEADLINE, False)
    assert "gave up while connecting to 127.0.0.1" in result.detail


def test_a_name_server_that_hangs_costs_no_more_and_nothing_is_sent_later(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    resolved, look_up = threading.Event(), socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        resolved.wait(10)
        return look_up(*args, **kwargs)

    with HostileServer(answer(OK)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        result = in_time(api, request(server.url(host="localhost"), deadline=DEADLINE))
        assert (result.answer, result.unknown) == (Answer.DEADLINE, False)
        assert result.detail.endswith("gave up while looking up localhost")
        [stray] = api._strays
        resolved.set()
        assert stray.ended.wait(5)
        assert api.call(request(server.url())).status == 200
    assert (server.accepted, len(server.requests), api._strays) == (1, 1, [])


def test_hanging_threads_are_bounded(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tasks.adapters.http.api._MAX_STRAYS", 2)
    resolved = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        resolved.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    answers = [in_time(api, request("http://localhost:1/{employeeId}", deadline=0.05)) for _ in range(3)]
    assert [result.answer for result in answers] == [Answer.DEADLINE, Answer.DEADLINE, Answer.NOT_SENT]
    resolved.set()
    wait_for_threads(api)


FLOODS: dict[str, Callable[[Peer], None]] = {
    "an endless body": after_request(lambda peer: peer.flood(b"x" * 65536), HEAD + b"\r\n"),
    "endless chunks": after_request(
        lambda peer: peer.flood(b"8\r\n12345678\r\n" * 999), HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
    "100 MB": after_request(lambda peer: peer.flood(b"x" * 65536), HEAD + b"Content-Length: 104857600\r\n\r\n"),
    "an endless redirect": after_request(
        lambda peer: peer.flood(b"x" * 65536), b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 104857600\r\n\r\n"
    ),
    "an endless error": after_request(lambda peer: peer.flood(b"x" * 65536), b"HTTP/1.1 500 Oh\r\n\r\n"),
}


@pytest.mark.parametrize("script", FLOODS.values(), ids=FLOODS)
def test_no_more_is_read_than_the_cap(api: RequestsSyncApi, script: Callable[[Peer], None]):
    with HostileServer(script) as server:
        result = in_time(api, request(server.url(), max_response_bytes=1000))
        assert result.answer is Answer.ANSWERED
        assert result.status in {200, 302, 500}
    assert server.sent < 20_000_000  # what fits into the sockets' buffers, not what a thread could read in ten seconds


def test_the_status_counts_although_the_body_is_cut(api: RequestsSyncApi):
    with HostileServer(answer(status(503, b"x" * 100_000))) as server:
        assert api.call(request(server.url(), max_response_bytes=10)).detail == "HTTP 503 Status: xxxxxxxxxx"
        assert api.call(request(server.url(), max_response_bytes=10)).status == 503


def test_a_compressed_bomb_stays_small(api: RequestsSyncApi):
    bomb = gzip.compress(b"\0" * 10_000_000)
    with HostileServer(
        answer(status(500, bomb, Content_Encoding="gzip"), status(200, b"no gzip", Content_Encoding="gzip"))
    ) as server:
        assert in_time(api, request(server.url())).detail == "HTTP 500"
        assert in_time(api, request(server.url())).answer is Answer.ANSWERED
    assert server.accepted == 1


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
    "early hints and no answer": answer(b"HTTP/1.1 103 Early Hints\r\n\r\n", then_close=True),
    "a flood of 100": after_request(lambda peer: peer.flood(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "a flood of 103": after_request(lambda peer: peer.flood(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")),
    "an interim answer with too many headers": answer(
        b"HTTP/1.1 103 Early Hints\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(101)) + b"\r\n" + OK
    ),
    "switching protocols": answer(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", then_close=True),
    "too short a body": answer(HEAD + b"Content-Length: 100\r\n\r\nshort", then_close=True),
    "too few chunks": answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", then_close=True),
    "no number for a chunk": answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", then_close=True),
    "too many headers": answer(HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(101)) + b"\r\n"),
    "a huge header": answer(HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n"),
    "a huge status line": answer(b"HTTP/1.1 200 " + b"y" * 70_000 + b"\r\n\r\n"),
    "a huge chunk line": answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000 + b"\r\n"),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_a_network_failure_with_unknown_end(api: RequestsSyncApi, script: Callable[[Peer], None]):
    with HostileServer(script) as server:
        result = in_time(api, request(server.url()))
    assert (result.answer, result.unknown) == (Answer.NETWORK, True), result
    assert result.detail.startswith(("waiting for the answer: ", "reading the answer: "))
    assert len(server.requests) <= 1  # nothing is repeated


def test_a_refused_connection_was_never_sent(api: RequestsSyncApi):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = in_time(api, request(f"http://127.0.0.1:{port}/{{employeeId}}"))
    assert (result.answer, result.unknown) == (Answer.NETWORK, False)
    assert result.detail == f"connecting to 127.0.0.1:{port}: ConnectionRefusedError: [Errno 111] Connection refused"


def test_a_reset_while_connecting_was_never_sent(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    def reset(*_: Any) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    with HostileServer(Peer.reset) as server:
        assert in_time(api, request(server.url())).answer is Answer.NETWORK  # while connecting or after: it is a race
        monkeypatch.setattr(socket.socket, "connect", reset)
        result = in_time(api, request(server.url()))
    assert (result.answer, result.unknown) == (Answer.NETWORK, False)
    assert result.detail.endswith("ConnectionResetError: [Errno 104] Connection reset by peer")


def test_an_unknown_name_was_never_sent(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = in_time(api, request("http://nowhere.invalid/{employeeId}"))
    assert (result.answer, result.unknown) == (Answer.NETWORK, False)
    assert result.detail == "looking up nowhere.invalid: gaierror: [Errno -2] Name or service not known"


def test_the_next_address_is_tried(api: RequestsSyncApi, black_hole: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    with HostileServer(answer(OK)) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
        closed.close()
        targets = (refusing, black_hole, ("127.0.0.1", server.port))
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", target) for target in targets]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        assert api.call(request("http://company.test/{employeeId}", deadline=2)).status == 200


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_tls_with_a_trusted_authority(api: RequestsSyncApi, tls: ssl.SSLContext):
    with HostileServer(answer(OK), tls=tls) as server:
        assert [api.call(request(server.url(scheme="https"))).status for _ in range(3)] == [200] * 3
    assert server.accepted == 1


@pytest.mark.parametrize("trust", ["default", "environment"])
def test_an_unknown_authority_is_refused(tls: ssl.SSLContext, trust: str, monkeypatch: pytest.MonkeyPatch):
    if trust == "environment":
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(PEM))
    with HostileServer(answer(OK), tls=tls) as server:
        result = in_time(RequestsSyncApi({"employees": TOKEN}), request(server.url(scheme="https")))
    assert (result.answer, result.unknown, server.requests) == (Answer.NETWORK, False, [])
    assert "certificate verify failed" in result.detail


def test_another_hosts_certificate_is_refused(api: RequestsSyncApi, tls: ssl.SSLContext):
    with HostileServer(answer(OK), tls=tls) as server:
        result = in_time(api, request(server.url(scheme="https", host="localhost")))
    assert (result.answer, result.unknown, server.requests) == (Answer.NETWORK, False, [])
    assert "localhost" in result.detail


def test_a_missing_ca_bundle_is_no_fault_of_the_api(tls: ssl.SSLContext):
    api = RequestsSyncApi({}, ca_bundle="/nowhere/ca.pem")
    with HostileServer(answer(OK), tls=tls) as server:
        result = in_time(api, request(server.url(scheme="https")))
    assert (result.answer, result.unknown, server.accepted) == (Answer.NOT_SENT, False, 0)
    assert "/nowhere/ca.pem" in result.detail


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


def test_what_fails_after_the_deadline_has_failed_by_it():
    """On a busy machine the call's own thread may wake up before the one that would cut it."""
    late = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        late.set()
        peer.reset()

    api = RequestsSyncApi({}, clock=lambda: time.monotonic() + (3600 if late.is_set() else 0))
    with HostileServer(script) as server:
        result = api.call(request(server.url(), deadline=60))
    assert (result.answer, result.unknown) == (Answer.DEADLINE, True)


def test_a_call_that_is_interrupted_is_cut_off(api: RequestsSyncApi):
    class Interruption(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGUSR2, interrupt)
    try:
        with HostileServer(after_request(lambda peer: (os.kill(os.getpid(), signal.SIGUSR2), peer.hang())[1])) as server:
            with pytest.raises(Interruption):
                api.call(request(server.url(), deadline=60))
            assert server.gone.wait(5)  # the client has closed the connection
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_after_the_cut_nothing_connects_and_nothing_is_sent():
    line = Line("/x", redact=str, ends=1.0, clock=lambda: 0.0)
    mine, theirs = socket.socketpair()
    with mine, theirs:
        line.hold(mine)
        assert line.cut() is None
        assert theirs.recv(1) == b""
        with pytest.raises(CutError):
            line.hold(mine, sending=True)
        assert not line.sent
        assert not line.finish(SyncResult(answer=Answer.ANSWERED, status=200))
        line.release()


def test_a_result_in_time_survives_the_deadline():
    line = Line("/x", redact=str, ends=1.0, clock=lambda: 0.0)
    result = SyncResult(answer=Answer.ANSWERED, status=200)
    assert line.finish(result)
    assert line.cut() is result


# --- what this process lacks -------------------------------------------------------------------------------------------------


def test_a_call_without_a_file_descriptor_was_not_sent(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    def none(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    with HostileServer(answer(OK)) as server:
        for name, owner in (("socket", socket), ("dup", os)):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, none)
                result = in_time(api, request(server.url()))
            assert (result.answer, result.unknown) == (Answer.NOT_SENT, False), name
            assert "no more files" in result.short
            assert "no more files" in result.detail
    assert server.requests == []


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=repr)
def test_a_call_without_a_thread_was_not_sent(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch, error: Exception):
    def none(*_: object) -> int:
        raise error

    monkeypatch.setattr("tasks.adapters.http.api.start_new_thread", none)
    result = in_time(api, request("http://127.0.0.1:1/employees/{employeeId}"))
    assert (result.answer, result.unknown, bool(result.short), api._strays) == (Answer.NOT_SENT, False, True, [])


@pytest.mark.parametrize("missing", ["", "no more memory"])
def test_a_thread_that_dies_without_a_word_sent_nothing(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch, missing: str):
    def broken(*_: object) -> SyncResult:
        raise MemoryError

    died: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", died.append)
    monkeypatch.setattr("tasks.adapters.http.api.Session", broken)
    monkeypatch.setattr("tasks.adapters.http.api._failure", broken)
    monkeypatch.setattr("tasks.adapters.http.api.lacking", lambda: missing)
    result = in_time(api, request("http://127.0.0.1:1/employees/{employeeId}"))
    assert (result.answer, result.unknown, result.short) == (Answer.NOT_SENT, False, missing)
    assert result.seconds < DEADLINE
    assert died


def test_a_thread_that_dies_after_it_has_sent_leaves_an_unknown_end(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> SyncResult:
        raise MemoryError

    monkeypatch.setattr(sys, "unraisablehook", [].append)
    monkeypatch.setattr("tasks.adapters.http.api._failure", broken)
    monkeypatch.setattr("tasks.adapters.http.api.lacking", lambda: "no more memory")
    with HostileServer(after_request(lambda _: None)) as server:
        result = in_time(api, request(server.url()))
    assert (result.answer, result.unknown, result.short) == (Answer.DEADLINE, True, "")


def test_a_thread_that_begins_after_the_deadline_does_nothing(api: RequestsSyncApi, monkeypatch: pytest.MonkeyPatch):
    late: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
    monkeypatch.setattr("tasks.adapters.http.api.start_new_thread", lambda *call: late.append(call))
    with HostileServer(answer(OK)) as server:
        result = in_time(api, request(server.url(), deadline=DEADLINE))
        assert (result.answer, result.unknown, api._strays) == (Answer.DEADLINE, False, [])
        [(run, arguments)] = late
        run(*arguments)
    [line, *_] = arguments
    assert (line.phase, line.sent, line.ended.is_set()) == (NOT_YET, False, True), "it looks up no name either"
    assert (server.accepted, server.requests) == (0, [])


def test_without_memory_for_the_socket_no_descriptor_is_left_open(monkeypatch: pytest.MonkeyPatch):
    def none(**_: object) -> socket.socket:
        raise MemoryError

    made: list[int] = []
    duplicate = os.dup
    line = Line("/x", redact=str, ends=1.0, clock=lambda: 0.0)
    with socket.socket() as mine:
        monkeypatch.setattr(os, "dup", lambda descriptor: made.append(duplicate(descriptor)) or made[0])
        monkeypatch.setattr(socket, "socket", none)
        with pytest.raises(MemoryError):
            line.hold(mine, sending=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made[0])
    assert not line.sent
