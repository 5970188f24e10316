"""The body of a call: values keep to their places, whatever they hold."""

from __future__ import annotations

import json

import pytest

from tasks.dlq.calls.body_template import BodyTemplate

HOSTILE = '","admin":true,"x":"\\ \n{id}é\u2028'


def test_a_value_alone_is_a_number_where_it_is_one():
    template = BodyTemplate(
        '{"id": "{id}", "name": "{name}", "text": "nr. {id} of {name}", "n": [1, true, null, "{id}"]}', frozenset({"id"})
    )
    assert json.loads(template.render({"id": "12", "name": "x"})) == {
        "id": 12,
        "name": "x",
        "text": "nr. 12 of x",
        "n": [1, True, None, 12],
    }
    assert template.variables == {"id", "name"}


def test_a_value_cannot_leave_its_place():
    template = BodyTemplate('{"id": "{id}", "in": "a {id} b"}')
    assert json.loads(template.render({"id": HOSTILE})) == {"id": HOSTILE, "in": f"a {HOSTILE} b"}


def test_the_same_parameters_give_the_same_bytes():
    template = BodyTemplate('{"b": "{id}", "a": "ä"}')
    assert template.render({"id": "1"}) == template.render({"id": "1"}) == '{"b":"1","a":"ä"}'.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "{",
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        "[" * 100,
        '{"{id}": 1}',
        '[{"a": {"x{id}": 1}}]',
        '{"a": "\\ud800{id}"}',
        '{"\\ud800": 1}',
        '"' + "a" * 70_000 + '"',
    ],
)
def test_a_template_is_strict_json(text: str):
    with pytest.raises(ValueError):  # noqa: PT011 - the message is read_json's, shown there
        BodyTemplate(text)
