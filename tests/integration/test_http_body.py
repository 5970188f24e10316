"""A call with a body: what arrives at the API is the template with the parameters in their places."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tasks.adapters.http import RequestsSyncApi
from tasks.dlq.calls.api import SyncRequest
from tasks.dlq.calls.body_template import BodyTemplate
from tasks.dlq.calls.route import Route
from tasks.dlq.parameters import Integer, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from company_api import CompanyApi


@pytest.fixture
def http() -> Iterator[RequestsSyncApi]:
    api = RequestsSyncApi({})
    yield api
    api.close()


def call(http: RequestsSyncApi, route: Route, **parameters: str) -> int | None:
    return http.call(SyncRequest(route=route, parameters=parameters, job_id=1, attempt=1, fence=1)).status


def test_parameters_stand_in_the_url_in_the_body_or_in_both(http: RequestsSyncApi, company_api: CompanyApi):
    params = {"id": Integer(), "tenant": Text(), "name": Text()}
    body = BodyTemplate('{"id": "{id}", "name": "{name}"}', frozenset({"id"}))
    route = Route(name="r", url=company_api.url + "/{tenant}/{id}", params=params, body=body)
    assert call(http, route, id="12", tenant="a b", name='ä", "admin": "true') == 200
    assert company_api.paths() == ["/a%20b/12"]
    assert [json.loads(each) for each in company_api.bodies] == [{"id": 12, "name": 'ä", "admin": "true'}]
    headers = company_api.calls[0][2]
    assert headers["Content-Length"] == str(len(company_api.bodies[0]))
    assert headers["Content-type"] == "application/json"


def test_without_a_template_the_body_is_empty(http: RequestsSyncApi, company_api: CompanyApi):
    assert call(http, Route(name="r", url=company_api.url + "/{id}", params={"id": Integer()}), id="1") == 200
    assert company_api.bodies == [b""]
    assert company_api.calls[0][2]["Content-Length"] == "0"
