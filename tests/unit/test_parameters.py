# ruff: noqa: RUF001 - look-alikes of digits, dots and slashes are what is tested here
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.errors import InvalidParameter
from tasks.dlq.key import make_key
from tasks.dlq.parameters import Choice, Integer, Pattern, Text, Uuid, has_dot_segment, parse_parameters
from tasks.dlq.text import show_value

INTEGERS = {"id": Integer(positive=True)}
HUGE = 10**5000


@pytest.mark.parametrize("value", [1234, "1234"])
def test_digits_are_accepted_as_number_and_as_text(value: Any):
    assert parse_parameters(INTEGERS, {"id": value}) == {"id": "1234"}


@pytest.mark.parametrize("value", [0, "0", -7, "-7", 10**17, str(10**17)])
def test_an_integer_may_have_a_sign_and_eighteen_digits(value: Any):
    assert Integer().parse(value) == str(value)


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, 1.0, 1e3, float("nan"), [], [1], {}, b"1", 10**18, -1, 0),
        *(pytest.param(HUGE, id="5,001 digits"), pytest.param(-HUGE, id="minus 5,001 digits")),
        *("true", "1e3", "1.0", "1,000", "1_000", "0x10", "", " ", " 1", "1 ", "1\n", "+1", "-1", "-0", "0", "01", "--1"),
        *("１２", "١٢", "²", "१", "1\x00", "1\r\n", "1\u202e", "\ud800", "9" * 19, "9" * 5000),
        *("../admin", "1/../../x?y=#", "..", "1#", "1?x=y", "%31", "1;x", "1%2F2"),
    ],
)
def test_what_is_no_positive_integer_is_refused(value: Any):
    with pytest.raises(InvalidParameter) as refusal:
        parse_parameters(INTEGERS, {"id": value})
    assert refusal.value.hint.startswith("id must be a positive integer")
    assert len(refusal.value.message) < 120
    assert refusal.value.message.isascii() or "…" in refusal.value.message
    assert refusal.value.message.isprintable()


@pytest.mark.parametrize("value", [10**18, pytest.param(HUGE, id="5,001 digits"), "9" * 19, "1" * 5000])
def test_of_a_number_that_is_too_long_it_is_told_how_long_it_may_be(value: Any):
    with pytest.raises(InvalidParameter) as refusal:
        parse_parameters(INTEGERS, {"id": value})
    assert refusal.value.hint == "id must be a positive integer of at most 18 digits"


@pytest.mark.parametrize(("value", "told"), [(True, "true"), (False, "false"), (1e3, "1000.0"), ("abc", "'abc'"), (0, "0")])
def test_a_refused_value_is_told_as_json_has_it_with_what_is_wrong(value: Any, told: str):
    with pytest.raises(InvalidParameter) as refusal:
        parse_parameters(INTEGERS, {"id": value})
    assert (refusal.value.message, refusal.value.hint) == (f"parameter id is {told}", "id must be a positive integer")


@pytest.mark.parametrize("value", ["-0", "0" * 2, "-01", True])
def test_one_number_has_one_text(value: Any):
    with pytest.raises(ValueError, match="an integer"):
        Integer().parse(value)


def test_a_uuid_is_folded_to_lower_case():
    assert Uuid().parse("123E4567-E89B-12D3-A456-426614174000") == "123e4567-e89b-12d3-a456-426614174000"


@pytest.mark.parametrize(
    "value",
    [
        *("123e4567e89b12d3a456426614174000", "{123e4567-e89b-12d3-a456-426614174000}", "123e4567-e89b-12d3-a456-42661417400"),
        *("123e4567-e89b-12d3-a456-426614174000\n", "urn:uuid:123e4567-e89b-12d3-a456-426614174000", 5, None, True),
        "１23e4567-e89b-12d3-a456-426614174000",
    ],
)
def test_what_is_no_uuid_is_refused(value: Any):
    with pytest.raises(ValueError, match="a UUID"):
        Uuid().parse(value)


@pytest.mark.parametrize("value", ["a", "Ünal & Söhne", "a/b", "a.b", "...", "a..b", "100%", "x" * 256, "日本", "?#[]@", "a b"])
def test_printable_text_is_accepted_as_it_is(value: Any):
    assert Text().parse(value) == value


@pytest.mark.parametrize(
    "value",
    [
        *("", "x" * 257, " ", " a", "a ", "\u00a0", "\u2003a", "a\tb"),
        *("\x00", "a\x00b", "a\r\nb", "a\nb", "\x7f", "\u0085", "\u2028", "\ud800", "\udfff", "a\u202eb", "\u200b", "\ufeff"),
        *(
            ".",
            "..",
            "../x",
            "x/..",
            "x/./y",
            "..\\x",
            "x\\..",
            "%2e%2e",
            "%2E.",
            ".%2e",
            "%252e%252e",
            "x%2f..%2fy",
            "..;x",
            ".. /x",
        ),
        *("．．", "‥", "x／．．／y", "%EF%BC%8E."),
        *(1, True, None, 1.5, [], {}, b"a"),
    ],
)
def test_text_that_could_steer_a_server_is_refused(value: Any):
    with pytest.raises(ValueError, match="printable text"):
        Text().parse(value)


@given(st.text(max_size=300))
def test_accepted_text_is_short_encodable_and_printable(value: str):
    try:
        Text().parse(value)
    except ValueError:
        return
    value.encode()
    assert 1 <= len(value) <= 256
    assert value.isprintable()
    assert not has_dot_segment(value)


def test_a_pattern_matches_as_a_whole_and_ascii_digits_only():
    digits = Pattern(r"[A-Z]\d{3}")
    assert digits.parse("A123") == "A123"
    for value in ("A1234", "xA123", "A123\n", "A١٢٣", "", 5, None):
        with pytest.raises(ValueError, match="text that matches"):
            digits.parse(value)


def test_a_pattern_does_not_let_a_dot_segment_through():
    with pytest.raises(ValueError, match="text that matches"):
        Pattern(".*").parse("..")


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "*", "a{2,1}", "(?u)a", "a{1001}", "(?:a{1,50}){1,50}", "(" * 150, "\udcff", "x" * 201]
)
def test_a_wrong_pattern_is_refused(pattern: str, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match=r"regular expression|UTF-8"):
        Pattern(pattern)
    assert not any(capfd.readouterr()), "RE2 writes nothing to the terminal"


@pytest.mark.parametrize("pattern", [r"(a+)\1", "(?=a)b", "(?!a)b", "(?<=a)b", "[a-z]++", "(?>a+)"])
def test_what_only_a_backtracking_matcher_can_do_is_refused(pattern: str):
    with pytest.raises(ValueError, match="is not a regular expression of RE2"):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|a)*", "(a*)*", "(a|aa)+", "(x?){30}x{30}", "(?:a?){100}a{100}"])
def test_no_pattern_keeps_a_worker_busy(pattern: str):
    with pytest.raises(ValueError, match="text that matches"):
        Pattern(pattern).parse("a" * 255 + "!")


def test_a_choice_is_one_of_its_words():
    colours = Choice(("red", "green"))
    assert colours.parse("red") == "red"
    for value in ("Red", "", "blue", True, None, ["red"]):
        with pytest.raises(ValueError, match="one of red, green"):
            colours.parse(value)


@pytest.mark.parametrize("choices", [(), ("..",), ("a", ""), ("a\n",), (5,)])
def test_a_choice_that_could_not_stand_in_a_url_is_refused_when_it_is_made(choices: Any):
    with pytest.raises(ValueError, match=r"choice|at least one"):
        Choice(choices)


def test_missing_null_and_unknown_parameters_are_refused():
    with pytest.raises(InvalidParameter, match="parameter id is missing"):
        parse_parameters(INTEGERS, {})
    with pytest.raises(InvalidParameter, match="parameter id is missing or null"):
        parse_parameters(INTEGERS, {"id": None})
    with pytest.raises(InvalidParameter, match=r"unknown parameter '\\ud800'") as refusal:
        parse_parameters(INTEGERS, {"id": 1, "\ud800": 2})
    assert refusal.value.hint == "this route takes: id"


def test_values_that_python_cannot_print_are_still_refused_politely():
    deep: list[object] = []
    for _ in range(200_000):
        deep = [deep]
    for value in ([HUGE], {"x": HUGE}, deep, "x" * 1_000_000):
        with pytest.raises(InvalidParameter, match="parameter id is "):
            parse_parameters(INTEGERS, {"id": value})


def test_the_key_is_the_same_whatever_the_order_and_the_notation():
    types = {"b": Integer(), "a": Text()}
    one = make_key(parse_parameters(types, {"b": 1, "a": "ä"}))
    assert one == make_key(parse_parameters(types, {"a": "ä", "b": "1"})) == '{"a":"\\u00e4","b":"1"}'
    assert json.loads(one) == {"a": "ä", "b": "1"}


def test_shown_is_one_short_line():
    assert show_value("a\nb") == "'a\\nb'"
    assert show_value(HUGE) == f"an integer of {HUGE.bit_length()} bits"
    assert show_value(None) == "null"
    assert show_value({"a": 1}) == "an object"
    assert show_value([1]) == "a list"
    assert len(show_value("x" * 10_000)) == 60
