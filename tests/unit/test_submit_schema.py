"""docs/reference/redrive-submit.schema.json and the reader of submissions, compared: what fits the one is taken by the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tasks.adapters.celery_messages import submitted
from tasks.dlq.calls.route import Route
from tasks.dlq.parameters import Integer, Pattern, Text, Uuid
from tasks.dlq.ports import Record
from tasks.dlq.reading.reader import SubmissionReader

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/redrive-submit.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
TYPES = {
    "int": Integer(),
    "positive": Integer(positive=True),
    "uuid": Uuid(),
    "text": Text(),
    "pattern": Pattern("(?s:.*)"),
}
ROUTES = {name: Route(name=name, url="http://a/{id}", params={"id": kind}) for name, kind in TYPES.items()}
ROUTES["employees"] = Route(name="employees", url="http://a/{employeeId}", params={"employeeId": Integer(positive=True)})
READER = SubmissionReader(routes=ROUTES)
UUID = "123e4567-e89b-12d3-a456-426614174000"


def rejected(arguments: dict[str, Any]) -> str:
    """Return why the reader rejects a submission with these arguments; empty when it takes it."""
    letter = READER.read("celery", submitted(Record(identity="m-1", body=b""), (), arguments))
    return letter.rejection.reason if letter.rejection else ""


def routes_that_take(value: Any) -> list[str]:
    return [name for name in TYPES if not rejected({"route": name, "parameters": {"id": value}})]


def fits(arguments: Any) -> bool:
    return VALIDATOR.is_valid(arguments)


def test_it_is_a_schema_with_examples_that_are_taken():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"]
    for each in SCHEMA["examples"]:
        VALIDATOR.validate(each)
        assert not rejected(each)


@pytest.mark.parametrize(
    "value", [1, 0, -1, 10**18 - 1, 1 - 10**18, "1", "0", "x", "a b", "Ä", "1/2", "x" * 256, UUID, UUID.upper()]
)
def test_a_value_that_fits_is_taken_by_some_type(value: Any):
    assert fits({"route": "text", "parameters": {"id": value}})
    assert routes_that_take(value)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 1.5, [], {}, [1], {"a": 1}),
        *(10**18, -(10**18), 10**400),
        *("", " ", " x", "x ", "x" * 257, "\0", "a\nb", "a\n", "\x7f", "\x85", "..", "."),
    ],
)
def test_a_value_that_does_not_fit_is_taken_by_none(value: Any):
    assert not fits({"route": "text", "parameters": {"id": value}})
    assert not routes_that_take(value)


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers(), max_size=2)


@given(VALUES | st.integers(-2, 2).map(lambda near: 10**18 + near) | st.text(min_size=254, max_size=258))
@example("\u2028")
@example("a\u00a0")
def test_whatever_does_not_fit_is_rejected_by_every_type(value: Any):
    if not fits({"route": "text", "parameters": {"id": value}}):
        assert not routes_that_take(value)


@given(st.integers() | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300))
def test_whatever_fits_is_taken_but_for_the_dot_segments_that_the_schema_tells_of(value: int | str):
    if fits({"route": "text", "parameters": {"id": value}}):
        segments = str(value).replace("\\", "/").split("/")
        dotted = any(segment.split(";")[0].strip() in {".", ".."} for segment in segments) or "%2" in str(value)
        assert routes_that_take(value) or dotted


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "unknown-route"),
        ({"route": "employees"}, "invalid-parameter"),
        ({"parameters": {"employeeId": 1}}, "unknown-route"),
        ({"route": None, "parameters": {"employeeId": 1}}, "unknown-route"),
        ({"route": 5, "parameters": {"employeeId": 1}}, "unknown-route"),
        ({"route": "", "parameters": {"employeeId": 1}}, "unknown-route"),
        ({"route": "Employees", "parameters": {"employeeId": 1}}, "unknown-route"),
        ({"route": "employees ", "parameters": {"employeeId": 1}}, "unknown-route"),
        ({"route": "e" * 65, "parameters": {"employeeId": 1}}, "unknown-route"),
        ({"route": "employees", "parameters": None}, "invalid-parameter"),
        ({"route": "employees", "parameters": [1]}, "invalid-parameter"),
        ({"route": "employees", "parameters": "employeeId=1"}, "invalid-parameter"),
        ({"route": "employees", "parameters": {"": 1}}, "invalid-parameter"),
        ({"route": "employees", "parameters": {"employee-id": 1}}, "invalid-parameter"),
        ({"route": "employees", "parameters": {"employeeId": {"id": 1}}}, "invalid-parameter"),
    ],
)
def test_arguments_that_do_not_fit_are_rejected(arguments: dict[str, Any], reason: str):
    assert not fits(arguments)
    assert rejected(arguments) == reason


@pytest.mark.parametrize("more", [{}, {"origin": None}, {"origin": {}}, {"origin": {"topic": "t", "own": [1]}}, {"unknown": 1}])
def test_arguments_that_fit_are_taken(more: dict[str, Any]):
    arguments = {"route": "employees", "parameters": {"employeeId": "1234"}} | more
    assert fits(arguments)
    assert not rejected(arguments)


@pytest.mark.parametrize("origin", ["employees", 5, ["employees"]])
def test_an_origin_that_does_not_fit_is_left_out_and_the_failure_kept(origin: Any):
    arguments = {"route": "employees", "parameters": {"employeeId": 1}, "origin": origin}
    assert not fits(arguments)
    letter = READER.read("celery", submitted(Record(identity="m-1", body=b""), (), arguments))
    assert (letter.rejection, letter.origin) == (None, {})


def test_json_schema_cannot_tell_a_whole_fraction_from_an_integer_but_the_description_does():
    arguments = {"route": "employees", "parameters": {"employeeId": 1234.0}}
    assert fits(arguments)
    assert rejected(arguments) == "invalid-parameter"
    assert "not 1234.0" in json.dumps(SCHEMA)
