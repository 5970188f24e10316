"""The configuration of `redrive up --sample`: a route to the sample company's API, and a queue for failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: The sample company has the employees 1 to 2000. The documentation often uses employee 1234.
EMPLOYEES = 2000
QUEUE = "employees-dlq"

_TOML = """\
# `redrive up --sample` writes this file at each start.

[routes.employees]
url = "http://127.0.0.1:{api_port}/employees/{{employeeId}}"
params.employeeId = "positive-int"
delay = "5s"
deadline = "5s"
drain = "1s"
retry = {{ base = "1s", cap = "30s" }}

[sources.employees_dlq]
kind = "sqs"
queue = "{queue}"
route = "employees"
map.employeeId = "employeeId"
"""


def write_config(file: Path, *, api_port: int) -> None:
    """Write the sample's redrive.toml."""
    file.write_text(_TOML.format(api_port=api_port, queue=QUEUE))
