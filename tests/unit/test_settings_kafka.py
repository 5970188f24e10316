"""A Kafka source in redrive.toml: what it takes, what it refuses, and what librdkafka gets."""

import json
import tomllib

import pytest

from tasks.dlq.errors import ConfigError
from tasks.settings import Settings, assemble
from tasks.settings.kafka import KafkaTable

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


def source(text: str = "", **environ: str) -> KafkaTable:
    return settings(text, **environ).sources_of(KafkaTable)["s"]


def properties(settings: Settings, name: str = "s") -> dict[str, str]:
    return settings.sources_of(KafkaTable)[name].librdkafka(settings.source_secrets(name))


def line(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        assemble(tomllib.loads(ROUTE + text), environ, file="redrive.toml")
    (only,) = caught.value.message.splitlines()
    assert "sesame" not in only
    return only


def test_defaults():
    found = source()
    assert (found.bootstrap, found.topics, found.group) == ("kafka-1:9092", ("r-dlt",), "redrive")
    assert properties(settings()) == {}


def test_properties_have_dots_or_underscores():
    text = 'properties."security.protocol" = "SASL_SSL"\nproperties.session_timeout_ms = 6000\n'
    assert properties(settings(text + "properties.socket_keepalive_enable = true")) == {
        "security.protocol": "SASL_SSL",
        "session.timeout.ms": "6000",
        "socket.keepalive.enable": "true",
    }


def test_secrets_come_from_the_environment_only():
    found = settings('properties_env.sasl_password = "KAFKA_PASSWORD"', KAFKA_PASSWORD="sesame")
    assert properties(found) == {"sasl.password": "sesame"}
    assert "sesame" in found.secrets()
    assert "sesame" not in repr(found) + json.dumps(found.describe())


def test_a_secret_that_is_not_set_is_named():
    with pytest.raises(ConfigError, match=r"KAFKA_PASSWORD is not set: sources\.s\.properties_env\.sasl_password names it"):
        properties(settings('properties_env.sasl_password = "KAFKA_PASSWORD"'))


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
    table = found.sources_of(KafkaTable)["t"]
    assert (table.topics, table.bootstrap, table.group) == (("a", "b"), "[::1]:9092, b:9092", "g")
    assert properties(found, "t") == {"security.protocol": "SSL", "ssl.key.password": "sesame"}
    assert table.header_names == {"topic": "x-topic", "cause_message": "x-cause"}
    assert found.describe()["settings"]["sources.t.topics"] == {"value": ["a", "b"], "from": "REDRIVE_SOURCES__T__TOPICS"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("bootstrap", '"kafka"', 'must be "HOST:PORT"'),
        ("bootstrap", '"PLAINTEXT://kafka:9092"', 'must be "HOST:PORT"'),
        ("bootstrap", '["a:1"]', 'must be "HOST:PORT"'),
        ("topics", "[]", "must be a list of at most 100 topics"),
        ("topics", '["a", "a"]', "must be a list of at most 100 topics"),
        ("topics", "[1]", "; a topic has at most 249 of"),
        ("topics", '[".."]', "; a topic has at most 249 of"),
        ("topics", '["a b"]', "; a topic has at most 249 of"),
        (
            "topics",
            f'["{"t" * 250}"]',
            "; a topic has at most 249 of",
        ),
        ("group", '""', "must be at most 249"),
        ("queue", '"q"', 'sources.s.queue is not a key of a source of kind "kafka"'),
        ("topiks", '["a"]', "did you mean topics?"),
        ("properties.enable_auto_commit", "true", "must not be set: offsets are committed after the ledger"),
        ('properties."enable.auto.offset.store"', "true", "must not be set"),
        ('properties."group.id"', '"g"', "set `group`"),
        ("properties.plugin_library_paths", '"x.so"', "must not be set"),
        ("properties.sasl_password", '"sesame"', "name its variable in properties_env.sasl_password"),
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
def test_a_kafka_source_refuses(key: str, value: str, expected: str):
    text = "\n".join(each for each in SOURCE.splitlines() if not each.startswith(f"{key} "))
    found = line(f"{text}\n{key} = {value}")
    assert expected in found
    assert found.startswith("redrive.toml: sources.s.")


@pytest.mark.parametrize("topic", ["...", ".a", "a.", "..a", "-", "_", "t" * 249])
def test_unusual_names_of_topics(topic: str):
    assert source(REDRIVE_SOURCES__S__TOPICS=topic).topics == (topic,)


def test_a_property_is_set_once():
    assert "client.id is set twice" in line(SOURCE + 'properties.client_id = "a"\nproperties."client.id" = "b"')


def test_a_key_of_another_kind():
    sqs = '[sources.q]\nkind = "sqs"\nqueue = "q"\nroute = "r"\nmap.id = "id"\ntopics = ["a"]'
    assert line(sqs) == 'redrive.toml: sources.q.topics is not a key of a source of kind "sqs"'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kafka-1:9092", "kafka-1:9092"),
        ("kafka-1:9092", "KAFKA-1.:9092"),
        ("kafka-1:9092,kafka-2:9092", "kafka-3:9092, kafka-2:9092"),
        ("localhost:9092", "127.0.0.1:9092"),
        ("[::1]:9092", "Localhost:09092"),
        ("127.1:9092", "[::ffff:127.0.0.1]:9092"),
        ("[2001:db8::1]:9092", "[2001:DB8:0::1]:9092"),
    ],
)
@pytest.mark.parametrize("group", ["redrive", "another"])
def test_two_sources_do_not_share_a_topic_in_any_group(one: str, other: str, group: str):
    found = line(at(one) + at(other, name="t", group=group))
    assert found.startswith("redrive.toml: sources.t.topics")
    assert found.endswith("must not be those of source s, in any group: each dead letter has one reader")


def test_what_two_sources_may_share():
    assert count_of(at("kafka-1:9092") + at("kafka-1:9093", name="t")) == 2
    assert count_of(at("localhost:9092") + at("127.0.0.2.example:9092", name="t")) == 2
    assert count_of(at("kafka-1:9092") + at("kafka-1:9092", name="t").replace("r-dlt", "R-dlt")) == 2


def at(bootstrap: str, *, name: str = "s", group: str = "redrive") -> str:
    text = SOURCE.replace("kafka-1:9092", bootstrap).replace("sources.s", f"sources.{name}")
    return f'{text}group = "{group}"\n'


def count_of(text: str) -> int:
    return len(assemble(tomllib.loads(ROUTE + text), {}).sources)


def test_a_source_must_be_a_table():
    assert "sources.s" in line("[sources]\ns = 1")
