"""The numbers that the stack is configured with, and that the checker holds it to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.dlq.calls.retry import MAX_CRASHES
from tasks.dlq.calls.route import LEASE_MARGIN, LEASE_START

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 2.0
DRAIN = 1.0
LEASE = LEASE_START + DEADLINE + DRAIN + LEASE_MARGIN
MAX_ATTEMPTS = 6
MAX_MISSES = 50
LIMITS = {"employees": 1, "orders": 3, "stock": 2}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What no run may exceed. Durations are seconds; `limits` are each route's calls in flight.

    `lock_wait` is how long a need may have waited, with its time already read, for the lock on its job: never on SQLite.
    """

    limits: dict[str, int]
    deadline: float = DEADLINE
    drain: float = DRAIN
    lease: float = LEASE
    lease_margin: float = LEASE_MARGIN
    attempts: int = MAX_ATTEMPTS
    misses: int = MAX_MISSES
    crashes: int = MAX_CRASHES
    lock_wait: float = 35.0


BOUNDS = Bounds(limits=LIMITS)

#: The SQS queues that producers fill with plain JSON, by source. The source's route is the first part of its name.
QUEUES = {"employees_dlq": "employees-dlq", "orders_dlq": "orders-dlq", "stock_dlq": "stock-dlq"}
#: The Celery queue that producers of other applications send `redrive.submit` to, and the route of what they send.
SUBMIT, SUBMIT_ROUTE = "redrive-submit", "stock"
#: The dead-letter topic, its consumer group and its source.
TOPIC, GROUP, KAFKA = "orders-dlt", "orders-dlt-redrive", "orders_dlt"

_CONFIG = """
state_dir = "{folder}/state"
[ledger]
url = "{ledger}"
[broker]
url = "sqs://local:only-here@127.0.0.1:{broker}"
visibility_timeout = "30s"
wait_time = 1
[worker]
concurrency = 2
slice = "1s"
{routes}[sources.employees_dlq]
kind = "sqs"
queue = "employees-dlq"
route = "employees"
each = "employees[]"
map.id = "id"
[sources.orders_dlq]
kind = "sqs"
queue = "orders-dlq"
route = "orders"
map.id = "id"
[sources.stock_dlq]
kind = "sqs"
queue = "stock-dlq"
route = "stock"
map.id = "id"
[sources.orders_dlt]
kind = "kafka"
bootstrap = "127.0.0.1:{kafka}"
topics = ["orders-dlt"]
group = "orders-dlt-redrive"
route = "orders"
map.id = "id"
properties = {{ session_timeout_ms = 6000, socket_timeout_ms = 3000, reconnect_backoff_max_ms = 500 }}
[sweeps]
promote = "2s"
rescue = "2s"
sources = "3s"
watch = "30s"
prune = "1d"
"""
_ROUTE = """
[routes.{name}]
url = "http://127.0.0.1:{api}/{name}/{{id}}"
delay = "300ms"
deadline = "2s"
drain = "1s"
max_in_flight = {limit}
probe_interval = "1s"
params.id = "positive-int"
retry = {{ max_attempts = 6, base = "200ms", cap = "1s", max_misses = 50 }}
"""


def config(*, folder: Path, ledger: str, broker: int, api: int, kafka: int) -> str:
    """Return a run's redrive.toml. `ledger` is a URL; `broker`, `api` and `kafka` are the proxies' ports."""
    routes = "".join(_ROUTE.format(name=name, api=api, limit=limit) for name, limit in LIMITS.items())
    return _CONFIG.format(folder=folder, ledger=ledger, broker=broker, kafka=kafka, routes=routes)
