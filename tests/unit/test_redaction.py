"""Known secrets in text, in every spelling in which something might say them again."""

from __future__ import annotations

import html
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


def lower(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)


SECRETS = {
    "token": "tK7/kQ2x+W9zLp4~Vn8sD=eR6",
    "blank": "Sig hD3vC6xZ9aS k2M5nB8vGqT",
    "percent": "pG5zX8%2FcV1bN4mL7kJ",
    "beyond ASCII": "n/tÄbc-def_ghi?&ü",
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


ENTITIES = {
    "by html.escape": html.escape,
    "decimal": lambda text: "".join(char if char.isalnum() else f"&#{ord(char)};" for char in text),
    "hex": lambda text: "".join(char if char.isalnum() else f"&#x{ord(char):x};" for char in text),
    "HEX, whole": lambda text: "".join(f"&#X{ord(char):04X};" for char in text),
    "twice": lambda text: html.escape(html.escape(text)),
    "in JSON": lambda text: json.dumps(html.escape(text))[1:-1].replace("&", "\\u0026"),
}
MORE: dict[str, Callable[[str], str]] = {
    **{f"in HTML, {name}": spell for name, spell in ENTITIES.items()},
    "percent-encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "percent-encoded three times": lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
    "percent-encoded in HTML": lambda text: "".join(f"&#37;{byte:02X}" for byte in text.encode()),
    "HTML in percent-encoding": lambda text: quote(html.escape(text), safe=""),
    "JSON in percent-encoding": lambda text: quote(json.dumps(text)[1:-1], safe=""),
    "\\x escapes": lambda text: "".join(char if char.isalnum() else f"\\x{ord(char):02x}" for char in text),
    "\\x escapes of bytes": lambda text: "".join(f"\\x{byte:02X}" for byte in text.encode()),
    "\\u{} escapes": lambda text: "".join(f"\\u{{{ord(char):x}}}" for char in text),
    "in hex": lambda text: text.encode().hex(),
    "in HEX": lambda text: text.encode().hex().upper(),
    "in lower case": lower,
    "in upper case": lambda text: "".join(char.upper() if char.isascii() else char for char in text),
    "in lower case, percent-encoded": lambda text: quote(lower(text), safe=""),
    "with zero-width spaces": "\u200b".join,
    "with soft hyphens": lambda text: f"{text[:5]}\u00ad{text[5:]}",
    "in UTF-16": "\0".join,
}


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("secret", [*SECRETS.values(), "p&ss<w0rd>\"quo'te/=x"])
@pytest.mark.parametrize("spelling", MORE)
def test_a_secret_is_found_in_one_code_within_another(spelling: str, secret: str, *, partly: bool):
    said = f"before {MORE[spelling](secret)} after"
    assert Redactor([secret], partly=partly)(said) == "before *** after"


@pytest.mark.parametrize("before", ["%4", "&#4", "&am", "\\x4", "\\u004", "&", "%", "\\"])
def test_what_stands_before_a_secret_does_not_hide_it(before: str):
    secret = "1;p;abcdefgh"
    assert secret not in Redactor([secret])(before + secret)


def test_a_short_secret_is_found_in_its_own_case_only():
    assert Redactor(["Guest"])("a guest, Guest and GUEST") == "a guest, *** and GUEST"


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
        "%25" * 17_000,
        "&amp;" * 10_000,
        "&" * 50_000,
        "&#" + "1" * 50_000,
        "\\x41" * 12_000,
        "\\x4" * 12_000,
        "\\u{" * 12_000,
        "&#37;25" * 7_000,
        "\u200b" * 50_000,
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
    st.text(st.sampled_from("ab%2fF\\nu0041x&#;{} \r\n\"'+/-_=tK7") | st.characters(), max_size=60),
)
def test_any_text_is_taken_and_no_secret_stands_there_as_it_is(secrets: list[str], text: str):
    secrets = [secret for secret in secrets if "*" not in secret and not {*secret} & set(" \t\r\n\\%") and secret.isprintable()]
    said = text + "".join(secrets)
    shown = Redactor(secrets)(said)
    assert not [secret for secret in secrets if secret in shown]
