"""People are told by real processes: Sentry and a notification service hear once of a group, once of a burst, and its end."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from patience import until
from stack import stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

CANARY = "canary-token-5f3a"


class Receiver(ThreadingHTTPServer):
    """Sentry and a webhook in one: envelopes under /api, notifications elsewhere."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[tuple[str, bytes]] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        found = [json.loads(body.split(b"\n")[2]) for path, body in list(self.bodies) if path.startswith("/api")]
        return [event for event in found if event.get("logger") == "redrive.alerts"]

    @property
    def titles(self) -> list[str]:
        return [json.loads(body)["title"] for path, body in list(self.bodies) if not path.startswith("/api")]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.bodies.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_group_is_one_event_a_burst_is_told_once_and_both_end(
    tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi, receiver: Receiver
):
    more = '[alerts]\nburst = { failures = 3, within = "20s" }\n'
    with stack(tmp_path, sqs, company_api, more=more) as system:
        config = (tmp_path / "redrive.toml").read_text()
        (tmp_path / "redrive.toml").write_text(config.replace("delay =", 'bearer_env = "API_TOKEN"\ndelay =', 1))
        port = receiver.server_port
        system.env |= {
            "SENTRY_DSN": f"http://key@127.0.0.1:{port}/1",
            "REDRIVE_NOTIFY": f"json://user:{CANARY}@127.0.0.1:{port}/hook",
            "API_TOKEN": CANARY,
        }
        company_api.answers += [(400, {})] * 5
        system.start_worker()
        system.start_beat()
        system.send(*[json.dumps({"employeeId": number}) for number in range(1, 6)])
        system.wait_for_audit(parked=5)
        assert company_api.calls[0][2]["Authorization"] == f"Bearer {CANARY}"
        until(lambda: any("parked" in title for title in receiver.titles), what="the group's notification")
        until(lambda: len(receiver.events) == 2, what="the group and the burst at Sentry")
        parked = [str(job["id"]) for job in system.jobs() if job["state"] == "parked"]
        assert system.redrive("replay", *parked).returncode == 0
        system.wait_for_audit(recovered=5)
        until(lambda: sum("over" in title.lower() for title in receiver.titles) == 2, seconds=60, what=f"{receiver.titles}")
        logs = system.log("worker") + system.log("beat")
    group = [event for event in receiver.events if event["fingerprint"][0].startswith("group:")]
    assert len(group) == 1
    assert len(receiver.events) == 2
    assert len(receiver.titles) == 4
    told = b"".join(body for path, body in receiver.bodies)
    assert CANARY.encode() not in told
    assert CANARY not in logs
