# ruff: noqa: RUF001 - look-alikes of digits, dots and slashes are what is tested here
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.dlq.calls.url import check_template, expand
from tasks.dlq.parameters import Text

EMPLOYEES = "https://company.com/employees/{employeeId}"


@pytest.mark.parametrize(
    ("template", "url"),
    [
        (EMPLOYEES, "https://company.com/employees/%C3%A4%20b%2F1"),
        ("http://[::1]:8080/x{/employeeId}", "http://[::1]:8080/x/%C3%A4%20b%2F1"),
        ("http://a_b.local./x{.employeeId}", "http://a_b.local./x.%C3%A4%20b%2F1"),
        ("https://c.com/a{;employeeId}", "https://c.com/a;employeeId=%C3%A4%20b%2F1"),
        ("https://c.com/a?f=1&id={employeeId}", "https://c.com/a?f=1&id=%C3%A4%20b%2F1"),
        ("https://c.com/a{?employeeId}", "https://c.com/a?employeeId=%C3%A4%20b%2F1"),
        ("https://c.com/a?f=1{&employeeId}", "https://c.com/a?f=1&employeeId=%C3%A4%20b%2F1"),
        ("https://c.com/{employeeId}/x/{employeeId}", "https://c.com/%C3%A4%20b%2F1/x/%C3%A4%20b%2F1"),
        ("https://c.com/a%20b/{employeeId}", "https://c.com/a%20b/%C3%A4%20b%2F1"),
    ],
)
def test_templates_expand_as_rfc_6570_says(template: str, url: str):
    assert expand(template, {"employeeId": "ä b/1"}) == url


def test_several_variables_of_one_expression():
    values = {"a": "1", "b": "2", "c": "3"}
    assert expand("https://c.com/{a,b}{?c}", values) == "https://c.com/1,2?c=3"
    assert expand("https://c.com/x{?a,b,c}", values) == "https://c.com/x?a=1&b=2&c=3"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("company.com/employees/{id}", "http://"),
        ("ftp://company.com/{id}", "http://"),
        ("HTTPS://company.com/{id}", "http://"),
        ("file:///etc/{id}", "http://"),
        ("https://{id}/x", "must not contain variables"),
        ("https://{id}.company.com/x", "must not contain variables"),
        ("https://company.com:{id}/x", "must not contain variables"),
        ("https://company.com{/id}", "must not contain variables"),
        ("https://company.com{id}/x", "must not contain variables"),
        ("{id}://company.com/x", "not a URL template"),
        ("https://user:hunter2@company.com/{id}", "must not contain a user or password"),
        ("https://company.com:0/{id}", "port from 1 to 65535"),
        ("https://company.com:65536/{id}", "port from 1 to 65535"),
        ("https://company.com:/{id}", "port from 1 to 65535"),
        ("https://company.com:８０/{id}", "port from 1 to 65535"),
        ("https:///{id}", "not a host"),
        ("https://company..com/{id}", "not a host"),
        ("https://-company.com/{id}", "not a host"),
        (f"https://{'a' * 64}.com/{{id}}", "not a host"),
        ("https://[::g]/{id}", "not a host"),
        ("https://[1::2::3]/{id}", "::"),
        ("https://company.com\\x/{id}", "not a host"),
        ("https://company.com\r\nX: y/{id}", "not a host"),
        ("https://compäny.com/{id}", "ASCII"),
        ("https://company.com", "path"),
        ("https://company.com?x={id}", "path"),
        ("https://company.com/{id}#top", "fragment"),
        ("https://company.com/x{#id}", "fragment"),
        ("https://company.com/{+id}", "quote nothing"),
        ("https://company.com/{id:3}", "without modifiers"),
        ("https://company.com/{id*}", "without modifiers"),
        ("https://company.com/{!id}", "not an expression"),
        ("https://company.com/{}/{id}", "not an expression"),
        ("https://company.com/{id", "not an expression"),
        ("https://company.com/id}/{id}", "not an expression"),
        ("https://company.com/{{id}}", "not an expression"),
        ("https://company.com/../{id}", "not allowed"),
        ("https://company.com/x/./{id}", "not allowed"),
        ("https://company.com/{id}/..", "not allowed"),
        ("https://company.com/..;x/{id}", "not allowed"),
        ("https://company.com/%252E%252E/{id}", "not allowed"),
        ("https://company.com/x%2F..%2Fy/{id}", "not allowed"),
        ("https://company.com/%2e%2e/{id}", "upper case"),
        ("https://company.com/%2E%2E/{id}", "nowhere else"),
        ("https://company.com/%41/{id}", "nowhere else"),
        ("https://company.com/a b/{id}", "%XX"),
        ("https://company.com/ä/{id}", "%XX"),
        ("https://company.com/%/{id}", "%XX"),
        ("https://company.com/a\r\nb/{id}", "%XX"),
        ("https://company.com/a\x00b/{id}", "%XX"),
        ("https://company.com/a\\..\\b/{id}", "%XX"),
        ("https://company.com/a|b/{id}", "%XX"),
        ("https://company.com/{id}{?id}{?id}", "wrong side"),
        ("https://company.com/{id}{&id}", "wrong side"),
        ("https://company.com/x?y=1{/id}", "wrong side"),
        ("https://company.com/{id}/{other}", "params.other"),
        ("https://company.com/all", "id is not used"),
    ],
)
def test_a_template_that_could_reach_elsewhere_is_refused(template: str, says: str):
    with pytest.raises(ValueError, match=r".") as refusal:
        check_template(template, ["id"])
    assert says in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    with pytest.raises(ValueError, match=r"."):
        expand(template, {"id": "1"})


@pytest.mark.parametrize("value", ["..", ".", "%2e%2e", "%252e.", "x/../y", "x\\..\\y", "..;a", "．．", "‥", "", "\ud800"])
def test_a_value_that_leaves_the_template_is_refused(value: str):
    with pytest.raises(ValueError, match=r"."):
        expand(EMPLOYEES, {"employeeId": value})


def test_an_empty_value_would_name_the_collection():
    with pytest.raises(ValueError, match="parameter employeeId is empty"):
        expand(EMPLOYEES, {"employeeId": ""})


@pytest.mark.parametrize("value", [["a", "b"], {"a": "b"}, ["a"] * 2, [("a", "b")]])
def test_a_value_that_is_no_text_does_not_spread(value: Any):
    with pytest.raises(ValueError, match="leaves the template"):
        expand(EMPLOYEES, {"employeeId": value})


@pytest.mark.parametrize(("template", "value"), [("https://company.com/.{x}", "."), ("https://company.com/.{x}/y", ";y")])
def test_dot_segments_made_of_literal_and_value_are_refused(template: str, value: str):
    assert expand(template, {"x": "x"}).endswith(("/.x", "/.x/y"))
    with pytest.raises(ValueError, match="leaves the template"):
        expand(template, {"x": value})


def test_missing_and_unknown_parameters_are_refused():
    with pytest.raises(ValueError, match="has no value"):
        expand(EMPLOYEES, {})
    with pytest.raises(ValueError, match="is not used"):
        expand(EMPLOYEES, {"employeeId": "1", "other": "2"})


weapons = st.text(st.sampled_from("./\\%2eE5fF;?#&=:@+ \r\n\x00．／‥ä{}1a"), min_size=1, max_size=12)


@given(value=st.one_of(st.text(min_size=1, max_size=40), weapons))
def test_whatever_text_accepts_keeps_the_host_and_the_segments(value: str):
    try:
        Text().parse(value)
    except ValueError:
        assume(False)  # noqa: FBT003 - hypothesis's own way to discard an example
    template = "https://company.com:8443/employees/{id}/sync?who={id}"
    parts = urlsplit(expand(template, {"id": value}))
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "company.com:8443", "")
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "employees", value, "sync"]
    assert unquote(parts.query) == f"who={value}"
    assert parts.query.count("=") == 1
