"""Texts of redrive.toml, and what becomes of them. For the tests of the settings."""

import json
import tomllib

import pytest

from tasks.dlq.calls.route import Route
from tasks.dlq.errors import ConfigError
from tasks.dlq.ports import Record
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

ROUTE = """
[routes.r]
url = "http://host/{id}"
params.id = "int"
"""

SOURCE = """
[sources.s]
kind = "sqs"
queue = "q"
route = "r"
map.id = "id"
"""


def assembled(text: str = "", /, **environ: str) -> Settings:
    """Return the settings of a file's text and an environment."""
    return assemble(tomllib.loads(text), environ, file="redrive.toml")


def route(text: str, **environ: str) -> Route:
    """Return the route of ROUTE with more keys."""
    return assembled(ROUTE + text, **environ).routes["r"]


def keys(settings: Settings, source: str, body: object) -> list[object]:
    """Return the keys that a source of the settings finds in a body."""
    reader = settings.sources[source].reader(settings.routes)
    return [json.loads(key) for key in reader.read(source, Record(identity="1", body=json.dumps(body).encode())).keys]


def lines(text: str, /, **environ: str) -> list[str]:
    """Return the lines of the message by which the configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        assemble(tomllib.loads(text), environ, file="redrive.toml")
    assert "docs/reference/configuration.md" in caught.value.hint
    assert caught.value.exit_code == 2
    found = caught.value.message.splitlines()
    assert all(line.isprintable() for line in found)
    return found


def line(text: str, /, **environ: str) -> str:
    """Return the message by which the configuration is refused; it has one line."""
    (only,) = lines(text, **environ)
    return only
