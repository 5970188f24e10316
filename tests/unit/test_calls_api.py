import pytest

from tasks.dlq.calls.api import Answer, SyncResult, classify
from tasks.dlq.calls.outcome import Answers, Outcome, parse_status_set


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([200, 201, 202, 204, 299], Outcome.SUCCESS),
        ([409, 412, 423, 425], Outcome.CONFLICT),
        ([429], Outcome.THROTTLED),
        ([408, 500, 502, 503, 504, 599], Outcome.API_FAULT),
        ([401, 403], Outcome.REFUSED),
        ([101, 300, 301, 302, 304, 307, 308, 400, 404, 405, 410, 413, 422, 451, 499], Outcome.HOPELESS),
        ([600, 999, 0, 99], Outcome.API_FAULT),  # no HTTP status: RFC 9110 section 15
    ],
)
def test_each_status_has_one_meaning(statuses: list[int], outcome: Outcome):
    assert {classify(SyncResult(answer=Answer.ANSWERED, status=status), Answers()) for status in statuses} == {outcome}


@pytest.mark.parametrize("status", [None, 200, 503])
def test_without_an_answer_the_status_does_not_count(status: int | None):
    assert classify(SyncResult(answer=Answer.NETWORK, status=status), Answers()) is Outcome.NETWORK
    assert classify(SyncResult(answer=Answer.DEADLINE, status=status), Answers()) is Outcome.DEADLINE
    assert classify(SyncResult(answer=Answer.NOT_SENT, status=status), Answers()) is Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("answers", "status", "outcome"),
    [
        (Answers(success=parse_status_set(["2xx", 404, 410])), 404, Outcome.SUCCESS),
        (Answers(success=parse_status_set([200, 201, "203-299"])), 202, Outcome.HOPELESS),
        (Answers(success=parse_status_set([200]), conflict=parse_status_set([202])), 202, Outcome.CONFLICT),
        (Answers(conflict=parse_status_set([503])), 503, Outcome.CONFLICT),
        (Answers(api_fault=parse_status_set(["4xx"]), refused=frozenset()), 401, Outcome.API_FAULT),
        (Answers(throttled=parse_status_set([503])), 429, Outcome.HOPELESS),
        (Answers(refused=parse_status_set([407])), 407, Outcome.REFUSED),
        (Answers(success=frozenset()), 200, Outcome.HOPELESS),
    ],
)
def test_the_configured_lists_decide(answers: Answers, status: int, outcome: Outcome):
    assert classify(SyncResult(answer=Answer.ANSWERED, status=status), answers) is outcome
