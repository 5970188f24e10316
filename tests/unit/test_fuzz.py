"""What strangers write is read with any bytes whatever: only its own refusals are raised, and nothing leaves its bounds.

The examples are the same each time; `REDRIVE_FUZZ=20` tries twenty times as many.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.adapters.celery_messages import MessageReader, read_message
from tasks.adapters.kafka.origin import Recogniser
from tasks.cli.app import run
from tasks.dlq.calls.retry_after import parse_retry_after
from tasks.dlq.calls.route import Route
from tasks.dlq.calls.url import expand
from tasks.dlq.errors import ConfigError, InvalidParameter, UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.parameters import Integer, Pattern, Text, Uuid, parse_parameters
from tasks.dlq.ports import Record
from tasks.dlq.reading.mapping import BodyMapping, check_expression
from tasks.dlq.reading.reader import SubmissionReader
from tasks.dlq.reading.unwrapping import STEPS, unwrap
from tasks.settings import assemble
from tasks.settings import settings as configuration
from tasks.worker.transport import build_payload

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = int(os.environ.get("REDRIVE_FUZZ", "1"))
LIMIT = 4000
EXAMPLE = tomllib.loads((Path(__file__).parents[2] / "redrive.example.toml").read_text())
SECRET = "c4n4ry-in-the-wrong-place"
ROUTE = Route(name="r", url="http://company.test/{id}", params={"id": Integer(positive=True)})
READER = MessageReader(SubmissionReader(routes={"r": ROUTE}), frozenset({"redrive.recover", "redrive.prune"}))


def tried(examples: int) -> Callable[[Any], Any]:
    """Try so many examples, the same ones each time, however busy the machine is."""
    return settings(max_examples=examples * TIMES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


hostile = st.sampled_from(
    [
        "..",
        "%2e%2e",
        "//evil.test",
        "?a=b",
        "#",
        "\r\nX: y",
        "\0",
        "\uff11",
        "true",
        "1e3",
        "\ud800",
        "\u202e",
        "\x1b[2J",
        "\u2019",
        "{id}",
        "@evil.test",
        ":80",
        "\\",
        "\uff45",
        "NaN",
        "9" * 5000,
    ]
)
text = st.text(max_size=60) | hostile | st.lists(hostile, max_size=4).map("".join)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text | st.just(10**20)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def torn(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were right, and then were cut, doubled or overwritten somewhere."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(-3, 6)) :]
        data = data[:LIMIT]
    return data


raw_json = documents.map(lambda document: json.dumps(document).encode())
anything = st.binary(max_size=200) | torn(raw_json)


def plain(message: str) -> None:
    """Check that a message for people is short, and steers nothing."""
    assert message.isprintable()
    assert len(message) < 1000


# --- bodies ----------------------------------------------------------------------------------------------------------


@tried(60)
@given(anything)
def test_a_body_is_json_or_unreadable(body: bytes):
    try:
        document = read_json(body, max_bytes=LIMIT)
    except UnreadableBody as error:
        plain(error.message)
    else:
        assert read_json(json.dumps(document).encode(), max_bytes=10 * LIMIT, max_depth=65) == document


@tried(40)
@given(documents)
def test_what_is_wrapped_comes_out_as_it_was(document: Any):
    body = json.dumps(document).encode()
    wrapped = {
        "sns": json.dumps({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:r:1:t", "Message": body.decode()}),
        "lambda": json.dumps({"version": "1.0", "requestContext": {"condition": "x"}, "requestPayload": document}),
        "eventbridge": json.dumps({"version": "0", "detail-type": "d", "source": "s", "detail": document}),
        "base64": base64.b64encode(body).decode(),
    }
    for step in STEPS:
        assert read_json(unwrap(wrapped[step].encode(), [step], max_bytes=10**6), max_bytes=10**6) == document


@tried(60)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4),
    anything | torn(st.just(b'{"Type":"Notification","Message":"e30="}')),
)
def test_what_is_not_wrapped_is_unreadable(steps: list[str], body: bytes):
    try:
        assert len(unwrap(body, steps, max_bytes=LIMIT)) <= 8 * LIMIT
    except UnreadableBody as error:
        plain(error.message)


ENVELOPE = {
    "body": base64.b64encode(b'[["r"], {"parameters": {"id": 1}}, {}]').decode(),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"task": "redrive.submit", "id": "x"},
    "properties": {"body_encoding": "base64"},
}
arguments = st.tuples(values, values, values).map(lambda given: json.dumps(given, default=str).encode())
envelopes = st.one_of(
    st.fixed_dictionaries({}, optional=dict.fromkeys(ENVELOPE, values)).map(lambda changed: ENVELOPE | changed),
    arguments.map(lambda body: ENVELOPE | {"body": base64.b64encode(body).decode()}),
    st.sampled_from(["application/x-python-serialize", "application/x-yaml"]).map(lambda kind: ENVELOPE | {"content-type": kind}),
    documents.map(
        lambda given: ENVELOPE | {"body": base64.b64encode(json.dumps([["r"], {"parameters": given}, {}]).encode()).decode()}
    ),
).map(lambda envelope: json.dumps(envelope, default=str).encode())


@tried(60)
@given(torn(envelopes), st.booleans())
def test_a_celery_message_is_a_call_of_redrives_or_a_letter(body: bytes, encoded: bool):  # noqa: FBT001 - hypothesis's
    body = base64.b64encode(body) if encoded else body
    letter = READER.read("celery", Record(identity="m-1", body=body))
    assert letter.body is not None
    assert bool(letter.rejection) != bool(letter.keys)
    try:
        payload = build_payload(read_message(body), "m-1")
    except UnreadableBody as error:
        plain(error.message)
    else:
        assert payload["headers"]["task"].startswith("redrive.")
        assert (payload["content-type"], json.loads(payload["body"])[2]) == ("application/json", {})


@tried(100)
@given(st.lists(st.tuples(st.sampled_from(sorted(Recogniser()._known)) | text, st.none() | st.binary(max_size=600)), max_size=60))
def test_the_headers_of_a_record_tell_an_origin_within_bounds(headers: list[tuple[str, bytes | None]]):
    assert len(json.dumps(Recogniser().origin(headers))) < 200_000


# --- what becomes a call ---------------------------------------------------------------------------------------------

TYPES = {"string": Text(), "int": Integer(), "uuid": Uuid(), "pattern": Pattern(r"[^/]{1,80}")}


@tried(100)
@given(st.sampled_from(sorted(TYPES)), values, values)
def test_no_parameter_leaves_its_place_in_the_url(kind: str, one: Any, two: Any):
    try:
        parameters = parse_parameters({"a": TYPES[kind], "b": Text()}, {"a": one, "b": two})
    except InvalidParameter as error:
        plain(error.message)
        return
    url = expand("https://company.test:8443/api/v1/{a}/x-{b}/sync?who={b}&fixed=1", parameters)
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "company.test:8443", "")
    assert re.fullmatch(r"[!-~]+", url)
    assert [unquote(each) for each in parts.path.split("/")] == [
        *("", "api", "v1"),
        parameters["a"],
        f"x-{parameters['b']}",
        "sync",
    ]
    assert [each.partition("=")[0] for each in parts.query.split("&")] == ["who", "fixed"]


dates = st.lists(st.sampled_from([*"MonSunday ,:-+", " GMT", " Nov ", "2026", "99999999", "06", "08:49:37"]), max_size=12).map(
    "".join
)


@tried(60)
@given(text | dates | st.integers().map(str))
def test_retry_after_is_seconds_or_nothing(value: str):
    seconds = parse_retry_after(value, now=1_700_000_000.0)
    assert seconds is None or 0 <= seconds < float("inf")


words = st.sampled_from(
    [
        *"[]{}().,:&|!@*?<>=`'\"-",
        "||",
        "&&",
        "==",
        "a",
        "employees",
        "length",
        "sort_by",
        "to_number",
        "0",
        "-1",
        "`1`",
        "[?",
        "::",
    ]
)


@tried(100)
@given(st.lists(words, max_size=30).map("".join) | st.text(max_size=40), documents)
def test_an_expression_is_refused_or_finds_something(expression: str, document: Any):
    try:
        check_expression(expression)
    except ValueError as error:
        plain(str(error))
        return
    for each in (expression, None):
        try:
            assert len(BodyMapping(params={"id": expression}, each=each).read(document)) <= 1000
        except UnreadableBody as error:
            plain(error.message)


# --- what a person writes --------------------------------------------------------------------------------------------


def refusal(table: dict[str, Any]) -> str:
    """Return what a person is told of a configuration; nothing of one that is taken."""
    try:
        assemble(table, {"REDRIVE_STATE_DIR": "x"})
    except ConfigError as error:
        return f"{error.message}\n{error.hint}"
    return ""


def paths(table: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = [path for name, each in table.items() for path in paths(each, (*prefix, name))] if isinstance(table, dict) else []
    return [prefix, *below]


@tried(80)
@given(st.lists(st.tuples(st.sampled_from(paths(EXAMPLE)), values | st.just(SECRET), text), min_size=1, max_size=3))
def test_a_changed_configuration_is_refused_with_a_message_or_taken(changes: list[tuple[tuple[str, ...], Any, str]]):
    table = json.loads(json.dumps(EXAMPLE))
    for path, value, name in changes:
        below = table
        for step in path[:-1]:
            below = below.get(step, {}) if isinstance(below, dict) else {}
        if isinstance(below, dict) and path:
            below[path[-1] if len(name) % 3 else name] = value
    told = refusal(table)
    assert all(line.isprintable() for line in told.splitlines())
    assert len(told) < 20_000


SECRETS_GO_HERE = [
    *(
        ("routes", "employees", "headers"),
        ("routes", "employees", "bearer_env"),
        ("alerts", "notify_env"),
        ("alerts", "sentry_dsn_env"),
    ),
    *(("sources", "employees_dlt", "properties"), ("sources", "employees_dlt", "properties_env", "sasl_password")),
]
SHAPES: list[Callable[[str], Any]] = [
    str,
    lambda s: [s],
    lambda s: {"x y": s},
    lambda s: {"sasl_password": s},
    lambda s: {"X-Key": f"{s}\n"},
    lambda s: {"a": {"b": s}},
    lambda s: f"slack://{s}/x",
]


@tried(60)
@given(st.sampled_from(SECRETS_GO_HERE), st.sampled_from(SHAPES), text)
def test_a_secret_in_the_wrong_place_is_never_told(path: tuple[str, ...], shape: Callable[[str], Any], noise: str):
    table = json.loads(json.dumps(EXAMPLE))
    below = table
    for step in path[:-1]:
        below = below[step]
    below[path[-1]] = shape(SECRET + noise)
    assert SECRET not in refusal(table)


@tried(25)
@given(
    st.lists(
        st.sampled_from(
            [
                "jobs",
                "show",
                "rejects",
                "send",
                "replay",
                "discard",
                "repair",
                "pause",
                "stats",
                "db",
                "--json",
                "--csv",
                "--limit",
                "--state",
                "--after",
                "-1",
                "0",
                "--",
                "--reason",
                "--body",
                "-",
            ]
        )
        | text,
        min_size=1,
        max_size=6,
    )
)
def test_any_arguments_end_with_an_exit_code(words: list[str]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDRIVE_STATE_DIR", "/dev/null/nowhere")
        patch.delenv("REDRIVE_CONFIG", raising=False)
        configuration.cache_clear()
        assert run(words) in {0, 1, 2, 4, 5}
        configuration.cache_clear()
