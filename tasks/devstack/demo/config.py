"""The demo's redrive.toml: like one for production, with shorter times."""

from __future__ import annotations

QUEUE = "employees-failed"

TOML = """\
state_dir = "{directory}"

[broker]
url = "sqs://demo:demo@127.0.0.1:{sqs_port}"
wait_time = 2

[routes.employees]
url = "http://127.0.0.1:{api_port}/employees/{{employeeId}}"
params.employeeId = "positive-int"
delay = "2s"
deadline = "2s"
drain = "500ms"
retry = {{ max_attempts = 12, base = "500ms", cap = "4s" }}

[sources.employees_failed]
kind = "sqs"
queue = "{queue}"
route = "employees"
map.employeeId = "employeeId"

[worker]
slice = "2s"

[sweeps]
promote = "1s"
rescue = "2s"
sources = "1h"  # `redrive intake` reads them continuously
"""
