import asyncio
from typing import Any

from tasks.devstack.company.call_counter import CallCounter, CountCalls


class App:
    """An ASGI application whose calls stay open until `answer` is set."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        await self.answer.wait()
        if scope["path"] == "/broken":
            raise ValueError
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})


async def call_at_once(counter: CallCounter, *paths: str, method: str = "PUT") -> dict[str, Any]:
    """Return the statistics while calls to all these paths are open; then let them end."""
    app = App()
    middleware = CountCalls(app, counter)

    async def ignore(_message: Any) -> None:
        pass

    async with asyncio.TaskGroup() as tasks:
        for path in paths:
            tasks.create_task(middleware({"type": "http", "method": method, "path": path}, None, ignore))
        await asyncio.sleep(0)  # each task runs until it waits
        statistics = counter.make_statistics()
        app.answer.set()
    return statistics


def test_open_calls_are_counted_in_total_and_for_each_path():
    counter = CallCounter()
    open_now = asyncio.run(call_at_once(counter, "/employees/1", "/employees/2", "/employees/2"))
    assert (open_now["in_flight"], open_now["max_in_flight"], open_now["max_in_flight_per_key"]) == (3, 3, 2)
    assert open_now["statuses"] == {}
    asyncio.run(call_at_once(counter, "/employees/3"))
    assert counter.make_statistics() == {
        "calls": 4,
        "in_flight": 0,
        "max_in_flight": 3,
        "max_in_flight_per_key": 2,
        "statuses": {"200": 4},
    }


def test_a_call_without_an_answer_is_counted_too():
    counter = CallCounter()
    try:
        asyncio.run(call_at_once(counter, "/broken"))
    except* ValueError:
        pass
    assert counter.make_statistics()["in_flight"] == 0
    assert counter.make_statistics()["statuses"] == {"None": 1}


def test_only_put_requests_are_calls():
    counter = CallCounter()
    asyncio.run(call_at_once(counter, "/stats", method="GET"))
    assert counter.make_statistics()["calls"] == 0
