"""What comes of the letters in a topic: seven writers and poison together, each kept, and the audit balances to the record."""

from __future__ import annotations

from typing import Any

from kafka_world import World, employee

#: For each writer the header that it is recognised by, and how it writes the number 3.
WRITERS = {
    "spring": ("kafka_dlt-original-", b"\0\0\0\3"),
    "spring-retry-topic": ("kafka_original-", b"\0\0\0\3"),
    "connect": ("__connect.errors.", b"3"),
    "streams": ("__streams.errors.", b"3"),
    "share-group": ("__dlq.errors.", b"3"),
    "smallrye": ("dead-letter-", b"3"),
    "spring-cloud-stream": ("x-original-", b"\0\0\0\3"),
}
POISON: list[tuple[str, Any, dict[str, Any]]] = [
    ("empty", None, {}),
    ("empty", b"", {}),
    ("not-utf8", b"\xff\xfe\x00", {}),
    ("not-json", b"\x00\x01\x02", {}),
    ("too-deep", b"[" * 400_000 + b"]" * 400_000, {}),
    ("invalid-parameter", b'{"employeeId": "\\ud800"}', {}),
    ("invalid-parameter", b'{"employeeId": "1\\u0000"}', {}),
    ("invalid-parameter", b"{}", {}),
    ("integer-too-long", b'{"employeeId": ' + b"9" * 5000 + b"}", {}),
    ("duplicate-key", b'{"employeeId": 1, "employeeId": 2}', {}),
]
STRANGE: list[dict[str, Any]] = [
    {"key": b"\xff" * 10_000},
    {"key": b""},
    {"headers": [("kafka_dlt-original-topic", None), ("kafka_dlt-original-offset", b"\1\2\3\4\5\6\7\x08\x09")]},
    {"headers": [("kafka_dlt-exception-stacktrace", b"x" * 300_000), ("kafka_dlt-original-topic", b"\xff")]},
    {"headers": [("h", b"\0")] * 1000},
]


def test_seven_writers_and_poison_in_one_topic_are_kept_to_the_record(world: World):
    for number, (prefix, three) in enumerate(WRITERS.values()):
        headers = [(f"{prefix}topic", b"employees"), (f"{prefix}partition", three), (f"{prefix}offset", three)]
        world.write(employee(number + 1), partition=number % 4, headers=[*headers, ("traceparent", b"00-ab-cd-01")])
    for number, (_, value, rest) in enumerate(POISON):
        world.write(value, partition=number % 4, **rest)
    for number, rest in enumerate(STRANGE):
        world.write(employee(number + 1), partition=number % 4, **rest)
    world.write(b'{"employeeId": 8, "note": "' + b"x" * 900_000 + b'"}', partition=3)
    world.flush()

    taken = world.member().drain()

    total = len(WRITERS) + len(POISON) + len(STRANGE) + 1
    assert (taken.accepted, taken.rejected) == (total, len(POISON))
    found = world.audit()
    assert (found.accepted, found.rejected, found.pending, found.lost) == (total, len(POISON), total - len(POISON), 0)
    streams = found.as_dict()["sources"]["dlt"]["streams"]
    assert sum(each["accepted"] for each in streams.values()) == total
    assert all(each["gaps"] == 0 and each["first_offset"] == 0 for each in streams.values())
    assert sum(each.lag for each in world.lags()) == 0

    letters = world.letters()
    assert sorted(filter(None, (each["reject_reason"] for each in letters))) == sorted(reason for reason, _, _ in POISON)
    told = {each["origin"]["written_by"]: each["origin"] for each in letters if "traceparent" in each["origin"]}
    for writer in WRITERS:
        assert told[writer]["first"] == {"topic": "employees", "partition": 3, "offset": 3}, writer
        assert told[writer]["traceparent"] == "00-ab-cd-01"
    assert max(len(str(each["origin"])) for each in letters) < 20_000
    assert any(each["origin"].get("null_value") for each in letters)


def test_a_letter_without_known_headers_comes_from_the_topic_itself(world: World):
    world.write(employee(1), partition=2, key=b"1")
    world.flush()
    world.member().drain()

    (letter,) = world.letters()

    assert letter["stream"] == f"{world.topic}/2"
    origin = letter["origin"]
    assert origin.pop("timestamp") > 0
    assert origin == {"topic": world.topic, "partition": 2, "offset": 0, "key": "1"}
