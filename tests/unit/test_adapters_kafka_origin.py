"""What the headers of a dead letter tell, for each writer of them, and for headers that nobody should have written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.kafka.dialects import DIALECTS, custom
from tasks.adapters.kafka.origin import MAX_HEADERS, MAX_TEXT, Recogniser
from tasks.adapters.kafka.records import record_of

Headers = list[tuple[str, bytes | None]]


def int4(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


def int8(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


def spring(topic: str = "employees", offset: int = 42, prefix: str = "kafka_dlt-", error: str = "Conflict") -> Headers:
    return [
        (f"{prefix}original-topic", topic.encode()),
        (f"{prefix}original-partition", int4(3)),
        (f"{prefix}original-offset", int8(offset)),
        (f"{prefix}original-timestamp", int8(1700000000000)),
        (f"{prefix}original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", b"payroll"),
        (f"{prefix}exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        (f"{prefix}exception-cause-fqcn", f"com.company.{error}".encode()),
        (f"{prefix}exception-message", b"Listener failed"),
        (f"{prefix}exception-stacktrace", b"at com.company." * 10_000),
    ]


def connect() -> Headers:
    prefix = "__connect.errors."
    return [
        (f"{prefix}topic", b"employees"),
        (f"{prefix}partition", b"3"),
        (f"{prefix}offset", b"42"),
        (f"{prefix}connector.name", b"payroll-sink"),
        (f"{prefix}task.id", b"0"),
        (f"{prefix}stage", b"VALUE_CONVERTER"),
        (f"{prefix}class.name", b"org.apache.kafka.connect.json.JsonConverter"),
        (f"{prefix}exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
        (f"{prefix}exception.message", b"not JSON"),
        (f"{prefix}exception.stacktrace", b"at ..."),
    ]


def streams(topic: str = "employees", offset: int = 42) -> Headers:
    prefix = "__streams.errors."
    return [
        (f"{prefix}exception", b"com.company.Conflict"),
        (f"{prefix}message", b"stale version"),
        (f"{prefix}stacktrace", b"at ..."),
        (f"{prefix}topic", topic.encode()),
        (f"{prefix}partition", b"3"),
        (f"{prefix}offset", str(offset).encode()),
    ]


def share_group() -> Headers:
    prefix = "__dlq.errors."
    return [
        (f"{prefix}topic", b"employees"),
        (f"{prefix}partition", b"3"),
        (f"{prefix}offset", b"42"),
        (f"{prefix}group", b"payroll"),
        (f"{prefix}delivery.count", b"5"),
        (f"{prefix}message", b"Offset rejected by client."),
    ]


def smallrye(topic: str = "employees", offset: int = 42) -> Headers:
    return [
        ("dead-letter-exception-class-name", b"java.util.concurrent.CompletionException"),
        ("dead-letter-reason", b"it failed"),
        ("dead-letter-cause-class-name", b"com.company.Conflict"),
        ("dead-letter-cause", b"stale version"),
        ("dead-letter-topic", topic.encode()),
        ("dead-letter-partition", b"3"),
        ("dead-letter-offset", str(offset).encode()),
    ]


def cloud_stream() -> Headers:
    return [
        ("x-original-topic", b"employees"),
        ("x-original-partition", int4(3)),
        ("x-original-offset", int8(42)),
        ("x-original-timestamp", int8(1700000000000)),
        ("x-original-timestamp-type", b"CreateTime"),
        ("x-exception-fqcn", b"com.company.Conflict"),
        ("x-exception-message", b"stale version"),
        ("x-exception-stacktrace", b"at ..."),
    ]


RETRY = [
    *spring(prefix="kafka_"),
    ("retry_topic-attempts", int4(5)),
    ("retry_topic-original-timestamp", b"\x01\x8b\xcf\xe5h\x00"),
]
RETRY += [("retry_topic-backoff-timestamp", b"\x01\x8b\xcf\xe5h\x01")]
PLACE = {"topic": "employees", "partition": 3, "offset": 42}
TIMED = {**PLACE, "timestamp": 1700000000000}
WRAPPED = {
    "class": "com.company.Conflict",
    "message": "Listener failed",
    "wrapper": "org.springframework.kafka.listener.ListenerExecutionFailedException",
}
CONFLICT = {"class": "com.company.Conflict", "message": "stale version"}


def origin(headers: Headers, *, names: dict[str, str] | None = None) -> dict[str, Any]:
    return Recogniser((custom(names), *DIALECTS) if names else DIALECTS).origin(headers)


@pytest.mark.parametrize(
    ("writer", "headers", "told"),
    [
        ("spring", spring(), {"first": {**TIMED, "group": "payroll"}, "exception": WRAPPED}),
        ("spring-retry-topic", RETRY, {"first": {**TIMED, "group": "payroll"}, "exception": WRAPPED, "attempts": 4}),
        (
            "connect",
            connect(),
            {
                "first": PLACE,
                "exception": {"class": "org.apache.kafka.connect.errors.DataException", "message": "not JSON"},
                "details": {
                    "connector": "payroll-sink",
                    "task": "0",
                    "stage": "VALUE_CONVERTER",
                    "class": "org.apache.kafka.connect.json.JsonConverter",
                },
            },
        ),
        ("streams", streams(), {"first": PLACE, "exception": CONFLICT}),
        (
            "share-group",
            share_group(),
            {"first": {**PLACE, "group": "payroll"}, "exception": {"message": "Offset rejected by client."}, "attempts": 5},
        ),
        (
            "smallrye",
            smallrye(),
            {"first": PLACE, "exception": {**CONFLICT, "wrapper": "java.util.concurrent.CompletionException"}},
        ),
        ("spring-cloud-stream", cloud_stream(), {"first": TIMED, "exception": CONFLICT}),
    ],
)
def test_each_writer_is_recognised(writer: str, headers: Headers, told: dict[str, Any]):
    found = origin(headers)
    found.pop("headers", None)
    assert found == {"written_by": writer, **told}


def test_every_dialect_is_shown_above():
    assert len(DIALECTS) == 7


def test_spring_appends_a_hop_the_first_is_the_origin():
    found = origin([*spring("employees", 42)[:6], *spring("employees-dlt", 7, error="Timeout")])
    assert found["first"] == {**TIMED, "group": "payroll"}
    assert found["last"] == {**TIMED, "topic": "employees-dlt", "offset": 7, "group": "payroll"}
    assert found["hops"] == 2
    assert found["exception"]["class"] == "com.company.Timeout"


def test_smallrye_puts_a_hop_in_front_the_last_is_the_origin():
    found = origin([*smallrye("employees-dlq", 7), *smallrye("employees", 42)])
    assert (found["first"], found["last"]) == (PLACE, {**PLACE, "topic": "employees-dlq", "offset": 7})


def test_hops_of_several_writers_are_told_in_their_order():
    found = origin([*streams("employees"), *spring("employees-dlq", 7)])
    assert found["first"] == PLACE
    assert found["last"]["topic"] == "employees-dlq"
    assert found["written_by"] == "spring"
    assert found["exception"] == WRAPPED


@pytest.mark.parametrize("blank", [b"", b" ", b"\0", None])
def test_a_hop_without_a_topic_is_none(blank: bytes | None):
    nowhere: Headers = [("kafka_dlt-original-topic", blank), *spring("", 7, error="Timeout")[1:]]
    alone = origin(nowhere)
    assert not {"first", "last", "hops"} & alone.keys()
    assert (alone["written_by"], alone["exception"]["class"]) == ("spring", "com.company.Timeout")
    for both in ([*nowhere, *spring()], [*spring(), *nowhere]):
        found = origin(both)
        assert found["first"] == {**TIMED, "group": "payroll"}
        assert not {"last", "hops"} & found.keys()


def test_a_key_that_cannot_be_deserialised_has_its_own_exception():
    headers = [*spring()[:6], ("kafka_dlt-key-exception-fqcn", b"a.B"), ("kafka_dlt-key-exception-message", b"bad key")]
    assert origin(headers)["exception"] == {"class": "a.B", "message": "bad key"}


def test_what_nobody_knows_is_kept_as_headers():
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    found = origin([("traceparent", trace), ("tenant", b"7"), ("none", None), ("raw", b"\xff\x00")])
    assert found == {"traceparent": trace.decode(), "headers": {"tenant": "7", "none": None, "raw": {"base64": "/wA="}}}


def test_without_headers_nothing_is_told():
    assert origin([]) == {}


@pytest.mark.parametrize("binary", [True, False])
def test_changed_names_are_read_by_their_roles(binary: bool):  # noqa: FBT001
    names = {"topic": "x-t", "partition": "x-p", "offset": "x-o", "exception": "x-e", "attempts": "x-n"}
    numbers = (int4(3), int8(42), int4(2)) if binary else (b"3", b"42", b"2")
    headers: Headers = [("x-t", b"employees"), ("x-e", b"a.B"), *zip(("x-p", "x-o", "x-n"), numbers, strict=True)]
    assert origin(headers, names=names) == {"written_by": "custom", "first": PLACE, "exception": {"class": "a.B"}, "attempts": 2}


@pytest.mark.parametrize("value", [b"", b"123456789", None, int4(-1), b"\xff" * 8])
def test_a_binary_number_of_another_size_is_left_out(value: bytes | None):
    headers = [("kafka_dlt-original-topic", b"employees"), ("kafka_dlt-original-offset", value)]
    assert origin(headers)["first"] == {"topic": "employees"}


@pytest.mark.parametrize("value", [b"", b"-1", b"4 2", b"0x2", b"9" * 20, "\u0663".encode(), b"1.5", None, b"\xff"])
def test_a_text_number_that_is_none_is_left_out(value: bytes | None):
    assert origin([("__streams.errors.topic", b"employees"), ("__streams.errors.offset", value)])["first"] == {
        "topic": "employees"
    }


def test_bad_bytes_are_shown_as_such():
    assert origin([("dead-letter-topic", b"a\xff\x00b")])["first"] == {"topic": "a\\xff\x00b"}


def test_huge_headers_are_cut():
    found = origin([*spring()[:6], ("kafka_dlt-exception-message", b"x" * (1 << 20)), ("blob", b"y" * (1 << 20))])
    assert len(found["exception"]["message"]) == MAX_TEXT
    assert found["headers"]["blob"]["bytes"] == 1 << 20
    assert len(json.dumps(found)) < 3000


def test_many_headers_are_kept_as_far_as_they_go():
    found = origin([(f"h{number}", b"x") for number in range(1000)])
    assert len(found["headers"]) == MAX_HEADERS


NAMES = sorted({name for dialect in DIALECTS for names in dialect.names.values() for name in names})


@given(st.lists(st.tuples(st.sampled_from([*NAMES, "traceparent"]) | st.text(max_size=20), st.none() | st.binary(max_size=40))))
def test_no_headers_raise_or_escape_json(headers: Headers):
    found = json.dumps(origin(headers), ensure_ascii=True)
    assert len(found) < 200_000
    assert json.loads(found) == origin(headers)


# --- records ---------------------------------------------------------------------------------------------------------


class FakeMessage:
    """What confluent-kafka hands over."""

    def __init__(self, value: bytes | None = b"{}", **rest: Any) -> None:
        self.parts = {
            "topic": "t",
            "partition": 1,
            "offset": 2,
            "timestamp": (1, 3),
            "key": None,
            "value": value,
            "headers": None,
        }
        self.parts |= rest

    def __getattr__(self, name: str) -> Any:
        value = self.parts[name]
        if isinstance(value, Exception):
            raise value
        return lambda: value


def record(value: bytes | None = b"{}", **rest: Any):
    return record_of(FakeMessage(value, **rest), Recogniser())  # type: ignore[arg-type]


def test_a_record_has_its_own_place():
    made = record(key=b"k")
    assert (made.stream, made.offset, made.body) == ("t/1", 2, b"{}")
    assert made.origin == {"topic": "t", "partition": 1, "offset": 2, "timestamp": 3, "key": "k"}


def test_the_identity_tells_messages_apart_that_have_one_offset():
    """A topic that was made anew gives its offsets out again."""
    messages = [
        record(),
        record(timestamp=(1, 4)),
        record(b"{} "),
        record(None),
        record(b""),
        record(key=b""),
        record(key=b"{}", value=b""),
        record(topic="u"),
        record(partition=2),
        record(offset=3),
    ]
    assert len({each.identity for each in messages}) == len(messages)
    assert record().identity == record().identity


def test_identities_fit_the_ledger():
    made = record(topic="t" * 249, partition=2**31 - 1, offset=2**63 - 1)
    assert len(made.identity) <= 200
    assert len(made.stream) <= 300
    assert made.identity != record(topic="t" * 248 + "u", partition=2**31 - 1, offset=2**63 - 1).identity


def test_a_null_value_is_an_empty_body_and_told():
    made = record(None, key=b"\xff\x00")
    assert made.body == b""
    assert made.origin["null_value"] is True
    assert made.origin["key"] == {"base64": "/wA="}


def test_a_huge_key_is_cut():
    assert len(json.dumps(record(key=b"k" * (1 << 20)).origin)) < 2000


def test_header_names_that_are_not_utf8_are_told():
    made = record(headers=UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
    assert made.origin["headers"] == "unreadable"
