"""REDRIVE_… variables: which of them override the file, and which are refused."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings_texts import DESIGN, ROUTE, assembled, keys, line, lines

from tasks.dlq.errors import ConfigError
from tasks.dlq.parameters import Uuid
from tasks.settings import assemble


def test_variables_win_over_the_file():
    settings = assembled(
        DESIGN,
        REDRIVE_ROUTES__EMPLOYEES__URL="https://other/{employeeId}",
        REDRIVE_ROUTES__EMPLOYEES__PARAMS__EMPLOYEEID="uuid",
        REDRIVE_ROUTES__EMPLOYEES__HEADERS__CONTENT_TYPE="text/plain",
        REDRIVE_ROUTES__EMPLOYEES__RETRY__MAX_ATTEMPTS="3",
        REDRIVE_ROUTES__EMPLOYEES__ANSWERS__SUCCESS="2xx, 404",
        REDRIVE_SOURCES__EMPLOYEES_DLQ__QUEUE="elsewhere",
        REDRIVE_ALERTS__BURST__FAILURES="5",
    )
    changed = settings.routes["employees"]
    assert changed.url == "https://other/{employeeId}"
    assert changed.params == {"employeeId": Uuid()}
    assert changed.headers == {"Content-Type": "text/plain"}
    assert changed.retry.max_attempts == 3
    assert changed.retry.cap == 900
    assert 404 in changed.answers.success
    assert settings.sources["employees_dlq"].queue == "elsewhere"
    assert settings.alerts.burst.failures == 5
    assert settings.alerts.burst.within == 300


def test_variables_alone_are_a_configuration():
    settings = assembled(
        REDRIVE_ROUTES__EMPLOYEES__URL="https://company.com/employees/{employeeId}",
        REDRIVE_ROUTES__EMPLOYEES__PARAMS__employeeId="positive-int",
        REDRIVE_ROUTES__EMPLOYEES__HEADERS__X_API_KEY="sesame",
        REDRIVE_SOURCES__DLQ__KIND="sqs",
        REDRIVE_SOURCES__DLQ__QUEUE="employees-dlq",
        REDRIVE_SOURCES__DLQ__ROUTE="employees",
        REDRIVE_SOURCES__DLQ__EACH="[]",
        REDRIVE_SOURCES__DLQ__MAP__employeeId="id",
        REDRIVE_SOURCES__OTHER__KIND="sqs",
        REDRIVE_SOURCES__OTHER__QUEUE="other-dlq",
        REDRIVE_SOURCES__OTHER__ROUTE="employees",
        REDRIVE_SOURCES__OTHER__CONSTANTS__employeeId="7",
        REDRIVE_BROKER__PREDEFINED_QUEUES__REDRIVE_RECOVERY="https://sqs.eu-west-1.amazonaws.com/1/redrive-recovery",
    )
    assert settings.routes["employees"].headers["X-API-KEY"] == "sesame"
    assert keys(settings, "dlq", [{"id": 1}]) == [{"employeeId": "1"}]
    assert keys(settings, "other", {}) == [{"employeeId": "7"}]
    assert list(settings.broker.predefined_queues) == ["redrive-recovery"]


def test_the_files_table_is_not_changed():
    table = tomllib.loads(ROUTE)
    assemble(table, {"REDRIVE_ROUTES__R__DELAY": "1s"})
    assert table == tomllib.loads(ROUTE)


@pytest.mark.parametrize(
    "variable",
    [
        *("REDRIVE_PORT", "REDRIVE_PORT_80_TCP", "REDRIVE_SERVICE_HOST", "REDRIVE_BROKER_PORT", "REDRIVE_MONITOR_SERVICE_PORT"),
        *("REDRIVE_NOTIFY", "REDRIVE_CONFIG", "REDRIVE_REQUIRE_ALL", "REDRIVE_VERSION", "REDRIV_NOTIFY", "PATH"),
    ],
)
def test_other_variables_are_left_alone(variable: str):
    assembled("", **{variable: "x"})


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("REDRIVE_NOTIFI", "REDRIVE_NOTIFY"),
        ("REDRIVE_CONFG", "REDRIVE_CONFIG"),
        ("REDRIVE_STATEDIR", "REDRIVE_STATE_DIR"),
        ("REDRIVE_LEDGER_URL", "REDRIVE_LEDGER__URL"),
        ("REDRIVE_TOKENS", "REDRIVE_TOKEN"),
    ],
)
def test_a_misspelt_variable_is_refused(variable: str, near: str):
    found = line(ROUTE + 'bearer_env = "REDRIVE_TOKEN"', **{variable: "sesame", "REDRIVE_TOKEN": "x"})
    assert found == f"{variable}: Redrive reads no variable of this name; did you mean {near}?"


def test_variables_that_keys_name_are_left_alone():
    text = ROUTE + 'bearer_env = "REDRIVE_NOTIFI"\n[alerts]\nsentry_dsn_env = "REDRIVE_STATEDIR"'
    assembled(text, REDRIVE_NOTIFI="x", REDRIVE_STATEDIR="x")


@pytest.mark.parametrize("key", ["DELAY", "RETRY__BASE"])
def test_a_misspelt_table_is_the_fault_of_its_variable(key: str):
    found = line(DESIGN, **{f"REDRIVE_ROUTES__EMPLOYES__{key}": "5s"})
    assert found == (
        f"REDRIVE_ROUTES__EMPLOYES__{key}: redrive.toml has no routes.employes (did you mean employees?);"
        " a new one also needs REDRIVE_ROUTES__EMPLOYES__URL"
    )


def test_a_new_table_needs_all_required_keys():
    found = line(ROUTE, REDRIVE_SOURCES__X__ROUTE="r")
    assert found == "REDRIVE_SOURCES__X__ROUTE: redrive.toml has no sources.x; a new one also needs REDRIVE_SOURCES__X__KIND"


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("REDRIVE_LEDGR__URL", "did you mean REDRIVE_LEDGER__URL?"),
        ("REDRIVE_ROUTES__R__METOD", "Redrive has no key routes.r.metod"),
        ("REDRIVE_ROUTES__R", "routes.r is a table; set a key of it, such as REDRIVE_ROUTES__R__URL"),
        ("REDRIVE_ALERTS__BURST", "alerts.burst is a table; set a key of it, such as REDRIVE_ALERTS__BURST__FAILURES"),
        ("REDRIVE_WORKER__SLICE__X", "Redrive has no key worker.slice.x"),
        ("REDRIVE_WORKER__", "Redrive has no key worker."),
    ],
)
def test_unknown_variables_are_refused(variable: str, expected: str):
    found = line(ROUTE, **{variable: "sesame"})
    assert found.startswith(f"{variable}: ")
    assert expected in found
    assert "sesame" not in found


def test_a_wrong_value_names_its_variable():
    assert line(ROUTE, REDRIVE_ROUTES__R__DEADLINE="2h").startswith(
        'REDRIVE_ROUTES__R__DEADLINE (routes.r.deadline) is "2h": must be a'
    )


@pytest.mark.parametrize(
    "name", ["REDRIVE_X__\nredrive: ok=x", "REDRIVE_ROUTES__R__PARAMS__A\nredrive: ok", "REDRIVE_\x1b[2J__X"]
)
def test_a_variables_name_forges_no_line(name: str):
    assert all(ascii(name)[1:-1] in each for each in lines(ROUTE, **{name: "x"}))


@given(
    st.lists(st.sampled_from(["ROUTES", "R", "URL", "PARAMS", "id", "HEADERS", "", "BROKER", "X", "RETRY"]), max_size=5),
    st.text(max_size=10),
)
def test_any_variable_is_settings_or_a_config_error(parts: list[str], value: str):
    variable = "REDRIVE_" + "__".join(parts)
    try:
        assemble(tomllib.loads(ROUTE), {variable: value})
    except ConfigError as error:
        assert variable in error.message or ": routes." in error.message  # noqa: PT017 - either outcome is right
