"""What `redrive show` tells of where a dead letter comes from."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.cli.origin import list_facts, summarize

KAFKA = {
    "topic": "employees-dlt",
    "partition": 0,
    "offset": 7,
    "first": {"topic": "employees", "partition": 3, "offset": 41},
    "exception": {"class": "org.hibernate.StaleObjectStateException", "message": "row was updated"},
    "headers": {"kind": "employee"},
}


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (KAFKA, "employees/3@41 StaleObjectStateException"),
        ({"topic": "employees-dlt", "partition": 0, "offset": 7}, "employees-dlt/0@7"),
        ({"queue": "q", "attributes": {"topic": "employees", "exception": "StaleDataError"}}, "employees StaleDataError"),
        ({"topic": "employees", "exception": "x.Y"}, "employees Y"),
        ({"queue": "q", "message_id": "m"}, ""),
        ({"first": "odd", "exception": 5, "topic": {"a": 1}, "attributes": []}, "{'a': 1} 5"),
        ({"exception": {}}, ""),
        ({}, ""),
    ],
)
def test_a_letter_s_origin_in_short(origin: dict[str, Any], said: str):
    assert summarize(origin) == said


def test_all_of_it_by_dotted_names():
    assert list_facts(KAFKA) == {
        "topic": "employees-dlt",
        "partition": 0,
        "offset": 7,
        "first.topic": "employees",
        "first.partition": 3,
        "first.offset": 41,
        "exception.class": "org.hibernate.StaleObjectStateException",
        "exception.message": "row was updated",
        "headers.kind": "employee",
    }
    assert list_facts({"hops": [1, 2], "empty": {}}) == {"hops": [1, 2], "empty": {}}
