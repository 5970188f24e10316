"""Reading: which route a dead letter takes, by what it holds and where it comes from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.dlq.calls.route import Route
from tasks.dlq.parameters import Choice as OneOf
from tasks.dlq.parameters import Integer
from tasks.dlq.ports import Record
from tasks.dlq.reading.mapping import BodyMapping, Condition
from tasks.dlq.reading.reader import BodyReader, RouteChoice

EMPLOYEES = Route(name="employees", url="http://api/employees/{id}", params={"id": Integer(positive=True)})
TEAMS = Route(name="teams", url="http://api/{tenant}/{id}", params={"id": Integer(), "tenant": OneOf(("acme",))})
ONE = BodyMapping(params={"id": "id"})
MEMBERS = BodyMapping(params={"id": "user"}, each="members", constants={"tenant": "acme"})
READER = BodyReader(
    choices=[
        RouteChoice(EMPLOYEES, ONE, Condition("body.type == 'employee'")),
        RouteChoice(EMPLOYEES, ONE, Condition("origin.headers.kind == 'employee' || origin.topic == 'employees-dlt'")),
        RouteChoice(TEAMS, MEMBERS, Condition("body.members")),
    ],
    max_body=1000,
)


def read(body: Any, reader: BodyReader = READER, **origin: Any) -> Any:
    return reader.read("s", Record(identity="i", body=json.dumps(body).encode(), origin=origin))


@pytest.mark.parametrize(
    ("body", "origin", "route"),
    [
        ({"type": "employee", "id": 1}, {}, "employees"),
        ({"id": 1}, {"headers": {"kind": "employee"}}, "employees"),
        ({"id": 1}, {"topic": "employees-dlt"}, "employees"),
        ({"members": [{"user": 1}]}, {}, "teams"),
        ({"type": "employee", "id": 1, "members": [{"user": 1}]}, {}, "employees"),  # the first that holds
    ],
)
def test_the_first_choice_that_holds_is_taken(body: Any, origin: dict[str, Any], route: str):
    assert read(body, **origin).route == route


def test_a_condition_is_true_as_jmespath_has_it():
    condition = Condition("body")
    assert all(condition.holds(value, {}) for value in (0, 0.0, 1, "a", [0], {"a": None}, True))
    assert not any(condition.holds(value, {}) for value in (False, None, "", [], {}))


@pytest.mark.parametrize("body", [{"id": 1}, {"members": []}, {"members": None}, {"members": ""}, [], 5, None, {"type": "team"}])
def test_what_no_choice_wants_is_rejected(body: Any):
    assert read(body).rejection.reason == "no-route"


def test_the_sources_own_route_comes_last():
    reader = BodyReader(choices=[*READER.choices, RouteChoice(EMPLOYEES, ONE)], max_body=1000)
    assert read({"id": 7}, reader).route == "employees"
    assert read({"members": [{"user": 1}]}, reader).route == "teams"


def test_a_choice_that_cannot_be_asked_rejects():
    reader = BodyReader(
        choices=[RouteChoice(EMPLOYEES, ONE, Condition("length(body.id) > `1`")), RouteChoice(EMPLOYEES, ONE)], max_body=100
    )
    assert read({"id": 1}, reader).rejection.reason == "mapping-failed"


def test_constants_and_each_make_the_keys():
    assert [json.loads(key) for key in read({"members": [{"user": 2}, {"user": 1}, {"user": 2}]}).keys] == [
        {"id": "1", "tenant": "acme"},
        {"id": "2", "tenant": "acme"},
    ]


def test_a_body_is_unwrapped_first_and_kept_as_it_came():
    reader = BodyReader(choices=READER.choices, unwrap=("sns",), max_body=1000)
    wrapped = {"Type": "Notification", "Message": json.dumps({"type": "employee", "id": 5})}
    letter = read(wrapped, reader)
    assert letter.route == "employees"
    assert letter.body == json.dumps(wrapped).encode()
    assert read({"type": "employee", "id": 5}, reader).rejection.reason == "not-wrapped"
