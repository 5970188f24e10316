from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from doubles.hostile_server import OK, HostileServer, answer, status
from http_calls import TOKEN, call_in_time, header, request

from tasks.dlq.calls.api import Answer, SyncRequest
from tasks.dlq.calls.body_template import BodyTemplate
from tasks.dlq.calls.route import Route
from tasks.dlq.calls.url import expand
from tasks.dlq.parameters import Integer, Text

if TYPE_CHECKING:
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.adapters.http import RequestsSyncApi


def test_the_default_request_is_an_empty_json_put(http_api: RequestsSyncApi):
    with HostileServer(answer(OK)) as server:
        result = http_api.call(request(server.url()))
    [head] = server.requests
    assert (result.answer, result.status, result.unknown, result.detail) == (Answer.ANSWERED, 200, False, "HTTP 200")
    assert head.startswith(b"PUT /employees/1234 HTTP/1.1\r\n")
    assert header(head, "Content-Type") == ["application/json"]
    assert header(head, "Content-Length") == ["0"]
    assert header(head, "Authorization") == [f"Bearer {TOKEN}"]
    assert header(head, "Accept-Encoding") == ["identity"]
    assert [header(head, f"Redrive-{name}") for name in ("Job", "Attempt", "Fence")] == [["7"], ["3"], ["42"]]
    assert header(head, "User-Agent")[0].startswith("redrive/")
    assert header(head, "Host") == [f"127.0.0.1:{server.port}"]
    assert header(head, "Cookie") == []


def test_a_route_sets_method_and_headers_but_not_those_of_redrive(http_api: RequestsSyncApi):
    headers = {
        "X-Tenant": "größe",
        "redrive-fence": "1",
        "accept-encoding": "gzip",
        "AUTHORIZATION": "Basic x",
        "user-agent": "me",
    }
    with HostileServer(answer(OK)) as server:
        assert http_api.call(request(server.url(), method="POST", headers=headers)).status == 200
        assert http_api.call(request(server.url(), method="POST", headers=headers, name="other")).status == 200
    first, second = server.requests
    assert first.startswith(b"POST /employees/1234 HTTP/1.1\r\n")
    assert header(first, "X-Tenant") == ["größe"]
    assert header(first, "Redrive-Fence") == ["42"]
    assert header(first, "Accept-Encoding") == ["identity"]
    assert header(first, "Authorization") == [f"Bearer {TOKEN}"]
    assert header(first, "User-Agent") == ["me"]
    assert header(second, "Authorization") == ["Basic x"]


def test_the_target_on_the_wire_is_the_expanded_one(http_api: RequestsSyncApi):
    rng = random.Random(7)
    alphabet = "az09AZ-._~!$&'()*+,;=:@/?#[]%{}|\\^`\"<> äß日2eE5fF"
    with HostileServer(answer(OK)) as server:
        sent = 0
        for _ in range(300):
            text = "".join(rng.choices(alphabet, k=rng.randint(1, 8)))
            try:
                Text().parse(text)
            except ValueError:
                continue
            call = request(server.url("/x%20y/{employeeId}/sync?by={employeeId}"), text, params={"employeeId": Text()})
            assert http_api.call(call).status == 200
            sent += 1
            expanded = expand(call.route.url, call.parameters).removeprefix(f"http://127.0.0.1:{server.port}")
            assert server.requests[-1].split(b" ")[1].decode() == expanded
    assert sent > 100
    assert server.accepted == 1


@pytest.mark.parametrize(
    ("route", "employee", "reason"),
    [
        ({}, "..", "leaves the template"),
        ({}, "", "is empty"),
        ({"url": "http://127.0.0.1:{port}/{employeeId}"}, "1", "must not contain variables"),
        ({"method": "PUT /x HTTP/1.1\r\nX:"}, "1", "ValueError"),
        ({"headers": {"X-Key": "secret-key\r\nX: y"}}, "1", "InvalidHeader"),
        ({"headers": {"X-Key": "secret-key \u2026"}}, "1", "UnicodeEncodeError"),
    ],
)
def test_an_invalid_request_is_not_sent(http_api: RequestsSyncApi, route: dict[str, Any], employee: str, reason: str):
    with HostileServer(answer(OK)) as server:
        result = call_in_time(http_api, request(**{"url": server.url(), "employee": employee} | route))
    assert (result.answer, result.unknown, server.requests) == (Answer.NOT_SENT, False, [])
    assert reason in result.detail
    assert "secret-key" not in result.detail


@pytest.mark.parametrize("path", ["/a/../b", "/a/%2e%2e/b", "/a/./b", "/a b", "/%41"])
def test_a_url_that_requests_would_rewrite_is_not_sent(http_api: RequestsSyncApi, path: str, monkeypatch: pytest.MonkeyPatch):
    with HostileServer(answer(OK)) as server:
        monkeypatch.setattr("tasks.adapters.http.request.expand", lambda *_: server.url(path))
        result = call_in_time(http_api, request(server.url()))
    assert (result.answer, server.accepted) == (Answer.NOT_SENT, 0)
    assert "requests would send" in result.detail


def test_nothing_is_read_from_the_environment(http_api: RequestsSyncApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with HostileServer(answer(OK)) as server, HostileServer(answer(status(500))) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert http_api.call(request(server.url())).status == 200
        assert http_api.call(request(server.url(), name="without_token")).status == 200
    assert [header(head, "Authorization") for head in server.requests] == [[f"Bearer {TOKEN}"], []]
    assert proxy.accepted == 0


def test_parameters_stand_in_the_url_and_in_the_body(http_api: RequestsSyncApi, company_api: CompanyApi):
    params = {"id": Integer(), "tenant": Text(), "name": Text()}
    body = BodyTemplate('{"id": "{id}", "name": "{name}"}', frozenset({"id"}))
    route = Route(name="r", url=company_api.url + "/{tenant}/{id}", params=params, body=body)
    parameters = {"id": "12", "tenant": "a b", "name": 'ä", "admin": "true'}
    assert http_api.call(SyncRequest(route=route, parameters=parameters, job_id=1, attempt=1, fence=1)).status == 200
    assert company_api.paths() == ["/a%20b/12"]
    (received,) = company_api.calls
    assert json.loads(received.body) == {"id": 12, "name": 'ä", "admin": "true'}
    assert received.headers["Content-Length"] == str(len(received.body))
    assert received.headers["Content-type"] == "application/json"


def test_the_api_does_not_show_its_tokens(http_api: RequestsSyncApi):
    assert TOKEN not in repr(http_api)
