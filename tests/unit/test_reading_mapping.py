import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.calls.route import Route
from tasks.dlq.errors import UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.parameters import Integer, ParameterType, Text, Uuid
from tasks.dlq.reading.mapping import MAX_NEEDS, BodyMapping, check_expression, map_needs

EMPLOYEES = Route(
    name="employees", url="https://company.com/employees/{employeeId}", params={"employeeId": Integer(positive=True)}
)
ONE = BodyMapping(params={"employeeId": "employeeId"})
EACH = BodyMapping(each="employees[]", params={"employeeId": "id"})


def needs(body: Any, mapping: BodyMapping = ONE, route: Route = EMPLOYEES, max_bytes: int = 1 << 20) -> list[Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return map_needs(read_json(raw, max_bytes=max_bytes), mapping, route)


def refused(body: Any, mapping: BodyMapping = ONE, route: Route = EMPLOYEES) -> UnreadableBody:
    with pytest.raises(UnreadableBody) as caught:
        needs(body, mapping, route)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000
    return caught.value


def test_one_entity_is_one_need():
    assert needs({"employeeId": 1234, "name": "x"}) == [('{"employeeId":"1234"}', {"employeeId": "1234"})]


def test_each_entity_of_a_message_is_a_need_without_doubles_and_in_order_of_keys():
    body = {"employees": [{"id": 7}, {"id": "12"}, {"id": 12}, {"id": 7}]}
    assert needs(body, EACH) == [
        ('{"employeeId":"12"}', {"employeeId": "12"}),
        ('{"employeeId":"7"}', {"employeeId": "7"}),
    ]


def test_a_need_may_have_several_parameters():
    route = replace(EMPLOYEES, params={"tenant": Text(), "id": Integer()})
    mapping = BodyMapping(each="items", params={"tenant": "owner.name", "id": "id"})
    assert needs({"items": [{"owner": {"name": "a"}, "id": -1}]}, mapping, route) == [
        ('{"id":"-1","tenant":"a"}', {"id": "-1", "tenant": "a"})
    ]


def test_a_route_without_parameters_has_one_key():
    assert needs({"anything": 1}, BodyMapping(params={}), replace(EMPLOYEES, params={})) == [("{}", {})]


@pytest.mark.parametrize("body", [{}, {"employees": []}, {"employees": None}, {"employees": "x"}, [], 3, None])
def test_finding_nothing_is_a_reject_and_not_a_loss(body: Any):
    assert refused(body, EACH).reason == "no-match"


def test_what_is_found_has_to_be_a_list():
    error = refused({"employees": {"id": 1}}, BodyMapping(each="employees", params={"employeeId": "id"}))
    assert error.reason == "no-match"
    assert "not a list" in error.message


def test_one_entity_that_cannot_be_read_rejects_the_whole_letter():
    assert refused({"employees": [{"id": 1}, {"id": None}]}, EACH).reason == "invalid-parameter"
    assert refused({"employees": [{"id": 1}, {}]}, EACH).reason == "invalid-parameter"


@pytest.mark.parametrize("each", ["employees", "employees[]", "employees[*]", "employees[:]", "@ | employees[]", "a.b[]"])
def test_an_entity_that_is_null_rejects_the_letter_and_is_not_dropped(each: str):
    mapping = BodyMapping(each=each, params={"employeeId": "id"})
    entities: list[Any] = [{"id": 1}, {"id": 2}]
    assert len(needs({"employees": entities, "a": {"b": entities}}, mapping)) == 2
    for hidden in ([{"id": 1}, None, {"id": 2}], [None]):
        assert refused({"employees": hidden, "a": {"b": hidden}}, mapping).reason == "invalid-parameter"


def test_lists_in_the_list_are_flattened_only_where_the_expression_says_so():
    nested = {"employees": [[{"id": 1}, {"id": 2}], [], {"id": 3}]}
    assert [key for key, _ in needs(nested, EACH)] == ['{"employeeId":"1"}', '{"employeeId":"2"}', '{"employeeId":"3"}']
    assert refused({"employees": [[{"id": 1}, None]]}, EACH).reason == "invalid-parameter", "null in a list within"
    assert refused({"employees": [[[{"id": 1}]]]}, EACH).reason == "invalid-parameter", "one level, and no more"
    for each in ("employees", "employees[*]"):
        assert refused(nested, replace(EACH, each=each)).reason == "invalid-parameter"
    pairs = BodyMapping(each="employees", params={"employeeId": "[0]"})
    assert needs({"employees": [[1, "a"]]}, pairs) == [('{"employeeId":"1"}', {"employeeId": "1"})]


def test_entities_of_several_lists_are_counted_together():
    assert refused({"employees": [[{"id": 1}] * MAX_NEEDS, [{"id": 1}]]}, EACH).reason == "too-many"
    assert refused({"employees": [[], []]}, EACH).reason == "no-match", "no entity at all"
    below = BodyMapping(each="teams[].members[]", params={"employeeId": "id"})
    assert len(needs({"teams": [{"members": [{"id": 1}]}, {"members": [{"id": 2}, {"id": 3}]}]}, below)) == 3
    assert refused({"teams": [{"members": [{"id": 1}, None]}]}, below).reason == "invalid-parameter"


def test_fan_out_is_bounded():
    most = {"employees": [{"id": number + 1} for number in range(MAX_NEEDS)]}
    assert len(needs(most, EACH)) == MAX_NEEDS
    assert refused({"employees": [{"id": 1}] * (MAX_NEEDS + 1)}, EACH).reason == "too-many"


@pytest.mark.parametrize("value", [None, True, 1.0, -1, 0, "", " 1", "1 ", "+1", "01", "\u0661", [1], {"a": 1}, "1\0", "\ud800"])
def test_a_value_that_is_not_of_its_type_tells_what_is_allowed(value: Any):
    error = refused({"employeeId": value})
    assert error.reason == "invalid-parameter"
    assert error.hint == "employeeId must be a positive integer"


def test_nul_and_lone_surrogates_are_harmless_where_no_parameter_uses_them():
    assert needs(b'{"employeeId": 1, "note": "\\u0000 \\ud800"}') == [('{"employeeId":"1"}', {"employeeId": "1"})]


@pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "..", "a/../b", "\\n"])
def test_text_that_no_url_can_carry_is_refused(text: str):
    route = replace(EMPLOYEES, params={"employeeId": Text()})
    assert refused(f'{{"employeeId": "{text}"}}'.encode(), ONE, route).reason == "invalid-parameter"


@pytest.mark.parametrize(
    ("expression", "document"),
    [
        ("abs(@)", "text"),
        ("contains(@, `1`)", "text"),
        ("sort(@)", [1, "a"]),
        ("max_by(@, &id)", [{"id": None}]),
        ("join(',', @)", [1]),
        ("ceil(to_number(@))", "1e400"),
        ("avg(@)", [10**400, 1]),
    ],
)
def test_an_expression_that_does_not_fit_the_body_is_a_reject(expression: str, document: Any):
    error = refused(document, BodyMapping(params={"employeeId": expression}))
    assert error.reason == "mapping-failed"
    assert expression in error.message


def test_messages_hold_no_more_of_a_hostile_body_than_a_line():
    error = refused("\x1b[31m\n\0" + "x" * 100_000, BodyMapping(params={"employeeId": "abs(@)"}))
    assert error.reason == "mapping-failed"
    assert error.message.isascii()


@pytest.mark.parametrize("text", ["", "a[", "a..b", "'open", "unknown(@)", "a.unknown(b)[0]", "(" * 400, "a" * 501, '"a"(@)'])
def test_a_wrong_expression_is_refused_at_start(text: str):
    with pytest.raises(ValueError, match=r"JMESPath|characters"):
        check_expression(text)
    with pytest.raises(ValueError, match=r"JMESPath|characters"):
        BodyMapping(each=text, params={})


def test_an_expression_as_deep_as_allowed_can_be_evaluated():
    deep = ".".join("a" * 250)
    assert BodyMapping(params={"x": deep}).read({"a": 1}) == [{"x": None}]


def test_the_old_notation_for_text_is_read_without_a_warning():
    check_expression("items[?state==`open`]")


def test_the_same_expressions_are_the_same_mapping():
    assert BodyMapping(each="a", params={"x": "y"}) == BodyMapping(each="a", params={"x": "y"})
    assert "y" in repr(BodyMapping(params={"x": "y"}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet="a1.\0\ud800/é ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["employees", "id", "a"]), inner, max_size=3),
    max_leaves=12,
)
expressions = st.sampled_from(
    [
        "@",
        "id",
        "a.id",
        "[0]",
        "[].id",
        "*.id",
        "[::-1]",
        "a == id",
        "a < id",
        "!@",
        "id || a",
        "keys(@)",
        "values(@)",
        "length(@)",
    ]
) | st.sampled_from(
    ["to_number(@)", "to_string(@)", "max(@)", "sum(@)", "sort_by(@, &id)", "merge(@, a)", "reverse(@)", "floor(@)", "avg(@)"]
)
lists = st.none() | st.sampled_from(["employees", "employees[]", "@", "[]", "*", "[?id > `1`]", "to_array(@)", "map(&id, @)"])


@given(
    body=st.one_of(st.binary(max_size=60), json_values.map(lambda value: json.dumps(value).encode())),
    each=lists,
    expression=expressions,
    kind=st.sampled_from([Integer(), Integer(positive=True), Text(), Uuid()]),
)
def test_only_unreadable_body_ever_escapes(body: bytes, each: str | None, expression: str, kind: ParameterType):
    mapping = BodyMapping(each=each, params={"employeeId": expression})
    found: list[tuple[str, dict[str, str]]] = []
    refusal = ""
    try:
        found = needs(body, mapping, replace(EMPLOYEES, params={"employeeId": kind}))
    except UnreadableBody as error:
        refusal = error.message
    assert bool(refusal) != bool(found)
    assert refusal.isprintable()
    keys = [key for key, _ in found]
    assert keys == sorted(set(keys))
    for key, parameters in found:
        assert json.loads(key) == parameters
        assert kind.parse(parameters["employeeId"]) == parameters["employeeId"]


@pytest.mark.parametrize("text", ["a[", "foo(", '"', "a b", "a[?", "{a"])
def test_of_a_wrong_expression_it_is_told_what_is_wrong_and_nothing_hangs_behind_it(text: str):
    with pytest.raises(ValueError, match=r"is not JMESPath: \w") as refusal:
        check_expression(text)
    assert str(refusal.value)[-1] not in ":,"
    assert "jmespath expression" not in str(refusal.value).lower()
