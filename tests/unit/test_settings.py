"""What good settings become, and where each value comes from."""

import json
import tomllib
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection
from kombu.transport.SQS import Channel
from pydantic import ValidationError

from tasks.dlq.calls.outcome import Answers
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import ConfigError, UnknownRoute
from tasks.dlq.parameters import Choice, Integer, Pattern, Text, Uuid
from tasks.settings import Settings, assemble

DESIGN = """
[ledger]
url = "sqlite:///.redrive/ledger.db"

[routes.employees]
url = "https://company.com/employees/{employeeId}"
method = "PUT"
delay = "30s"
deadline = "20s"
max_in_flight = 1
params.employeeId = "positive-int"
headers.Content-Type = "application/json"
bearer_env = "EMPLOYEES_API_TOKEN"
retry = { max_attempts = 8, base = "5s", cap = "15m" }

[sources.employees_dlq]
kind = "sqs"
queue = "employees-dlq"
route = "employees"
map.employeeId = "employeeId"

[sources.teams]
kind = "sqs"
queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/teams-dlq"
route = "employees"
each = "employees[]"
map.employeeId = "id"
max_body = "64KiB"

[alerts]
notify_env = "REDRIVE_NOTIFY"
burst = { failures = 20, within = "5m" }
"""


def made(text: str = "", /, **environ: str) -> Settings:
    return assemble(tomllib.loads(text), environ, file="redrive.toml")


def route(text: str, **environ: str) -> Route:
    return made(f'[routes.r]\nurl = "http://host/{{id}}"\nparams.id = "int"\n{text}', **environ).routes["r"]


def test_nothing_at_all_is_a_configuration():
    settings = made()
    assert settings.ledger.url == "sqlite:///.redrive/ledger.db"
    assert settings.broker.url == "sqs://"
    assert not settings.routes
    assert not settings.sources
    assert settings.visibility_timeout == 300
    assert settings.notify_urls() == ()
    assert settings.sentry_dsn() == ""
    assert settings.tokens() == {}


def test_the_configuration_of_the_design():
    settings = made(DESIGN)
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
    assert source.mapping.read({"employeeId": 7}) == [{"employeeId": 7}]
    teams = settings.sources["teams"]
    assert teams.max_body == 65536
    assert teams.mapping.read({"employees": [{"id": 1}, {"id": 2}]}) == [{"employeeId": 1}, {"employeeId": 2}]
    assert (settings.alerts.burst.failures, settings.alerts.burst.within) == (20, 300.0)


def test_a_route_of_which_only_the_url_is_given_is_the_default_request():
    settings = made('[routes.ping]\nurl = "http://host/sync"')
    assert settings.routes["ping"] == Route(name="ping", url="http://host/sync")


def test_settings_are_frozen():
    settings = made(DESIGN)
    with pytest.raises(ValidationError):
        settings.worker.slice = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.routes["x"] = settings.routes["employees"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ('"500ms"', 0.5),
        ('"30s"', 30),
        ('"15m"', 900),
        ('"1h"', 3600),
        ('"7d"', 604800),
        ("90", 90),
        ("0.25", 0.25),
        ('"1.5m"', 90),
    ],
)
def test_durations(written: str, seconds: float):
    assert route(f"delay = {written}").delay == seconds


@pytest.mark.parametrize(("written", "size"), [('"1KiB"', 1024), ('"1MiB"', 1 << 20), ('"2048B"', 2048), ("4096", 4096)])
def test_sizes(written: str, size: int):
    assert route(f"max_response_bytes = {written}").max_response_bytes == size


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
    settings = made(f'[routes.r]\nurl = "http://host/{{id}}"\nparams.id = {written}')
    assert settings.routes["r"].params == {"id": kind}
    shown = settings.describe()["settings"]["routes.r.params.id"]["value"]
    assert shown == tomllib.loads(f"x = {written}")["x"]
    from_environment = made('[routes.r]\nurl = "http://host/{id}"', REDRIVE_ROUTES__R__PARAMS__id=json.dumps(shown).strip('"'))
    assert from_environment.routes == settings.routes


def test_given_headers_join_the_default_one_and_an_empty_value_leaves_it_out():
    assert route("").headers == {"Content-type": "application/json"}
    assert route('headers.X-Tenant = "a"').headers == {"Content-type": "application/json", "X-Tenant": "a"}
    assert route('headers.CONTENT-TYPE = "text/plain"').headers == {"CONTENT-TYPE": "text/plain"}
    assert route('headers.content-type = ""').headers == {}


def test_a_status_named_in_one_list_leaves_the_defaults_of_the_others():
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


def test_the_visibility_timeout_outlasts_the_longest_slice():
    slow = '[routes.slow]\nurl = "http://host/"\ndeadline = "15m"\ndrain = "2m"'
    settings = made(slow)
    assert settings.visibility_timeout >= settings.worker.slice + settings.routes["slow"].lease + 30
    assert made(slow, REDRIVE_BROKER__VISIBILITY_TIMEOUT="1h").visibility_timeout == 3600


@pytest.mark.parametrize(
    ("url", "endpoint", "secure", "key", "secret"),
    [
        ("sqs://", None, True, None, None),
        ("sqs://AKIA:a%2Fb%40@", None, True, "AKIA", "a/b@"),
        ("sqs://key:secret@127.0.0.1:4566", "http://127.0.0.1:4566", False, "key", "secret"),
        ("sqs://elasticmq:9324", "http://elasticmq:9324", False, None, None),
        ("sqs://sqs.eu-west-1.amazonaws.com", "https://sqs.eu-west-1.amazonaws.com", True, None, None),
        ("sqs://vpce:443/", "https://vpce:443", True, None, None),
    ],
)
def test_the_broker_tells_boto3_what_kombu_makes_of_its_url(
    url: str, endpoint: str | None, secure: Any, key: str | None, secret: str | None
):
    broker = made(REDRIVE_BROKER__URL=url).broker
    assert (broker.endpoint_url, broker.is_secure) == (endpoint, secure)
    assert (broker.access_key_id, broker.secret_access_key) == (key, secret)
    with Connection(url) as connection:
        # What kombu's channel reads of itself to make its endpoint; a real channel would call SQS.
        channel = SimpleNamespace(conninfo=connection, is_secure=broker.is_secure)
        assert Channel.endpoint_url.func(channel) == endpoint
        assert (connection.userid, connection.password) == (key, secret)


def test_tls_can_be_forced():
    assert made(REDRIVE_BROKER__URL="sqs://h:1234", REDRIVE_BROKER__TLS="true").broker.endpoint_url == "https://h:1234"
    assert not made(REDRIVE_BROKER__TLS="false").broker.is_secure


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_spoken_by_the_driver_that_is_installed(scheme: str):
    assert made(REDRIVE_LEDGER__URL=f"{scheme}://u:p@h:5432/d").ledger.url == "postgresql+psycopg://u:p@h:5432/d"


def test_the_ledger_follows_the_state_directory():
    assert made(REDRIVE_STATE_DIR="/var/lib/redrive").ledger.url == "sqlite:////var/lib/redrive/ledger.db"
    assert made('state_dir = "s"\n[ledger]').ledger.url == "sqlite:///s/ledger.db"
    assert made('state_dir = "s"\n[ledger]\nurl = "sqlite:///x.db"').ledger.url == "sqlite:///x.db"


def test_the_environment_wins_over_the_file_and_finds_its_names_without_case():
    settings = made(
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


def test_the_environment_alone_can_be_the_whole_configuration():
    settings = made(
        REDRIVE_ROUTES__EMPLOYEES__URL="https://company.com/employees/{employeeId}",
        REDRIVE_ROUTES__EMPLOYEES__PARAMS__employeeId="positive-int",
        REDRIVE_ROUTES__EMPLOYEES__HEADERS__X_API_KEY="sesame",
        REDRIVE_SOURCES__DLQ__KIND="sqs",
        REDRIVE_SOURCES__DLQ__QUEUE="employees-dlq",
        REDRIVE_SOURCES__DLQ__ROUTE="employees",
        REDRIVE_SOURCES__DLQ__EACH="[]",
        REDRIVE_SOURCES__DLQ__MAP__employeeId="id",
        REDRIVE_BROKER__PREDEFINED_QUEUES__REDRIVE_RECOVERY="https://sqs.eu-west-1.amazonaws.com/1/redrive-recovery",
    )
    assert settings.routes["employees"].headers["X-API-KEY"] == "sesame"
    assert settings.sources["dlq"].mapping.read([{"id": 1}]) == [{"employeeId": 1}]
    assert list(settings.broker.predefined_queues) == ["redrive-recovery"]


def test_variables_that_are_not_keys_are_left_alone():
    made(REDRIVE_PORT="tcp://10.0.0.1:80", REDRIVE_NOTIFY="json://h", REDRIVE_REQUIRE_ALL="1", REDRIVE_CONFIG="x", PATH="/bin")


def test_an_unknown_route_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownRoute) as caught:
        made(DESIGN).route("employes")
    assert caught.value.hint == "did you mean employees?"
    with pytest.raises(UnknownRoute) as caught:
        made(DESIGN).route("x")
    assert "employees" in caught.value.hint


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_tokens_come_from_the_environment():
    assert made(DESIGN, EMPLOYEES_API_TOKEN="abc.def-_~+/=").tokens() == {"employees": "abc.def-_~+/="}


@pytest.mark.parametrize("token", ["", "two words", "sesame\n", " sesame", "sésame", "x" * 9000, "a\0b"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_shown(token: str):
    with pytest.raises(ConfigError) as caught:
        made(DESIGN, EMPLOYEES_API_TOKEN=token).tokens()
    assert caught.value.message.startswith("EMPLOYEES_API_TOKEN ")
    assert "routes.employees.bearer_env" in caught.value.message
    assert not token or token.strip() not in caught.value.message


def test_all_missing_tokens_are_told_at_once():
    text = "\n".join(f'[routes.r{n}]\nurl = "http://host/"\nbearer_env = "TOKEN_{n}"' for n in (1, 2))
    with pytest.raises(ConfigError) as caught:
        made(text).tokens()
    assert [line.split()[0] for line in caught.value.message.splitlines()] == ["TOKEN_1", "TOKEN_2"]


def test_addresses_to_notify():
    assert made(REDRIVE_NOTIFY="json://h/a,b slack://x/y/z,mailto://m\n").notify_urls() == (
        "json://h/a,b",
        "slack://x/y/z",
        "mailto://m",
    )
    assert made('[alerts]\nnotify_env = "OTHER"', OTHER="json://h").notify_urls() == ("json://h",)
    with pytest.raises(ConfigError) as caught:
        made(REDRIVE_NOTIFY="xoxb-sesame").notify_urls()
    assert "sesame" not in caught.value.message


def test_sentry_dsn():
    assert made(SENTRY_DSN="https://key@sentry.io/1").sentry_dsn() == "https://key@sentry.io/1"
    for wrong in ("sesame", "https://sentry.io/1", "https://key@"):
        with pytest.raises(ConfigError) as caught:
            made(SENTRY_DSN=wrong).sentry_dsn()
        assert "sesame" not in caught.value.message


SECRETS = {
    "REDRIVE_LEDGER__URL": "postgresql://user:s3same@host/db?sslpassword=s3same",
    "REDRIVE_BROKER__URL": "sqs://s3same:s3s%2Fame@127.0.0.1:4566",
    "REDRIVE_MONITOR__URL": "redis://:s3same@127.0.0.1:6379/0",
    "REDRIVE_ROUTES__EMPLOYEES__HEADERS__X_API_KEY": "s3same",
    "REDRIVE_ROUTES__EMPLOYEES__URL": "https://company.com/{employeeId}?api_key=s3same&code=s3same",
    "REDRIVE_ROUTES__EMPLOYEES__BODY": '[{"Api-Key": "s3same", "login": {"PASSWORD": ["s3same"]}}]',
    "EMPLOYEES_API_TOKEN": "s3same",
    "REDRIVE_NOTIFY": "slack://s3same/b/c",
    "SENTRY_DSN": "https://s3same@sentry.io/1",
}


def test_secrets_are_masked_wherever_settings_are_shown():
    settings = made(DESIGN, **SECRETS)
    for shown in (repr(settings), str(settings), json.dumps(settings.describe()), repr(settings.sources), repr(settings.broker)):
        assert "s3s" not in shown


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
def test_a_body_is_shown_without_what_its_names_give_away(body: str, shown: str):
    described = made(DESIGN, REDRIVE_ROUTES__EMPLOYEES__BODY=body).describe()["settings"]
    assert described["routes.employees.body"]["value"] == shown
    assert made(DESIGN).describe()["settings"]["routes.employees.body"]["value"] is None


def test_the_description_tells_values_as_people_write_them_and_their_origin():
    described = made(DESIGN, REDRIVE_WORKER__SLICE="250ms", REDRIVE_BROKER__URL="sqs://k:s@127.0.0.1:4566").describe()
    assert described["file"] == "redrive.toml"
    settings = described["settings"]
    assert settings["worker.slice"] == {"value": "250ms", "from": "REDRIVE_WORKER__SLICE"}
    assert settings["broker.url"] == {"value": "sqs://***@127.0.0.1:4566", "from": "REDRIVE_BROKER__URL"}
    assert settings["broker.tls"] == {"value": False, "from": "default"}
    assert settings["broker.visibility_timeout"] == {"value": "5m", "from": "default"}
    assert settings["routes.employees.delay"] == {"value": "30s", "from": "file"}
    assert settings["routes.employees.drain"] == {"value": "5s", "from": "default"}
    assert settings["routes.employees.retry.cap"] == {"value": "15m", "from": "file"}
    assert settings["routes.employees.headers.Content-Type"] == {"value": "***", "from": "file"}
    assert settings["sources.teams.max_body"] == {"value": "64KiB", "from": "file"}
    assert settings["alerts.burst.within"] == {"value": "5m", "from": "file"}
    assert made().describe()["file"] == "redrive.toml"
    assert assemble({}, {}).describe()["file"] is None


def test_a_secret_in_a_routes_url_is_kept_out_of_logs():
    text = '[routes.r]\nurl = "https://host/{id}?code=abc%2Fdefgh&page=1"\nparams.id = "int"'
    assert {"abc%2Fdefgh", "abc/defgh"} <= set(assemble(tomllib.loads(text), {}).secrets())
