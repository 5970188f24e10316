"""The company around examples/spring-consumer: two instances of it, and the service that owns the truth about employees."""

from __future__ import annotations

import http.client
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from doubles.http_server import Handler, LoopbackServer
from jvm_servers import JVM
from waiting import until

from tasks.devstack import child

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Employee:
    """An employee, as messages and both APIs write one."""

    id: int
    department: str
    revision: int


class Owner:
    """The service that owns employees: `GET /employees/{id}` on loopback."""

    def __init__(self) -> None:
        self.truth: dict[int, Employee] = {}
        self.url = ""

    def learn(self, *employees: Employee) -> None:
        self.truth |= {employee.id: employee for employee in employees}


@contextmanager
def owner_server() -> Iterator[Owner]:
    owner = Owner()

    class Get(Handler):
        def do_GET(self) -> None:
            employee = owner.truth.get(int(self.path.rpartition("/")[2]))
            body = json.dumps(asdict(employee)).encode() if employee else b""
            self.answer(200 if employee else 404, body, {"Content-Type": "application/json"})

    with LoopbackServer(Get) as server:
        owner.url = server.url
        yield owner


class Company:
    """Two instances of the consumer on one database, in a folder. `url` is the sync API of the first."""

    NAMES = ("one", "two")

    def __init__(self, folder: Path, classpath: str) -> None:
        self._folder = folder
        self._command = ["java", *JVM, f"-Djava.io.tmpdir={folder}", "-cp", classpath, "com.example.employees.Application"]
        self._ports = {name: child.free_port() for name in self.NAMES}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"http://127.0.0.1:{self._ports[self.NAMES[0]]}"

    @contextmanager
    def running(self, properties: Mapping[str, str]) -> Iterator[None]:
        """Start both with these Spring properties, wait until they serve, and end them at the end."""
        env = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "only-here",
            "SPRING_DATASOURCE_URL": f"jdbc:h2:file:{self._folder}/employees;AUTO_SERVER=TRUE",
            **properties,
        }
        try:
            for name, port in self._ports.items():
                with self._log_file(name).open("wb") as log:
                    environment = {**env, "SERVER_PORT": str(port)}
                    self._processes[name] = child.spawn(self._command, env=environment, output=log, cwd=self._folder)
            for name in self.NAMES:
                until(lambda name=name: self._serves(name), what=f"instance {name}; see {self._log_file(name)}")
            yield
        finally:
            child.stop(self._processes.values(), grace=10)

    def sync(self, number: int) -> int:
        """Do what Redrive does; return the status."""
        return self._ask(self.NAMES[0], "PUT", f"/employees/{number}")[0]

    def employee(self, number: int) -> Employee:
        status, body = self._ask(self.NAMES[1], "GET", f"/employees/{number}")
        assert status == http.HTTPStatus.OK, (number, status)
        return Employee(**body)

    def count(self, words: str) -> int:
        """Count in what both have logged."""
        return sum(self._log_file(name).read_text(errors="replace").count(words) for name in self.NAMES)

    def _ask(self, name: str, method: str, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[name], timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
            return response.status, json.loads(body) if body else None
        finally:
            connection.close()

    def _serves(self, name: str) -> bool:
        assert self._processes[name].poll() is None, self._log_file(name).read_text(errors="replace")[-4000:]
        try:
            return self._ask(name, "GET", "/employees/0")[0] == http.HTTPStatus.NOT_FOUND
        except OSError:
            return False

    def _log_file(self, name: str) -> Path:
        return self._folder / f"consumer-{name}.log"
