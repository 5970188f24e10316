"""The company's sync API: `PUT /employees/{id}` with an empty body re-reads and re-writes an employee as it is now.

It counts its callers, misbehaves now and then, and honours `Redrive-Fence`. Run it with `python -m tasks.devstack.company.api`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from sqlalchemy.orm.exc import StaleDataError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.devstack.company.faults import BOUNDED, Fault, FaultPlan
from tasks.devstack.company.store import Company, OlderFence, UnknownEmployee
from tasks.devstack.company.traffic import CountCalls, Traffic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request

#: Seconds of work that a call costs the company besides its databases.
LATENCY = 0.01
#: Seconds until a hanging call gives up by itself.
HANG = 60.0
#: nginx's word for it; nobody reads it but the statistics.
CLIENT_GONE = 499

_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Api:
    """The endpoints, over a company, its faults and its traffic."""

    def __init__(self, company: Company, faults: FaultPlan, traffic: Traffic) -> None:
        self._company = company
        self._faults = faults
        self._traffic = traffic

    async def put(self, request: Request) -> Response:
        """Sync one employee."""
        number, fence = request.path_params["id"], request.headers.get("Redrive-Fence")
        if not _NUMBER.fullmatch(number) or (fence is not None and not _NUMBER.fullmatch(fence)):
            return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, "an employee's id and a fence are integers")
        fault = self._faults.next()
        if fault:
            self._traffic.faults[fault] += 1
            return await self._misbehave(fault, request)
        await asyncio.sleep(LATENCY)
        try:
            employee = await run_in_threadpool(self._company.refresh, int(number), fence=int(fence) if fence else None)
        except UnknownEmployee:
            return _answer(HTTPStatus.NOT_FOUND, "no such employee")
        except StaleDataError:
            self._traffic.lost_races += 1
            return _answer(HTTPStatus.CONFLICT, "somebody else wrote this employee meanwhile")
        except OlderFence as error:
            self._traffic.refused_fences += 1
            return _answer(HTTPStatus.PRECONDITION_FAILED, f"this call came too late: fence {error}")
        return JSONResponse(employee)

    async def get(self, request: Request) -> Response:
        """Show one employee."""
        number = request.path_params["id"]
        if not _NUMBER.fullmatch(number):
            return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, "an employee's id is an integer")
        try:
            return JSONResponse(await run_in_threadpool(self._company.employee, int(number)))
        except UnknownEmployee:
            return _answer(HTTPStatus.NOT_FOUND, "no such employee")

    async def stats(self, _: Request) -> Response:
        """Tell how many calls there were and how many at once."""
        return JSONResponse(self._traffic.stats())

    async def calls(self, _: Request) -> Response:
        """Tell the begin and end of each call, one JSON array."""
        return JSONResponse([call.shown() for call in self._traffic.calls])

    async def health(self, _: Request) -> Response:
        """Tell that the API serves."""
        return JSONResponse({"ok": True})

    async def _misbehave(self, fault: Fault, request: Request) -> Response:
        if fault is Fault.CONFLICT:
            return _answer(HTTPStatus.CONFLICT, "somebody holds this employee")
        if fault is Fault.UNAVAILABLE:
            wait = str(self._faults.retry_after())
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "the company is at lunch", headers={"Retry-After": wait})
        # It has not begun to write, and will not: it ends with its client.
        try:
            async with asyncio.timeout(HANG):
                while (await request.receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return _answer(HTTPStatus.GATEWAY_TIMEOUT, "gave up")
        return Response(status_code=CLIENT_GONE)


def application(company: Company, faults: FaultPlan, *, employees: Sequence[int] = ()) -> Starlette:
    """Return the API as an ASGI application that closes the company when it ends."""
    traffic = Traffic()
    api = Api(company, faults, traffic)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if employees:
            await run_in_threadpool(company.found, employees)
        yield
        company.close()

    return Starlette(
        routes=[
            Route("/employees/{id}", api.put, methods=["PUT"]),
            Route("/employees/{id}", api.get),
            Route("/stats", api.stats),
            Route("/calls", api.calls),
            Route("/health", api.health),
        ],
        middleware=[Middleware(CountCalls, traffic=traffic)],
        lifespan=lifespan,
    )


def _answer(status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status_code=status, headers=headers)


def main() -> None:
    """Serve on loopback until SIGTERM."""
    parser = argparse.ArgumentParser(prog="company-api", description="The sample company's sync API.")
    parser.add_argument("directory", type=Path, help="where the company keeps its databases")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0, help="decides which calls go wrong")
    parser.add_argument("--faults", choices=["none", "bounded", "endless"], default="endless")
    parser.add_argument("--employees", type=int, default=0, help="employ this many people, from number 1")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    # Its start and end, and that CTRL+C would end it, are not for whoever runs Redrive: calls and trouble are.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.levelno > logging.INFO)
    logging.getLogger("uvicorn.access").addFilter(lambda record: '"GET /' not in record.getMessage())  # whoever only looks
    budget = {"none": {}, "bounded": BOUNDED, "endless": None}[options.faults]
    uvicorn.run(
        application(
            Company(options.directory), FaultPlan(options.seed, budget=budget), employees=range(1, options.employees + 1)
        ),
        host="127.0.0.1",
        port=options.port,
        log_level="info",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
