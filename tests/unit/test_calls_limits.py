"""The limits follow from each other, whatever is configured."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.calls.limits import LEDGER_WAIT, LONGEST_DELAY, Limits
from tasks.dlq.calls.route import Route
from tasks.settings import assemble

seconds = st.floats(0.1, 900.0)


def limits(deadline: float = 20.0, drain: float = 5.0, slice_: float = 5.0, visibility: float | None = None) -> Limits:
    route = Route(name="employees", url="https://company.com/employees", deadline=deadline, drain=drain)
    quick = Route(name="quick", url="https://company.com/quick", deadline=0.1, drain=0.0)
    return Limits(slice=slice_, routes={"employees": route, "quick": quick}, visibility=visibility)


def test_the_defaults():
    assert {each.name: each.seconds for each in limits().explained()} == {
        "lease of employees": 35,
        "lease of quick": 10.1,
        "slice": 5,
        "busy": 40,
        "soft limit": 55,
        "hard limit": 300,
        "visibility timeout": 300,
        "stop grace": 35 + LEDGER_WAIT,
        "longest delay": LONGEST_DELAY,
    }


def test_every_limit_says_what_it_is_made_of_and_what_for():
    formulas = {each.name: each.formula for each in limits().explained()}
    assert formulas["lease of employees"] == "5 to begin + 20 deadline + 5 drain + 5 margin"
    assert formulas["busy"] == "5 slice + 35 longest lease"
    assert formulas["stop grace"] == "35 longest lease + 15 for a slow ledger"
    assert formulas["visibility timeout"] == "the larger of 300 and busy + 30"
    assert next(each for each in limits(visibility=60).explained() if each.name == "visibility timeout").formula == (
        "broker.visibility_timeout"
    )
    assert all(each.meaning for each in limits().explained())


@given(deadline=seconds, drain=seconds, slice_=st.floats(0.1, 60.0), more=st.none() | st.floats(0.0, 3600.0))
def test_busy_is_within_the_soft_limit_and_that_within_the_hard_one(
    deadline: float, drain: float, slice_: float, more: float | None
):
    plain = limits(deadline, drain, slice_)
    made = plain if more is None else limits(deadline, drain, slice_, visibility=plain.busy + more)
    assert made.refusal() is None
    assert made.lease < made.busy <= made.soft
    assert made.hard == made.visibility_timeout >= made.busy - 0.5  # whole seconds
    assert made.soft < made.hard or (more is not None and more < 4)
    assert made.lease < made.grace


def test_a_visibility_timeout_below_busy_is_refused():
    assert limits(visibility=40).refusal() is None
    assert limits(visibility=39.9).refusal() == "must be at least a slice and the longest lease of a route: 40s"


def test_without_a_route_there_is_a_slice_still():
    assert Limits(slice=5.0, routes={}).busy == 5.0


@pytest.mark.parametrize("visibility", ["", 'visibility_timeout = "10m"'])
def test_the_settings_take_their_limits_from_there(visibility: str):
    text = f'[broker]\n{visibility}\n[worker]\nslice = "7s"\n[routes.r]\nurl = "http://h/"\ndeadline = "1m"'
    settings = assemble(tomllib.loads(text), {})
    assert settings.limits.busy == 7 + settings.routes["r"].lease
    assert settings.visibility_timeout == settings.limits.visibility_timeout == (600 if visibility else 300)
