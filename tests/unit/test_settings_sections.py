"""The tables without names of a person's own: broker, ledger, worker and so on."""

from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection
from kombu.transport.SQS import Channel
from settings_texts import assembled, line


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
def test_boto3_and_kombu_read_the_brokers_url_alike(
    url: str, endpoint: str | None, secure: Any, key: str | None, secret: str | None
):
    broker = assembled(REDRIVE_BROKER__URL=url).broker
    assert (broker.endpoint_url, broker.is_secure) == (endpoint, secure)
    assert (broker.access_key_id, broker.secret_access_key) == (key, secret)
    with Connection(url) as connection:
        # What kombu's channel reads of itself to make its endpoint; a real channel would call SQS.
        channel = SimpleNamespace(conninfo=connection, is_secure=broker.is_secure)
        assert Channel.endpoint_url.func(channel) == endpoint
        assert (connection.userid, connection.password) == (key, secret)


def test_tls_can_be_forced():
    assert assembled(REDRIVE_BROKER__URL="sqs://h:1234", REDRIVE_BROKER__TLS="true").broker.endpoint_url == "https://h:1234"
    assert not assembled(REDRIVE_BROKER__TLS="false").broker.is_secure


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_installed_driver_of_postgresql_is_used(scheme: str):
    assert assembled(REDRIVE_LEDGER__URL=f"{scheme}://u:p@h:5432/d").ledger.url == "postgresql+psycopg://u:p@h:5432/d"


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("ledger.url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "x", "", "sqlite+aiosqlite:///x"]),
        (
            "broker.url",
            [
                "amqp://h",
                "sqs:",
                "sqs://k@h",
                "sqs://:s@h",
                "sqs://h:0",
                "sqs://h:99999",
                "sqs://h/path",
                "sqs://h?x=y",
                "sqs://[::1]:1",
            ],
        ),
        ("broker.tls", ["yes", "1", ""]),
        ("broker.wait_time", ["16", "-1"]),
        ("broker.visibility_timeout", ["13h", "1s"]),
        ("broker.queue_prefix", ["a b", "x" * 41]),
        ("monitor.url", ["http://h", "redis://", "redis:///0"]),
        ("worker.slice", ["0s", "2m"]),
        ("sweeps.promote", ["0s", "2h"]),
        ("prune.keep", ["14d", "1000"]),
    ],
)
def test_what_sections_refuse(section: str, values: list[str]):
    variable = "REDRIVE_" + section.upper().replace(".", "__")
    for value in values:
        assert line("", **{variable: value}).startswith(f"{variable} ({section})"), value
