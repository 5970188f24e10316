"""Known secrets in text, in every spelling in which something might say them again."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from canary import leaks
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = {
    "token": "tK7/kQ2x+W9zLp4~Vn8sD=eR6",
    "blank": "Sig hD3vC6xZ9aS k2M5nB8vGqT",
    "percent": "pG5zX8%2FcV1bN4mL7kJ",
    "beyond ASCII": "n/tÄbc-def_ghi?&ü",
}


def folded(text: str, width: int = 5) -> str:
    return "\r\n ".join(text[at : at + width] for at in range(0, len(text), width))


def in_base64(text: str, before: str = "") -> str:
    return base64.b64encode(f"{before}{text}and more".encode()).decode()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": json.dumps,
    "in JSON, with slashes escaped": lambda text: json.dumps({"header": text}).replace("/", "\\/"),
    "in JSON in JSON": lambda text: json.dumps(json.dumps([text])),
    "as repr": lambda text: repr(text.encode()) if text.isascii() else repr(text),
    "in \\u escapes": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "percent-encoded": quote,
    "percent-encoded whole": lambda text: quote(text, safe=""),
    "percent-encoded in lower case": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "in base64": in_base64,
    "in base64, a character later": lambda text: in_base64(text, "x"),
    "in base64, two characters later": lambda text: in_base64(text, "xy"),
    "in base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "in base64 for URLs, percent-encoded": lambda text: quote(in_base64(text), safe=""),
    "in base64, folded": lambda text: folded(in_base64(text), 20),
    "folded": folded,
    "folded in JSON": lambda text: json.dumps(folded(text)),
    "folded in JSON in JSON": lambda text: json.dumps(json.dumps(folded(text))),
    "folded by an escape": lambda text: "\\n".join([text[:7], text[7:]]),
    "twice": lambda text: f"{text}{text} {text}",
}


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_found_in_every_spelling(spelling: str, secret: str, *, partly: bool):
    known = {secret: SECRETS[secret]}
    said = f"before {SPELLINGS[spelling](SECRETS[secret])} after"
    assert leaks(known, said), "the search for it sees nothing"
    shown = Redactor(SECRETS.values(), partly=partly)(said)
    assert leaks(known, shown) == {}
    assert "***" in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


def test_nothing_else_is_masked():
    text = "tK7/kQ2x is the beginning, \\n 100%\\ and \\u0041%20%zz: http://a/b?c=d hD3vC6xZ9aS k2M5nB8vGqT"
    assert Redactor(SECRETS.values())(text) == text
    assert Redactor([])(text) == text
    assert Redactor(["", " ", "\\"])(text) == text


def test_of_what_may_be_cut_the_beginning_is_enough():
    redact = Redactor(SECRETS.values(), partly=True)
    assert redact("an unknown token tK7/kQ2x+W9") == "an unknown token ***"
    assert redact("tK7/kQ2x, tK7%2FkQ2x+Wrong Sig hD3v") == "*** *** Sig hD3v"


def test_a_short_secret_is_not_looked_for_in_base64():
    assert Redactor(["abc"])("abc YWJj") == "*** YWJj"


@pytest.mark.parametrize(
    "hostile",
    [
        "\\" * 200_000,
        "t" + "\\" * 200_000,
        "t\\n" * 17_000,
        "t K 7 / " * 6_000,
        "%2" * 25_000,
        "%20" * 17_000,
        "tK7/kQ2x+W" * 5_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_long(hostile: str):
    """Quadratic, it would be minutes: the bound is no measurement."""
    began = time.process_time()
    Redactor(SECRETS.values(), partly=True)(hostile)
    assert time.process_time() - began < 20


@given(
    st.lists(st.text(min_size=4, max_size=30), max_size=4),
    st.text(st.sampled_from("ab%2fF\\nu0041 \r\n\"'+/-_=tK7") | st.characters(), max_size=60),
)
def test_any_text_is_taken_and_no_secret_stands_there_as_it_is(secrets: list[str], text: str):
    secrets = [secret for secret in secrets if "*" not in secret and not {*secret} & set(" \t\r\n\\%") and secret.isprintable()]
    said = text + "".join(secrets)
    shown = Redactor(secrets)(said)
    assert not [secret for secret in secrets if secret in shown]
