"""The lines that a wrong configuration gets: where, the value unless it may be a secret, and what is allowed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings_texts import ROUTE, SOURCE, line, lines

from tasks.dlq.errors import ConfigError
from tasks.settings import Settings, assemble
from tasks.settings.keys import keys_of


def test_a_line_has_file_path_value_and_what_is_allowed():
    assert line(ROUTE + 'deadline = "2h"') == (
        'redrive.toml: routes.r.deadline is "2h": must be a duration from "100ms" to "15m", or a number of seconds'
    )


def test_a_long_value_is_cut():
    assert len(line(ROUTE + f'deadline = "{"1" * 5000}"')) < 250
    assert "\\u001b" in line(ROUTE + 'deadline = "\\u001b[31m"')


def test_all_problems_are_listed_at_once():
    text = ROUTE + 'metod = "PUT"\nwindow = 0\n[worker]\nslice = "x"\n[ledgr]\nurl = "x"'
    found = lines(text, REDRIVE_WORKER__CONCURRENCY="0", REDRIVE_LEDGR__URL="x")
    assert len(found) == 6
    for start in (
        "REDRIVE_LEDGR__URL:",
        "REDRIVE_WORKER__CONCURRENCY (worker.concurrency) is",
        "redrive.toml: ledgr is not a key",
        "redrive.toml: routes.r.metod is not a key",
        "redrive.toml: routes.r.window is 0",
        'redrive.toml: worker.slice is "x"',
    ):
        assert any(each.startswith(start) for each in found), start


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("[ledgr]", "ledgr is not a key of Redrive; did you mean ledger?"),
        (ROUTE + 'metod = "PUT"', "routes.r.metod is not a key of Redrive; did you mean method?"),
        (
            ROUTE + "retry = { max_attemps = 3 }",
            "routes.r.retry.max_attemps is not a key of Redrive; did you mean max_attempts?",
        ),
        (ROUTE + SOURCE + 'maps.id = "id"', "sources.s.maps is not a key of Redrive; did you mean map?"),
        ("[broker]\nxyz = 1", "broker.xyz is not a key of Redrive; known here: "),
    ],
)
def test_an_unknown_key_names_the_nearest(text: str, suggestion: str):
    assert suggestion in line(text)


def test_an_unknown_key_may_have_the_name_of_a_kind():
    assert line(ROUTE + SOURCE + "sqs = 1").startswith("redrive.toml: sources.s.sqs is not a key of Redrive;")


def test_values_of_unknown_keys_are_not_shown():
    assert "sesame" not in line(ROUTE + 'password = "sesame"')
    assert "sesame" not in line(ROUTE + 'auth = { token = "sesame" }')


def test_missing_keys():
    found = lines('[routes.r]\n[sources.s]\n[sources.t]\nkind = "sqs"')
    assert [each.split(": must be")[0] for each in found] == [
        "redrive.toml: routes.r.url is missing",
        "redrive.toml: sources.s.kind is missing",
        "redrive.toml: sources.t.queue is missing",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "routes = 3",
        'routes = ["r"]',
        "[routes]\nr = 1",
        "ledger = 1",
        "[alerts]\nburst = 20",
        "[[sources]]",
        ROUTE + "retry = 3",
        ROUTE + "headers = 3",
    ],
)
def test_a_value_instead_of_a_table(text: str):
    assert "must be a table" in line(text)
    path = "routes.r.headers.x" if "routes" in text else "ledger.url"
    assert any("must be a table" in each for each in lines(text, **{"REDRIVE_" + path.upper().replace(".", "__"): "y"}))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.sampled_from(["1s", "sqs", "int", "http://h/"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


paths = st.sampled_from([key.path for key in keys_of(Settings)])


@given(
    st.lists(st.tuples(paths, st.integers(0, 3), values), max_size=5), st.dictionaries(st.text(max_size=9), values, max_size=1)
)
def test_any_table_is_settings_or_a_config_error(entries: list[tuple[tuple[str, ...], int, Any]], extra: dict[str, Any]):
    table: dict[str, Any] = dict(extra)
    for path, cut, value in entries:
        below: Any = table
        steps = [step.lower() if step == "NAME" else step for step in path[: max(1, len(path) - cut)]]
        for step in steps[:-1]:
            below = below.setdefault(step, {}) if isinstance(below, dict) else {}
        if isinstance(below, dict):
            below[steps[-1]] = value
    try:
        settings = assemble(table, {}, file="redrive.toml")
    except ConfigError as error:
        expected = error.message.splitlines()
        assert expected
        assert all(each.startswith("redrive.toml: ") for each in expected)
    else:
        assert settings.describe()["settings"]
