"""A Kafka source in redrive.toml: what it takes, what it refuses, and what librdkafka is told."""

import json
import tomllib

import pytest

from tasks.adapters.kafka import ROLES
from tasks.dlq.errors import ConfigError
from tasks.settings import Settings, assemble, kafka
from tasks.settings.sources import KafkaSource

ROUTE = """
[routes.r]
url = "http://host/{id}"
params.id = "int"
"""
SOURCE = """
[sources.s]
kind = "kafka"
bootstrap = "kafka-1:9092"
topics = ["r-dlt"]
route = "r"
map.id = "id"
"""


def settings(text: str = "", **environ: str) -> Settings:
    return assemble(tomllib.loads(ROUTE + SOURCE + text), environ, file="redrive.toml")


def source(text: str = "", **environ: str) -> KafkaSource:
    found = settings(text, **environ).sources["s"]
    assert isinstance(found, KafkaSource)
    return found


def line(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        assemble(tomllib.loads(ROUTE + text), environ, file="redrive.toml")
    (only,) = caught.value.message.splitlines()
    assert "sesame" not in only
    return only


def test_defaults():
    found = source()
    assert (found.bootstrap, found.topics, found.group) == ("kafka-1:9092", ("r-dlt",), "redrive")
    assert settings().kafka_properties("s") == {}


def test_properties_are_written_with_dots_or_underscores_and_reach_librdkafka():
    text = 'properties."security.protocol" = "SASL_SSL"\nproperties.session_timeout_ms = 6000\n'
    assert settings(text + "properties.socket_keepalive_enable = true").kafka_properties("s") == {
        "security.protocol": "SASL_SSL",
        "session.timeout.ms": "6000",
        "socket.keepalive.enable": "true",
    }


def test_secrets_come_from_the_environment_only():
    found = settings('properties_env.sasl_password = "KAFKA_PASSWORD"', KAFKA_PASSWORD="sesame")
    assert found.kafka_properties("s") == {"sasl.password": "sesame"}
    assert "sesame" in found.secrets()
    assert "sesame" not in repr(found) + json.dumps(found.describe())


def test_a_secret_that_is_not_set_is_named():
    with pytest.raises(ConfigError, match=r"KAFKA_PASSWORD is not set: sources\.s\.properties_env\.sasl_password says"):
        settings('properties_env.sasl_password = "KAFKA_PASSWORD"').kafka_properties("s")


def test_everything_can_be_set_by_the_environment():
    environ = {
        "KIND": "kafka",
        "BOOTSTRAP": "[::1]:9092, b:9092",
        "TOPICS": "a, b",
        "GROUP": "g",
        "ROUTE": "r",
        "MAP__id": "id",
        "PROPERTIES__SECURITY_PROTOCOL": "SSL",
        "PROPERTIES_ENV__SSL_KEY_PASSWORD": "KEY_PASSWORD",
        "HEADER_NAMES__TOPIC": "x-topic",
        "HEADER_NAMES__CAUSE_MESSAGE": "x-cause",
    }
    variables = {f"REDRIVE_SOURCES__T__{name}": value for name, value in environ.items()}
    found = assemble(tomllib.loads(ROUTE), {**variables, "KEY_PASSWORD": "sesame"})
    table = found.sources["t"]
    assert isinstance(table, KafkaSource)
    assert (table.topics, table.bootstrap, table.group) == (("a", "b"), "[::1]:9092, b:9092", "g")
    assert found.kafka_properties("t") == {"security.protocol": "SSL", "ssl.key.password": "sesame"}
    assert table.header_names == {"topic": "x-topic", "cause_message": "x-cause"}
    assert found.describe()["settings"]["sources.t.topics"] == {"value": ["a", "b"], "from": "REDRIVE_SOURCES__T__TOPICS"}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("bootstrap", '"kafka"', 'must be "HOST:PORT"'),
        ("bootstrap", '"PLAINTEXT://kafka:9092"', 'must be "HOST:PORT"'),
        ("bootstrap", '["a:1"]', 'must be "HOST:PORT"'),
        ("topics", "[]", "must be a list of topics"),
        ("topics", '["a", "a"]', "must be a list of topics"),
        ("topics", "[1]", "must be a topic's name"),
        ("topics", '[".."]', "must be a topic's name"),
        ("topics", '["a b"]', "must be a topic's name"),
        ("topics", f'["{"t" * 250}"]', "must be a topic's name"),
        ("group", '""', "must be at most 249"),
        ("queue", '"q"', 'sources.s.queue is no key of a source of kind "kafka"'),
        ("topiks", '["a"]', "did you mean topics?"),
        ("properties.enable_auto_commit", "true", "must not be set: offsets are committed after the ledger"),
        ('properties."enable.auto.offset.store"', "true", "must not be set"),
        ('properties."group.id"', '"g"', "set `group`"),
        ("properties.plugin_library_paths", '"x.so"', "must not be set"),
        ("properties.sasl_password", '"sesame"', "its variable into properties_env.sasl_password"),
        ("properties.SASL_PASSWORD", '"sesame"', "must be a property of librdkafka"),
        ('properties."ssl.key.pem"', '"sesame"', "properties_env"),
        ("properties.security.protocol", '"sesame"', "write _ for the dots"),
        ("properties.security_protocol", '["sesame"]', "must be text, a number, true or false"),
        ("properties_env.sasl_password", '"sesame!"', "must be the name of an environment variable"),
        ("properties_env.group_id", '"GROUP"', "must not be set"),
        ("header_names.cause", '"x-cause"', "sources.s.header_names: must name the header with the topic"),
        ("header_names.hops", '"x-cause"', 'the name must be "topic" or'),
    ],
)
def test_a_kafka_source_refuses(key: str, value: str, told: str):
    text = "\n".join(each for each in SOURCE.splitlines() if not each.startswith(f"{key} "))
    found = line(f"{text}\n{key} = {value}")
    assert told in found
    assert found.startswith("redrive.toml: sources.s.")


def test_a_property_stands_once():
    assert "client.id is set twice" in line(SOURCE + 'properties.client_id = "a"\nproperties."client.id" = "b"')


def test_a_key_of_another_kind_is_told_from_one_that_nobody_knows():
    sqs = '[sources.q]\nkind = "sqs"\nqueue = "q"\nroute = "r"\nmap.id = "id"\ntopics = ["a"]'
    assert line(sqs) == 'redrive.toml: sources.q.topics is no key of a source of kind "sqs"'


def test_two_sources_do_not_share_a_topic_in_one_group():
    other = SOURCE.replace("sources.s", "sources.t")
    assert "sources.t.topics" in line(SOURCE + other)
    assert len(assemble(tomllib.loads(ROUTE + SOURCE + other + 'group = "another"'), {}).sources) == 2


def test_a_source_that_is_no_table_is_told_so():
    assert "sources.s" in line("[sources]\ns = 1")


def test_the_roles_of_headers_are_those_that_are_read():
    assert kafka.ROLES == ROLES
