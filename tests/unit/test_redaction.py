"""Known secrets in text, in every spelling in which something might say them again."""

from __future__ import annotations

import time

import pytest
from canary import SPELLINGS, leaks
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.redaction import Redactor

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
