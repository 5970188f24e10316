import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.dlq.errors import UnreadableBody
from tasks.dlq.json_body import MAX_DIGITS, read_json

MIB = 1 << 20
REASONS = {"too-large", "empty", "too-deep", "not-utf8", "not-json", "duplicate-key", "not-a-number", "integer-too-long"}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


def refused(body: bytes, *, max_bytes: int = 4 * MIB, max_depth: int = 64) -> str:
    with pytest.raises(UnreadableBody) as caught:
        read_json(body, max_bytes=max_bytes, max_depth=max_depth)
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()
    return caught.value.reason


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"employeeId": 1234}', {"employeeId": 1234}),
        (b' \r\n\t"text" ', "text"),
        (b"\xef\xbb\xbf[1]", [1]),
        (b"\xef\xbb\xbf 1", 1),
        (b'{"a": {"a": 1}, "b": {"a": 2}}', {"a": {"a": 1}, "b": {"a": 2}}),
        ('{"Straße": "Köln"}'.encode(), {"Straße": "Köln"}),
        (rb'"[[[[\"[[[["', '[[[["[[[['),
        (b'"\\u0000"', "\0"),
        (b'"\\ud800"', "\ud800"),
        (b"-0", 0),
        (b"1e308", 1e308),
        (b"9" * MAX_DIGITS, int("9" * MAX_DIGITS)),
    ],
)
def test_strict_json_is_read(body: bytes, document: Any):
    assert read_json(body, max_bytes=MIB) == document


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\r ", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"\xef\xbb\xbf\xef\xbb\xbf1", "not-json"),
        (b"employeeId=1234", "not-json"),
        (b'{"a": 1', "not-json"),
        (b'{"a": 1} {"a": 2}', "not-json"),
        (b"{'a': 1}", "not-json"),
        (b"[1,]", "not-json"),
        (b'"a\nb"', "not-json"),
        (b'"\xff"', "not-utf8"),
        (b'"\xed\xa0\x80"', "not-utf8"),
        ('{"a": 1}'.encode("utf-16-le"), "not-json"),
        ('{"a": 1}'.encode("utf-16"), "not-utf8"),
        (b'{"id": 1, "id": 2}', "duplicate-key"),
        (b'{"id": 1, "\\u0069d": 2}', "duplicate-key"),
        (b'[{"b": {"id": 1, "x": 0, "id": 1}}]', "duplicate-key"),
        (b'{"id": NaN}', "not-a-number"),
        (b'{"id": -Infinity}', "not-a-number"),
        (b'{"id": 1e999}', "not-a-number"),
        (b"[" + b"9" * (MAX_DIGITS + 1) + b"]", "integer-too-long"),
        (b"9" * 5000, "integer-too-long"),
        (b"-" + b"9" * MIB, "integer-too-long"),
    ],
)
def test_anything_else_has_a_stable_reason(body: bytes, reason: str):
    assert refused(body) == reason


def test_the_size_is_checked_before_anything_else():
    assert refused(b"[" * 11, max_bytes=10) == "too-large"
    assert read_json(b'"12345678"', max_bytes=10) == "12345678"


def test_depth_is_counted_outside_of_strings():
    assert read_json(b"[" * 64 + b"]" * 64, max_bytes=MIB)
    assert refused(b"[" * 65 + b"]" * 65) == "too-deep"
    assert refused(b'{"a":' * 65 + b"1" + b"}" * 65) == "too-deep"
    assert refused(b'["]", ' * 65) == "too-deep"
    assert read_json(b'["' + b"[" * 500 + b'"]', max_bytes=MIB) == ["[" * 500]
    assert read_json(b"[[],[],[]]", max_bytes=MIB, max_depth=2) == [[], [], []]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'"' + b'\\"' * 500_000,
        b'["\\' + b"[" * 1_000_000,
        b"\\" * 1_000_000,
        b"]" * 500_000 + b"[" * 500_000,
    ],
    ids=["arrays", "objects", "escaped quotes", "open string", "backslashes", "closed before opened"],
)
def test_hostile_nesting_and_quoting_end_as_a_refusal(body: bytes):
    assert refused(body) in {"too-deep", "not-json"}


@given(documents)
def test_what_json_writes_is_read_back(document: Any):
    assert read_json(json.dumps(document).encode(), max_bytes=MIB) == document


@given(
    st.binary(max_size=200)
    | st.text(alphabet='[]{}:,"\\ \n0123456789eE+-.NaIfinitytruefalsn\0\ud800', max_size=200).map(repr).map(str.encode)
)
@example(b'{"a":1}')
@example(b"[1e400]")
def test_only_unreadable_body_ever_escapes(body: bytes):
    reason, document = "", None
    try:
        document = read_json(body, max_bytes=150)
    except UnreadableBody as error:
        reason = error.reason
    if reason:
        assert reason in REASONS
    else:
        assert document == json.loads(body)
        assert not (isinstance(document, float) and not math.isfinite(document))
