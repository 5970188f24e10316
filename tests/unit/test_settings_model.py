"""The whole of redrive.toml: what good settings become, and what their parts must agree on."""

import pytest
from pydantic import ValidationError
from settings_texts import DESIGN, ROUTE, SOURCE, assembled, keys, line

from tasks.dlq.calls.route import Route
from tasks.dlq.errors import ConfigError, UnknownRoute
from tasks.dlq.parameters import Integer


def test_an_empty_file_is_a_configuration():
    settings = assembled()
    assert settings.ledger.url == "sqlite:///.redrive/ledger.db"
    assert settings.broker.url == "sqs://"
    assert not settings.routes
    assert not settings.sources
    assert settings.visibility_timeout == 300
    assert settings.notify_urls() == ()
    assert settings.sentry_dsn() == ""
    assert settings.tokens() == {}


def test_a_whole_configuration():
    settings = assembled(DESIGN)
    assert settings.routes["employees"] == Route(
        name="employees",
        url="https://company.com/employees/{employeeId}",
        params={"employeeId": Integer(positive=True)},
        headers={"Content-Type": "application/json"},
        bearer_env="EMPLOYEES_API_TOKEN",
    )
    assert settings.route("employees") is settings.routes["employees"]
    source = settings.sources["employees_dlq"]
    assert (source.kind, source.queue, source.endpoint, source.max_body) == ("sqs", "employees-dlq", None, 1 << 20)
    assert keys(settings, "employees_dlq", {"employeeId": 7}) == [{"employeeId": "7"}]
    teams = settings.sources["teams"]
    assert teams.max_body == 65536
    assert keys(settings, "teams", {"employees": [{"id": 1}, {"id": 2}]}) == [{"employeeId": "1"}, {"employeeId": "2"}]
    assert (settings.alerts.burst.failures, settings.alerts.burst.within) == (20, 300.0)


def test_settings_are_frozen():
    settings = assembled(DESIGN)
    with pytest.raises(ValidationError):
        settings.worker.slice = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.routes["x"] = settings.routes["employees"]  # type: ignore[index]


def test_the_ledger_is_in_the_state_directory():
    assert assembled(REDRIVE_STATE_DIR="/var/lib/redrive").ledger.url == "sqlite:////var/lib/redrive/ledger.db"
    assert assembled('state_dir = "s"\n[ledger]').ledger.url == "sqlite:///s/ledger.db"
    assert assembled('state_dir = "s"\n[ledger]\nurl = "sqlite:///x.db"').ledger.url == "sqlite:///x.db"


def test_an_unknown_route_names_the_nearest():
    with pytest.raises(UnknownRoute) as caught:
        assembled(DESIGN).route("employes")
    assert caught.value.hint == "did you mean employees?"
    with pytest.raises(UnknownRoute) as caught:
        assembled(DESIGN).route("x")
    assert "employees" in caught.value.hint


@pytest.mark.parametrize("name", ["celery", "cli"])
def test_a_source_has_no_name_of_redrives_own(name: str):
    assert f"sources.{name}: must have another name" in line(ROUTE + SOURCE.replace("sources.s", f"sources.{name}"))


def test_the_visibility_timeout_is_long_enough():
    slow = '[routes.slow]\nurl = "http://host/"\ndeadline = "15m"\ndrain = "2m"'
    settings = assembled(slow)
    assert settings.visibility_timeout >= settings.worker.slice + settings.routes["slow"].lease + 30
    assert assembled(slow, REDRIVE_BROKER__VISIBILITY_TIMEOUT="1h").visibility_timeout == 3600


def test_a_visibility_timeout_that_is_too_short_is_refused():
    found = line('[broker]\nvisibility_timeout = "1m"\n[routes.slow]\nurl = "http://h/"\ndeadline = "10m"')
    lease = Route(name="slow", url="http://h/", deadline=600).lease
    assert found.endswith(f"must be at least a slice and the longest lease of a route: {5 + lease:g}s")


def test_tokens_come_from_the_environment():
    assert assembled(DESIGN, EMPLOYEES_API_TOKEN="abc.def-_~+/=").tokens() == {"employees": "abc.def-_~+/="}


@pytest.mark.parametrize("token", ["", "two words", "sesame\n", " sesame", "sésame", "x" * 9000, "a\0b"])
def test_a_wrong_token_is_refused_and_not_shown(token: str):
    with pytest.raises(ConfigError) as caught:
        assembled(DESIGN, EMPLOYEES_API_TOKEN=token).tokens()
    assert caught.value.message.startswith("EMPLOYEES_API_TOKEN ")
    assert "routes.employees.bearer_env" in caught.value.message
    assert not token or token.strip() not in caught.value.message


def test_all_missing_tokens_are_named_at_once():
    text = "\n".join(f'[routes.r{n}]\nurl = "http://host/"\nbearer_env = "TOKEN_{n}"' for n in (1, 2))
    with pytest.raises(ConfigError) as caught:
        assembled(text).tokens()
    assert [line.split()[0] for line in caught.value.message.splitlines()] == ["TOKEN_1", "TOKEN_2"]


def test_notify_urls():
    assert assembled(REDRIVE_NOTIFY="json://h/a,b slack://x/y/z,mailto://m\n").notify_urls() == (
        "json://h/a,b",
        "slack://x/y/z",
        "mailto://m",
    )
    assert assembled('[alerts]\nnotify_env = "OTHER"', OTHER="json://h").notify_urls() == ("json://h",)
    with pytest.raises(ConfigError) as caught:
        assembled(REDRIVE_NOTIFY="xoxb-sesame").notify_urls()
    assert "sesame" not in caught.value.message


def test_sentry_dsn():
    assert assembled(SENTRY_DSN="https://key@sentry.io/1").sentry_dsn() == "https://key@sentry.io/1"
    for wrong in ("sesame", "https://sentry.io/1", "https://key@"):
        with pytest.raises(ConfigError) as caught:
            assembled(SENTRY_DSN=wrong).sentry_dsn()
        assert "sesame" not in caught.value.message
