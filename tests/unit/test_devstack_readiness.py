import http.server
import threading

import pytest

from tasks.devstack.child import Ended
from tasks.devstack.readiness import answers_ok, wait_until_ready
from tasks.dlq.errors import OutOfReach


def test_the_missing_names_are_reported_until_there_are_none():
    missing = [["a", "b"], ["b"], []]
    reported = []
    wait_until_ready(lambda: missing.pop(0), lambda: None, timeout=60, make_hint=str, report=reported.append)
    assert reported == [["a", "b"], ["b"]]


def test_a_process_that_has_ended_is_named():
    with pytest.raises(OutOfReach, match=r"^beat ended with exit code 3 before it was ready$") as raised:
        wait_until_ready(lambda: ["beat"], lambda: Ended(name="beat", code=3), timeout=60, make_hint=lambda: "see the log")
    assert raised.value.hint == "see the log"


def test_after_the_timeout_the_missing_names_are_listed():
    with pytest.raises(OutOfReach, match=r"^not ready after 0 s: beat, worker$"):
        wait_until_ready(lambda: ["beat", "worker"], lambda: None, timeout=0, make_hint=str)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_is_ready_when_it_answers_200():
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert answers_ok(port, "/health")
        assert not answers_ok(port, "/other")
        server.shutdown()
        thread.join()
    assert not answers_ok(port, "/health")
