"""`redrive config`: values as people write them, their origin, and no secret."""

import json
import tomllib

from settings_texts import DESIGN, assembled

from tasks.settings import assemble

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


def test_secrets_are_masked_in_every_display():
    settings = assembled(DESIGN, **SECRETS)
    for shown in (repr(settings), str(settings), json.dumps(settings.describe()), repr(settings.sources), repr(settings.broker)):
        assert "s3s" not in shown


def test_values_and_their_origins():
    described = assembled(DESIGN, REDRIVE_WORKER__SLICE="250ms", REDRIVE_BROKER__URL="sqs://k:s@127.0.0.1:4566").describe()
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
    assert assembled().describe()["file"] == "redrive.toml"
    assert assemble({}, {}).describe()["file"] is None


def test_whether_a_key_is_set_and_by_what():
    settings = assembled('[broker]\nregion = "eu-west-1"', REDRIVE_LEDGER__URL="sqlite:///x")
    assert settings.is_set("ledger", "url")
    assert settings.is_set("broker", "region")
    assert not settings.is_set("broker", "url")
    assert settings.variables == ["REDRIVE_LEDGER__URL"]
    assert settings.file == settings.source_file == "redrive.toml"
    assert assemble({}, {}).file is None
    assert assemble({}, {}).source_file.endswith("/redrive.toml (not there)")


def test_a_secret_in_a_routes_url_is_known():
    text = '[routes.r]\nurl = "https://host/{id}?code=abc%2Fdefgh&page=1"\nparams.id = "int"'
    assert {"abc%2Fdefgh", "abc/defgh"} <= set(assemble(tomllib.loads(text), {}).secrets())
