"""Which values an import accepts: those that Redrive writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, TypeAdapter, ValidationError

from tasks.dlq.archive.file_format import exported_columns, exported_tables
from tasks.dlq.archive.rules import LAST_MOMENT, value_type
from tasks.dlq.calls.breaker import FAULTS
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import State
from tasks.dlq.key import make_key
from tasks.dlq.parameters import Choice, Integer, Text, Uuid, parse_parameters
from tasks.dlq.text import format_time

TOKEN = "0123456789abcdef" * 2
RULES = {
    f"{table.name}.{column.name}": TypeAdapter(value_type(column), config=ConfigDict(strict=True))
    for table in exported_tables()
    for column in exported_columns(table)
}
MOMENTS = [column for column in RULES if column.endswith(("_at", "_until", "_after", "_before", "audit_log.at"))]
COUNTS = [f"jobs.{name}" for name in ("last_seq", "claimed_seq", "covered_seq", "attempts", "misses", "crashes", "calls")]


def takes(column: str, value: Any) -> bool:
    """Tell whether a column accepts a value that is not null."""
    try:
        return value is not None and bool(RULES[column].validate_python(value) == value)
    except ValidationError:
        return False


def test_null_is_accepted_only_where_the_schema_allows_it():
    for table in exported_tables():
        for column in exported_columns(table):
            adapter = RULES[f"{table.name}.{column.name}"]
            if column.nullable:
                assert adapter.validate_python(None) is None
            else:
                with pytest.raises(ValidationError):
                    adapter.validate_python(None)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("jobs.state", list(State)),
        ("jobs.outcome", list(Outcome)),
        ("attempts.outcome", [*Outcome, *FAULTS]),
        ("alerts.kind", ["failure_group", "burst", "route_paused", "breaker_open"]),
        ("alerts.severity", ["error", "warning"]),
        ("alerts.state", ["firing", "over"]),
    ],
)
def test_a_word_is_one_that_redrive_writes(column: str, words: list[str]):
    assert all(takes(column, str(word)) for word in words)
    for wrong in ("evil\x1b[31m", "", words[0].upper(), words[0] + " ", words[0] + "\n", "\ud800", 1, None, [words[0]], {}, True):
        assert not takes(column, wrong)


@pytest.mark.parametrize("column", MOMENTS)
def test_a_time_is_within_the_calendar(column: str):
    assert all(takes(column, value) for value in (0, 1_700_000_000_000, LAST_MOMENT))
    for wrong in (-1, LAST_MOMENT + 1, 1 << 62, 1 << 64, 1.0, "1", True, None, [], float("nan")):
        assert not takes(column, wrong)


def test_the_last_moment_can_be_formatted():
    assert str(format_time(LAST_MOMENT)).startswith("9999-12-31T23:59:59.")


@pytest.mark.parametrize("column", COUNTS)
def test_a_count_is_not_negative_and_has_room_to_grow(column: str):
    assert takes(column, 0)
    assert takes(column, 1_000_000)
    for wrong in (-1, (1 << 63) - 1, 10**5000, 1.0, "1", True, None):
        assert not takes(column, wrong)


@pytest.mark.parametrize("column", ["routes.breaker_open", "alerts.delivered"])
def test_a_truth_value_is_not_a_number(column: str):
    assert all(takes(column, right) for right in (True, False))
    assert not any(takes(column, wrong) for wrong in (7, 0, 1, "true", None))


@pytest.mark.parametrize("column", ["jobs.key", "routes.fault_key"])
@pytest.mark.parametrize(
    "wrong",
    [
        "not json",
        "",
        "null",
        "[]",
        '"1"',
        '{"employeeId":["a"]}',
        '{"employeeId":1}',
        '{"employeeId":null}',
        '{"employeeId":true}',
        '{"employeeId": "1"}',
        '{"employeeId":"1"}\n',
        '{"b":"1","a":"1"}',
        '{"a":"1","a":"1"}',
        '{"a":"\\u0031"}',
        '{"a":"é"}',
        '{"a":""}',
        '{"a":"\\u001b[31m"}',
        '{"a":"\\ud800"}',
        '{"\\u001b[31m":"1"}',
        '{"":"1"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a":' + "9" * 5000 + "}",
        1,
        None,
        {"employeeId": "1"},
    ],
)
def test_a_key_is_exactly_what_redrive_writes(column: str, wrong: Any):
    assert not takes(column, wrong)


WRITTEN = st.fixed_dictionaries({
    "text": st.text().filter(lambda text: _is(Text(), text)),
    "number": st.integers(min_value=-(10**17), max_value=10**17),
    "Id_2": st.uuids().map(str),
    "choice": st.sampled_from(["acme", "é", "\U0001f600", '"\\']),
})  # fmt: skip
TYPES = {"text": Text(), "number": Integer(), "Id_2": Uuid(), "choice": Choice(("acme", "é", "\U0001f600", '"\\'))}


def _is(kind: Text, text: str) -> bool:
    try:
        return kind.parse(text) == text
    except ValueError:
        return False


@given(values=WRITTEN)
def test_any_key_of_a_route_is_accepted(values: dict[str, Any]):
    assert takes("jobs.key", make_key(parse_parameters(TYPES, values)))
    assert takes("jobs.key", make_key({}))


@pytest.mark.parametrize("column", ["dead_letters.origin", "alerts.facts"])
def test_a_json_column_holds_an_object(column: str):
    assert takes(column, "{}")
    assert takes(column, json.dumps({"topic": "\ud800\0", "offset": 1 << 64, "deep": [[{"é": float("inf")}]]}))
    for wrong in ("", "[]", "null", "{", '{"a":' + "9" * 5000 + "}", '{"a":' * 100_000, {}, None):
        assert not takes(column, wrong)


@pytest.mark.parametrize(
    ("column", "right", "wrong"),
    [
        ("jobs.id", [1, 10**12], [0, -1, (1 << 63) - 1, True, "1"]),
        ("needs.seq", [1], [0, -5]),
        ("jobs.fence", [0, 1, 1_700_000_000_000], [-1, (1 << 63) - 1]),
        ("jobs.status", [100, 204, 599, 999], [0, -200, 1000, 1 << 40, "200"]),
        ("jobs.token", [TOKEN], ["", TOKEN.upper(), TOKEN + "\n", TOKEN[1:], "x" * 32]),
        ("jobs.route", ["employees", "r_2"], ["", "Employees", "a b", "a\n", "\x1b[31m", "é"]),
        ("tallies.first_offset", [0, (1 << 63) - 1], [-1, 1 << 63]),
        ("alerts.revision", [1], [0]),
        ("audit_log.action", ["repair"], ["", "a b", "\x1b"]),
        ("dead_letters.reject_reason", ["not-utf8", "unknown-task"], ["", "a b", "\x1b"]),
        ("dead_letters.identity", ["é\u2028\0"], ["\ud800", 1, None]),
    ],
)
def test_a_value_is_one_that_redrive_writes(column: str, right: list[Any], wrong: list[Any]):
    assert all(takes(column, value) for value in right)
    assert not any(takes(column, value) for value in wrong)
