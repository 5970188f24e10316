"""Known secrets in text: plain, percent-encoded, JSON-escaped and in base64."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from canary import SPELLINGS, leaks
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.secrets.redactor import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = {
    "token": "tK7/kQ2x+W9zLp4~Vn8sD=eR6",
    "blank": "Sig hD3vC6xZ9aS k2M5nB8vGqT",
    "percent": "pG5zX8%2FcV1bN4mL7kJ",
    "beyond ASCII": "n/tÄbc-def_ghi?&ü",
    "punctuation": "p&ss<w0rd>\"quo'te/=x",
}


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_masked_in_every_spelling(spelling: str, secret: str, *, truncated: bool):
    known = {secret: SECRETS[secret]}
    text = f"before {SPELLINGS[spelling](SECRETS[secret])} after"
    assert leaks(known, text), "the search for it finds nothing"
    shown = Redactor(SECRETS.values(), truncated=truncated)(text)
    assert leaks(known, shown) == {}
    assert "***" in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


#: One encoding, by encoders that replace other characters than Python's do.
ENCODERS: dict[str, Callable[[str], str]] = {
    "encodeURIComponent": lambda text: quote(text, safe="!*'()"),
    "a form": lambda text: quote(text, safe=" ").replace(" ", "+"),
    "JSON, not in ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON for HTML": lambda text: "".join(f"\\u{ord(char):04X}" if char in "<>&'" else json.dumps(char)[1:-1] for char in text),
}


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders_may_replace_more_characters_or_fewer(encoder: str, secret: str, *, truncated: bool):
    text = f"before {ENCODERS[encoder](SECRETS[secret])} after"
    assert Redactor([SECRETS[secret]], truncated=truncated)(text) == "before *** after"


@pytest.mark.parametrize("before", ["%4", "\\x4", "\\u004", "&", "%", "\\"])
def test_the_text_before_a_secret_does_not_hide_it(before: str):
    secret = "1;p;abcdefgh"
    assert secret not in Redactor([secret])(before + secret)


def test_a_list_of_secrets_holds_many():
    redact = Redactor(["slack://a/b/c4n4ry1, json://c4n4ry2\nmailto://c4n4ry3"])
    assert redact("one: json://c4n4ry2 another: mailto://c4n4ry3") == "one: *** another: ***"


def test_the_longest_secret_is_masked_first():
    assert Redactor(["abcdefgh", "abcdefghijkl"])("abcdefghijkl") == "***"


def test_other_text_stays():
    text = "tK7/kQ2x is the beginning, \\n 100%\\ and \\u0041%20%zz: http://a/b?c=d hD3vC6xZ9a"
    assert Redactor(SECRETS.values())(text) == text
    assert Redactor([])(text) == text
    assert Redactor([""])(text) == text


def test_in_truncated_text_the_beginning_is_enough():
    redact = Redactor(SECRETS.values(), truncated=True)
    assert redact("an unknown token tK7/kQ2x+W9") == "an unknown token ***"
    assert redact("tK7/kQ2x, tK7%2FkQ2x+Wrong Sig hD3") == "*** *** Sig hD3"


def test_a_short_secret_is_not_searched_for_in_base64():
    assert Redactor(["abc"])("abc YWJj") == "*** YWJj"


@pytest.mark.parametrize(
    "hostile",
    ["\\" * 200_000, "tK7/kQ2x+W" * 20_000, "Sig hD3" * 30_000, "%2" * 100_000, "%2f" * 60_000],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize("truncated", [False, True])
def test_no_text_takes_long(hostile: str, *, truncated: bool):
    """Quadratic, it would be minutes: the bound is no measurement."""
    began = time.process_time()
    Redactor(SECRETS.values(), truncated=truncated)(hostile)
    assert time.process_time() - began < 20


@given(
    st.lists(st.text(min_size=4, max_size=30), max_size=4),
    st.text(st.sampled_from("ab%2fF\\nu0041x&#;{} \r\n\"'+/-_=tK7") | st.characters(), max_size=60),
)
def test_no_secret_is_left_as_it_is_in_any_text(secrets: list[str], text: str):
    secrets = [secret for secret in secrets if "*" not in secret]
    shown = Redactor(secrets)(text + " ".join(secrets))
    assert not [secret for secret in secrets if secret in shown]
