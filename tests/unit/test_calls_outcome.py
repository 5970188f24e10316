# ruff: noqa: RUF001 - look-alikes of digits are what is tested here
import pytest

from tasks.dlq.calls.outcome import parse_status_set


def test_statuses_are_named_one_by_one_by_family_and_by_range():
    assert parse_status_set([404, "410"]) == {404, 410}
    assert parse_status_set(["2xx"]) == parse_status_set(["200-299"]) == parse_status_set("2XX") == set(range(200, 300))
    assert parse_status_set([" 5xx ", "408"]) == {408, *range(500, 600)}
    assert parse_status_set([]) == frozenset()


@pytest.mark.parametrize(
    "spec",
    [
        *(99, 600, 0, -1, True, 20.0),
        *("6xx", "0xx", "2x", "2xxx", "299-200", "200-", "-299", "200-600", "", "ok", "２xx", "200 - 299"),
    ],
)
def test_what_is_no_status_is_refused_with_what_is_allowed(spec: str | int):
    with pytest.raises(ValueError, match=r'is not an HTTP status: write 404, "2xx" or "200-299"'):
        parse_status_set([spec])
