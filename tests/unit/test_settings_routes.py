"""`[routes.NAME]`: what a route becomes, and what it refuses."""

import json
import tomllib
from typing import Any

import pytest
from settings_texts import DESIGN, ROUTE, assembled, line, route

from tasks.dlq.calls.outcome import Answers
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.calls.route import Route
from tasks.dlq.parameters import Choice, Integer, Pattern, Text, Uuid


def test_a_url_alone_makes_the_default_request():
    settings = assembled('[routes.ping]\nurl = "http://host/sync"')
    assert settings.routes["ping"] == Route(name="ping", url="http://host/sync")


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ('"int"', Integer()),
        ('"positive-int"', Integer(positive=True)),
        ('"uuid"', Uuid()),
        ('"string"', Text()),
        ('{ pattern = "[A-Z]{2}[0-9]+" }', Pattern("[A-Z]{2}[0-9]+")),
        ('{ enum = ["de", "at"] }', Choice(("de", "at"))),
    ],
)
def test_parameter_types(written: str, kind: Any):
    settings = assembled(f'[routes.r]\nurl = "http://host/{{id}}"\nparams.id = {written}')
    assert settings.routes["r"].params == {"id": kind}
    shown = settings.describe()["settings"]["routes.r.params.id"]["value"]
    assert shown == tomllib.loads(f"x = {written}")["x"]
    from_environment = assembled(
        '[routes.r]\nurl = "http://host/{id}"', REDRIVE_ROUTES__R__PARAMS__id=json.dumps(shown).strip('"')
    )
    assert from_environment.routes == settings.routes


def test_headers_are_merged_with_the_default():
    assert route("").headers == {"Content-type": "application/json"}
    assert route('headers.X-Tenant = "a"').headers == {"Content-type": "application/json", "X-Tenant": "a"}
    assert route('headers.CONTENT-TYPE = "text/plain"').headers == {"CONTENT-TYPE": "text/plain"}
    assert route('headers.content-type = ""').headers == {}


def test_a_named_status_leaves_the_other_defaults():
    assert route("").answers == Answers()
    answers = route('answers = { success = ["2xx", 404, "410-411"], conflict = [401, 409] }').answers
    assert answers.success == frozenset({*range(200, 300), 404, 410, 411})
    assert answers.conflict == frozenset({401, 409})
    assert answers.refused == frozenset({403})
    later = route("answers = { conflict = [202] }").answers
    assert 202 not in later.success
    assert later.success == Answers().success - {202}


def test_retry():
    assert route('retry = { max_attempts = 3, base = "1s", cap = "1m", max_misses = 4, max_retry_after = "10m" }').retry == (
        RetryPolicy(max_attempts=3, base=1.0, cap=60.0, max_misses=4, max_retry_after=600.0)
    )


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("delay", ['"8d"', '"-1s"', "-1", '"1w"', '"1h30m"', "true", "nan", "inf", "[1]", '"ten"', '"1e3"', '"\\u0661s"', '""']),
        ("deadline", ['"99ms"', '"16m"', "0"]),
        ("max_in_flight", ["0", "1001", "1.0", "true", '"1 "', '"٣"']),
        ("max_response_bytes", ["1023", '"17MiB"', '"1GB"', '"1kib"', "1.5"]),
        ("method", ['"put"', '"CONNECT"', "1"]),
        (
            "params.id",
            [
                '"posint"',
                "1",
                "{}",
                "{ enum = [] }",
                '{ pattern = "x", enum = ["x"] }',
                '{ enum = ["a", 1] }',
                '{ enum = [".."] }',
            ],
        ),
        ("params.id", ['{ pattern = "[" }', '{ pattern = "(a)\\\\1" }', '{ pattern = "[a-z]++" }', "{ pattern = 1 }"]),
        ("answers.success", ["200", "[]", '["9xx"]', "[true]", "[99]", '["2xx", 1.5]', "[[200]]"]),
        ("retry.max_attempts", ["0", '"many"']),
        ("retry.cap", ['"1s"']),
        ("bearer_env", ['"Bearer x"', '""', "1", '"REDRIVE_ROUTES__R__TOKEN"']),
        (
            "url",
            [
                '"ftp://host/{id}"',
                '"host/{id}"',
                '"http://host"',
                '"http://host/"',
                '"http://host/{id}/{other}"',
                '"http://{id}/"',
            ],
        ),
        ("url", ['"http://host/{+id}"', '"http://ho st/{id}"', '"http://host/../{id}"', '"http://user:pw@host/{id}"', "1", '""']),
    ],
)
def test_what_a_route_refuses(key: str, values: list[str]):
    for value in values:
        text = "\n".join(each for each in ROUTE.splitlines() if not each.startswith(f"{key} "))
        assert line(f"{text}\n{key} = {value}").startswith(f"redrive.toml: routes.r.{key}"), value


@pytest.mark.parametrize(
    "header",
    [
        "Authorization",
        "authorization",
        "Host",
        "Content-Length",
        "Redrive-Job",
        "redrive-x",
        "Transfer-Encoding",
        '"a b"',
        '""',
        '"a:b"',
    ],
)
def test_refused_header_names(header: str):
    assert "the name must" in line(f'{ROUTE}headers.{header} = "x"')


@pytest.mark.parametrize("value", ["a\\r\\nX: y", "a\\nb", "\\u0000", "€", " a", "\\u00a0a", "a\\u007f", "x" * 4001])
def test_refused_header_values_are_not_shown(value: str):
    found = line(f'{ROUTE}headers.X = "{value}sesame"')
    assert found.startswith("redrive.toml: routes.r.headers.X: must be")
    assert "sesame" not in found


def test_header_names_have_no_case():
    assert "headers.x-a: must be set only once" in line(ROUTE + 'headers.X-A = "1"\nheaders.x-a = "2"')


def test_authorization_points_to_bearer_env():
    assert "bearer_env" in line(ROUTE + 'headers.Authorization = "Bearer sesame"')


def test_two_lists_do_not_share_a_status():
    found = line(ROUTE + "answers = { success = [200, 202], conflict = [202] }")
    assert "routes.r.answers.success" in found
    assert "conflict names as well: 202" in found


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("'no json'", "must be JSON with {name} for each parameter"),
        ("5", "must be JSON with {name}"),
        ("""'{"id": "{other}"}'""", "must use only the route's params: there is no parameter other"),
    ],
)
def test_refused_bodies(body: str, said: str):
    assert said in line(
        ROUTE.replace("[sources", f"body = {body}\n[sources") if "[sources" in ROUTE else ROUTE + f"body = {body}\n"
    )


def test_a_refused_body_is_not_shown():
    assert "sesame" not in line(ROUTE + """body = '{"apiKey": "sesame"'""")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"id":  "{employeeId}"}', '{"id":  "{employeeId}"}'),
        ('{"key":  "{employeeId}"}', '{"key":  "{employeeId}"}'),
        (
            '{"name": "Zoë", "token": 5, "a": [{"clientSecret": {"b": 1}}]}',
            '{"name": "Zoë", "token": "***", "a": [{"clientSecret": "***"}]}',
        ),
    ],
)
def test_a_body_is_shown_without_secrets(body: str, shown: str):
    described = assembled(DESIGN, REDRIVE_ROUTES__EMPLOYEES__BODY=body).describe()["settings"]
    assert described["routes.employees.body"]["value"] == shown
    assert assembled(DESIGN).describe()["settings"]["routes.employees.body"]["value"] is None
