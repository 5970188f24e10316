"""The sample company's sync API. `PUT /employees/{id}` with an empty body reads and writes an employee as it is now.

It fails some calls on purpose, and refuses an older `Redrive-Fence`. Run it with `python -m tasks.devstack.company.api`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from sqlalchemy.orm.exc import StaleDataError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.devstack.company.call_counter import CallCounter
from tasks.devstack.company.faults import BOUNDED, Fault, FaultPlan
from tasks.devstack.company.store import Company, OlderFence, UnknownEmployee

if TYPE_CHECKING:
    from starlette.requests import Request

#: Seconds that a call takes besides its database work.
LATENCY = 0.01
#: The status of a call whose client has left before an answer. nginx uses the same number.
CLIENT_LEFT = 499

_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Api:
    """The endpoints."""

    def __init__(self, company: Company, faults: FaultPlan) -> None:
        self._company = company
        self._faults = faults
        self._counter = CallCounter()

    async def put_employee(self, request: Request) -> Response:
        """Sync one employee, and count the call."""
        path, status = request.url.path, int(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._counter.begin(path)
        try:
            response = await self._sync(request)
            status = response.status_code
        finally:
            self._counter.end(path, status)
        return response

    async def _sync(self, request: Request) -> Response:
        number, fence = request.path_params["id"], request.headers.get("Redrive-Fence")
        if not _NUMBER.fullmatch(number) or (fence is not None and not _NUMBER.fullmatch(fence)):
            return _make_error(HTTPStatus.UNPROCESSABLE_ENTITY, "an employee's id and a fence are integers")
        if fault := self._faults.next():
            return await self._fail(fault, request)
        await asyncio.sleep(LATENCY)
        try:
            employee = await run_in_threadpool(self._company.refresh, int(number), fence=int(fence) if fence else None)
        except UnknownEmployee:
            return _make_error(HTTPStatus.NOT_FOUND, "no such employee")
        except StaleDataError:
            return _make_error(HTTPStatus.CONFLICT, "another process has written this employee meanwhile")
        except OlderFence as error:
            return _make_error(HTTPStatus.PRECONDITION_FAILED, f"this call is too late: fence {error}")
        return JSONResponse(employee)

    async def get_statistics(self, _: Request) -> Response:
        """Show how many calls there were, and how many were open at once."""
        return JSONResponse(self._counter.make_statistics())

    async def check_health(self, _: Request) -> Response:
        """Answer 200."""
        return JSONResponse({"ok": True})

    async def _fail(self, fault: Fault, request: Request) -> Response:
        if fault is Fault.CONFLICT:
            return _make_error(HTTPStatus.CONFLICT, "another process holds this employee")
        if fault is Fault.UNAVAILABLE:
            wait = str(self._faults.choose_retry_after())
            return _make_error(HTTPStatus.SERVICE_UNAVAILABLE, "temporarily unavailable", headers={"Retry-After": wait})
        # A hanging call writes nothing, and ends when its client leaves.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response(status_code=CLIENT_LEFT)


def make_application(company: Company, faults: FaultPlan) -> Starlette:
    """Return the API as an ASGI application."""
    api = Api(company, faults)
    return Starlette(
        routes=[
            Route("/employees/{id}", api.put_employee, methods=["PUT"]),
            Route("/stats", api.get_statistics),
            Route("/health", api.check_health),
        ],
    )


def _make_error(status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status_code=status, headers=headers)


def main() -> None:
    """Serve on loopback until SIGTERM."""
    parser = argparse.ArgumentParser(prog="company-api", description="The sample company's sync API.")
    parser.add_argument("directory", type=Path, help="the directory of the company's databases")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0, help="decides which calls fail")
    parser.add_argument("--faults", choices=["none", "bounded", "endless"], default="endless")
    options = parser.parse_args()
    budget = {"none": {}, "bounded": BOUNDED, "endless": None}[options.faults]
    application = make_application(Company(options.directory), FaultPlan(options.seed, budget=budget))
    # Redrive logs each call itself.
    uvicorn.run(application, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
