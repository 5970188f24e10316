"""The configuration of `redrive up --sample`: a route to the sample company's API and a queue for its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: How many people the sample company employs, from number 1; the documentation's favourite is 1234.
EMPLOYEES = 2000
ROUTE = "employees"
SOURCE = "employees_dlq"
QUEUE = "employees-dlq"

_TOML = """\
# Written by `redrive up --sample` at each start, for the sample company's API of that start.

[routes.{route}]
url = "http://127.0.0.1:{api_port}/employees/{{employeeId}}"
params.employeeId = "positive-int"
delay = "5s"
deadline = "5s"
drain = "1s"
retry = {{ base = "1s", cap = "30s" }}

[sources.{source}]
kind = "sqs"
queue = "{queue}"
route = "{route}"
map.employeeId = "employeeId"
"""


def write(state: Path, *, api_port: int) -> Path:
    """Write redrive.toml into the state directory and return its path."""
    file = state / "redrive.toml"
    file.write_text(_TOML.format(api_port=api_port, route=ROUTE, source=SOURCE, queue=QUEUE))
    return file
