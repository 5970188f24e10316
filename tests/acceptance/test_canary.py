"""Secrets are planted wherever one may stand, things go wrong, and what Redrive wrote, sent or showed is searched for them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pytest
import redis
import requests
from canary import SPELLINGS, leaks
from doubles.http_server import Handler, LoopbackServer
from doubles.webhook_receiver import WebhookReceiver
from stack import Stack, stack
from waiting import TEST_TIMEOUT, until

from tasks.devstack import child
from tasks.devstack.redis import EmbeddedRedis
from tasks.monitoring import flower_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs

pytestmark = pytest.mark.xdist_group("canary")  # one process has the parts that its tests share

SECRETS = {
    "token": "tK7/kQ2x+W9zLp4~Vn8sD=eR6",
    "header": "Sig hD3vC6xZ9aS k2M5nB8vGqT",
    "query": "qY4xC7vB2nM9aS5dF1",
    "body": "bO9dY2kE4yU7iP0aS6",
    "broker": "bR3fG6hJ9lP2oI5uY8",
    "redis": "rD8uY1tR4eW7qA0sZ3",
    "ledger": "pG5zX8/cV1bN4mL7kJ",
    "dsn": "5eD9rYd0nK3fQ7wT1b",
    "notify": "nT2oPqR5sTu8vWx1yZ",
    "notify path": "nP7aBcD1eFgH4iJ0kL",
    "kafka": "kF6mNbV3cXz0LkJ9hG",
    "flower": "fL4pQwE9rTy6UiO3aS",
}
#: What the API says besides: no secret, so that it is found where the answer is.
MARKER = "kn0wn-m4rker"
ROUTE = """
[routes.{name}]
url = "{url}/{name}/{{employeeId}}?code={query}"
bearer_env = "API_TOKEN"
delay = "0s"
deadline = "3s"
drain = "0s"
params.employeeId = "positive-int"
headers.X-Api-Key = "{header}"
body = '{{"apiKey": "{body}"}}'
retry = {{ max_attempts = 1 }}
"""
MORE = """
[sources.topic]
kind = "kafka"
bootstrap = "127.0.0.1:1"
topics = ["employees-dlt"]
route = "employees"
map.employeeId = "employeeId"
properties.security_protocol = "SASL_PLAINTEXT"
properties.sasl_mechanism = "PLAIN"
properties.sasl_username = "redrive"
properties_env.sasl_password = "KAFKA_PASSWORD"
"""
#: A fault in a task, with secrets in its messages, its cause and its local variables.
FAULT = """
import os
from tasks.dlq.services.maintenance import Maintenance

def rescue(self):
    token, dsn = os.environ["API_TOKEN"], os.environ["SENTRY_DSN"]
    told = {name: os.environ[name] for name in ("REDRIVE_NOTIFY", "KAFKA_PASSWORD", "REDRIVE_MONITOR__URL")}
    try:
        raise ValueError(f"Authorization: Bearer {token} in {self._routes}")
    except ValueError as error:
        raise RuntimeError(f"a fault: {dsn} {told}") from error

Maintenance.rescue = rescue
"""
ECHOED = ("token", "header", "query", "body")
#: Each secret in each spelling in a body; in the reason; and in place of a status line and a header.
IN_BODIES, IN_REASONS, GARBLED = (len(ECHOED) * count for count in (len(SPELLINGS), 1, 1))
#: Seconds: a dozen processes start here, also where the machine has other work.
patiently = partial(until, seconds=TEST_TIMEOUT)
NO_BROKER = f"sqs://local:{SECRETS['broker']}@127.0.0.1:1"
NO_LEDGER = f"postgresql://redrive:{quote(SECRETS['ledger'], safe='')}@127.0.0.1:1/redrive"


class Echo(LoopbackServer):
    """An API that answers with the secrets that it was sent. Serves while it is entered."""

    def __init__(self) -> None:
        super().__init__(_Put)
        self.told: set[str] = set()


class _Put(Handler):
    protocol_version = "HTTP/1.0"
    server: Echo

    def do_PUT(self) -> None:
        body = json.loads(self.body())
        path, _, query = self.path.partition("?code=")
        told = [self.headers["Authorization"].removeprefix("Bearer "), self.headers["X-Api-Key"], query, body["apiKey"]]
        self.server.told |= {*told}
        kind, which = divmod(int(path.rpartition("/")[2]) - 1, len(ECHOED))
        said = told[which]
        if kind == len(SPELLINGS) + 1:
            self.wfile.write(f"HTTP/1.1 {said}\r\n{said}: {said}\r\n\r\n".encode())
            return
        status = "401 Who are you" if path.startswith("/refused") else "400 Bad" if kind < len(SPELLINGS) else f"400 {said}"
        answer = f"{MARKER} {[*SPELLINGS.values(), str][kind](said)}".encode()
        head = f"WWW-Authenticate: {said}\r\nRetry-After: {said}\r\nLocation: /?code={said}\r\nContent-Length: {len(answer)}"
        self.wfile.write(f"HTTP/1.1 {status}\r\n{head}\r\n\r\n".encode() + answer)


@dataclass
class Scene:
    """The stack, and what was seen of it: for each sink what is in there, and a part of it that shows that it was seen."""

    system: Stack
    api: Echo
    receiver: WebhookReceiver
    redis: str
    flower: int
    sinks: dict[str, tuple[str, str]] = field(default_factory=dict)

    def see(self, name: str, text: str | bytes, marker: str) -> None:
        self.sinks[name] = (text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text, marker)

    def run(self, marker: str, *words: str, code: int = 0, **env: str) -> None:
        """Run a command, of Redrive's or Celery's, and see what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "celery" if words[0] == "-A" else "tasks.cli", *words],
            env=self.system.env | env,
            cwd=self.system.folder,
            capture_output=True,
            text=True,
            timeout=TEST_TIMEOUT,
            check=False,
        )
        assert done.returncode == code, (words, done.stderr)
        self.see(" ".join([*words, *env]), done.stdout + done.stderr, marker)

    def ask(self, path: str) -> str:
        """Ask Flower; it may not be there yet."""
        try:
            url = f"http://127.0.0.1:{self.flower}{path}"
            return requests.get(url, auth=("operator", SECRETS["flower"]), timeout=20).text
        except requests.ConnectionError:
            return ""


@contextmanager
def guarded_redis() -> Iterator[str]:
    """Run a Redis with a password; yield its URL."""
    with EmbeddedRedis() as server:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("requirepass", SECRETS["redis"])
        yield f"redis://:{SECRETS['redis']}@127.0.0.1:{server.port}/0"


@contextmanager
def listening(scene: Scene) -> Iterator[None]:
    """See all that goes over the side channel."""
    ended, heard = threading.Event(), list[bytes]()

    def hear() -> None:
        while not ended.is_set():
            if message := channel.get_message(timeout=0.1):
                heard.append(message["data"])

    with redis.Redis.from_url(scene.redis) as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.psubscribe("*")
        listener = threading.Thread(target=hear, daemon=True)
        listener.start()
        try:
            yield
        finally:
            ended.set()
            listener.join(TEST_TIMEOUT)
    scene.see("side channel", "\n".join(map(_opened, heard)), "task-failed")


def _opened(message: bytes) -> str:
    """Return a message of kombu's with its body as text, too."""
    body = json.loads(message).get("body", "")
    return f"{message.decode()}\n{base64.b64decode(body).decode()}"


@contextmanager
def planted(folder: Path, sqs: EmbeddedSqs) -> Iterator[Scene]:
    """Prepare a stack in which every secret is a canary."""
    with Echo() as api, WebhookReceiver() as receiver, guarded_redis() as url, stack(folder, sqs, api, more=MORE) as system:
        file = folder / "redrive.toml"
        config = file.read_text().replace("only-here", SECRETS["broker"])
        head, tail = config.split("[routes.employees]")
        routes = [ROUTE.format(name=name, url=api.url, **SECRETS) for name in ("employees", "refused", "untouched")]
        file.write_text("".join([head, *routes, "[sources.employees_dlq]", tail.partition("[sources.employees_dlq]")[2]]))
        (folder / "fault.py").write_text(FAULT)
        hooks = [f"json://user:{SECRETS['notify']}@{host}/{SECRETS['notify path']}" for host in (receiver.address, "127.0.0.1:1")]
        system.env |= {
            "API_TOKEN": SECRETS["token"],
            "SENTRY_DSN": f"http://{SECRETS['dsn']}@{receiver.address}/1",
            "REDRIVE_NOTIFY": ", ".join(hooks),
            "KAFKA_PASSWORD": SECRETS["kafka"],
            "REDRIVE_MONITOR__URL": url,
            "FLOWER_BASIC_AUTH": f"operator:{SECRETS['flower']}",
            "PYTHONPATH": str(folder),
        }
        yield Scene(system, api, receiver, url, child.free_port())


def play(scene: Scene) -> None:
    """Let everything fail that can, at the level at which the most is said."""
    system, receiver = scene.system, scene.receiver
    receiver.status = 500
    system.start("worker", "celery", "-A", "tasks", "worker", "--loglevel=DEBUG", "-I", "fault")
    system.start("beat", "celery", "-A", "tasks", "beat", "--loglevel=DEBUG")
    system.start("intake", "tasks.cli", "intake")
    system.start("flower", *flower_command(scene.flower)[2:], "--logging=debug")
    patiently(lambda: "ready." in system.log("worker"), what=system.log("worker")[-2000:])
    patiently(lambda: receiver.posts, what="a fault, which Sentry does not take")
    receiver.status = 200
    system.send("no JSON", *[json.dumps({"employeeId": number + 1}) for number in range(IN_BODIES + IN_REASONS + GARBLED)])
    system.submit("refused", employeeId=1)
    system.wait_for_audit(parked=IN_BODIES + IN_REASONS, pending=GARBLED + 1, rejected=1)
    patiently(lambda: any("paused" in told["title"] for told in receiver.notifications), what="a notification")
    patiently(
        lambda: {"a fault", "an alert"} <= {_kind(event) for event in receiver.events}, what="a fault and an alert at Sentry"
    )
    patiently(lambda: "127.0.0.1:1 does not answer" in system.log("intake"), what="Kafka's absence")
    patiently(lambda: "alert_delivery_failed" in system.log("worker"), what="a notification that failed")


def _kind(event: dict[str, object]) -> str:
    return "a fault" if "exception" in event else "an alert"


def look(scene: Scene) -> None:
    """See what is sent and shown while all run."""
    titles = [" ".join([process.name(), *process.cmdline()]) for process in psutil.Process().children(recursive=True)]
    scene.see("process titles", "\n".join(titles), "-A tasks worker")
    patiently(lambda: "redrive.recover" in scene.ask("/api/workers?refresh=1"), what="the worker in Flower")
    scene.see("Flower's workers", scene.ask("/api/workers?refresh=1"), "redrive.recover")
    scene.see("Flower's tasks", scene.ask("/api/tasks?limit=1000"), "RuntimeError")
    [worker] = json.loads(scene.ask("/api/workers"))
    scene.see("Flower's pages", "".join(map(scene.ask, [f"/worker/{worker}", "/broker", "/metrics", "/tasks"])), worker)
    sentry = [post for post in scene.receiver.posts if post.path.startswith("/api/")]
    scene.see("Sentry", b"\n".join(post.body for post in sentry), "RuntimeError")
    scene.see("notifications", b"\n".join(post.body for post in scene.receiver.posts if post not in sentry), "parked")
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(scene.run, marker, *words, **options) for marker, words, options in COMMANDS]:
            done.result()


COMMANDS: list[tuple[str, list[str], dict[str, object]]] = [
    *((MARKER, ["show", "1", *form], {}) for form in ([], ["--json"])),
    *(("employees", ["stats", *form], {}) for form in ([], ["--json"])),
    *(("employees_dlq", ["audit", *form], {}) for form in ([], ["--json"])),
    *(("ledger.url", ["config", *form], {}) for form in ([], ["--json"])),
    *(("not-json", ["rejects", *form], {}) for form in ([], ["--json"], ["--csv"])),
    *((MARKER, ["jobs", "--limit", "500", *form], {}) for form in ([], ["--json"], ["--csv"])),
    *(("does not answer", ["jobs", *form], {"code": 5, "REDRIVE_LEDGER__URL": NO_LEDGER}) for form in ([], ["--json"])),
    ("does not answer", ["db", "upgrade"], {"code": 5, "REDRIVE_LEDGER__URL": NO_LEDGER}),
    ("ledger.url", ["stats"], {"code": 2, "REDRIVE_LEDGER__URL": NO_LEDGER.replace("postgresql", "mysql")}),
    ("ledger.url", ["audit"], {"code": 2, "REDRIVE_LEDGER__URL": f"postgresql//redrive:{SECRETS['ledger']}@127.0.0.1/redrive"}),
    ("monitor.url", ["audit"], {"code": 2, "REDRIVE_MONITOR__URL": f"http://:{SECRETS['redis']}@127.0.0.1:1/0"}),
    ("broker.url", ["audit"], {"code": 2, "REDRIVE_BROKER__URL": f"{NO_BROKER}/queue"}),
    ("does not answer", ["intake", "--once"], {"code": 5, "REDRIVE_BROKER__URL": NO_BROKER}),
    ("was not read", ["intake", "--dry-run", "--limit", "1"], {"code": 3}),
    ("employeeId=7", ["send", "employees", "employeeId=7"], {"REDRIVE_BROKER__URL": NO_BROKER}),
    ("API_TOKEN", ["-A", "tasks", "worker"], {"code": 2, "API_TOKEN": f"{SECRETS['token']} "}),
    ("SENTRY_DSN", ["-A", "tasks", "worker"], {"code": 2, "SENTRY_DSN": f"http:/{SECRETS['dsn']}@127.0.0.1/1"}),
    ("REDRIVE_NOTIFY", ["-A", "tasks", "worker"], {"code": 2, "REDRIVE_NOTIFY": f"jsn://user:{SECRETS['notify']}@127.0.0.1/"}),
    ("does not answer", ["-A", "tasks", "beat"], {"code": 5, "REDRIVE_LEDGER__URL": NO_LEDGER}),
    ("task_routes", ["-A", "tasks", "report"], {}),
    ("task_acks_late", ["-A", "tasks", "inspect", "conf"], {}),
    ("pool", ["-A", "tasks", "inspect", "stats"], {}),
]


def look_behind(scene: Scene) -> None:
    """See what is left when the worker has gone: messages, and after all others the files."""
    system = scene.system
    child.stop([system.processes["worker"]], grace=20)
    scene.see("messages in redrive-maintenance", _messages(scene, "redrive-maintenance"), "redrive.rescue")  # beat goes on
    scene.see("messages in redrive-submit", _messages(scene, "redrive-submit"), "redrive.submit")
    scene.see("messages in redrive-recovery", _messages(scene, "redrive-recovery"), "redrive.recover")
    child.stop(system.processes.values(), grace=20)
    for name, marker in {
        "worker": "a fault: ***",
        "beat": "redrive.promote",
        "intake": "sasl_plaintext",
        "flower": "Visit me",
    }.items():
        scene.see(f"log of {name}", system.log(name), marker)
    files = {
        file.relative_to(system.folder): file.read_bytes() for file in (system.folder / "state").rglob("*") if file.is_file()
    }
    scene.see("files in state_dir", b"\n".join(str(name).encode() + data for name, data in files.items()), MARKER)


def _messages(scene: Scene, queue: str) -> str:
    """Return a queue's messages, Celery's base64 unpacked, too. A worker that was stopped in a poll may take some along."""
    system, numbers = scene.system, count(1001)
    url = system.client.get_queue_url(QueueName=system.prefix + queue)["QueueUrl"]

    def received() -> list[dict[str, Any]]:
        system.submit("untouched", employeeId=next(numbers))
        assert system.redrive("send", "untouched", f"employeeId={next(numbers)}").returncode == 0  # which rings
        names: dict[str, Any] = {"MessageAttributeNames": ["All"], "AttributeNames": ["All"]}
        return system.client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=2, **names).get("Messages", [])

    messages = patiently(received, what=f"a message in {queue}")
    return json.dumps([messages, *(base64.b64decode(each["Body"]).decode() for each in messages)], default=str)


@pytest.fixture(scope="module")
def scene(sqs: EmbeddedSqs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with planted(tmp_path_factory.mktemp("canary"), sqs) as scene:
        with listening(scene):
            play(scene)
            look(scene)
        look_behind(scene)
        yield scene


def test_the_api_knew_what_it_could_tell(scene: Scene):
    assert scene.api.told == {SECRETS[name] for name in ECHOED}


def test_every_sink_was_looked_at(scene: Scene):
    unseen = {name: text[-500:] for name, (text, marker) in scene.sinks.items() if marker not in text}
    assert not unseen, unseen


def test_no_secret_is_in_any_sink(scene: Scene):
    assert {name: found for name, (text, _) in scene.sinks.items() if (found := leaks(SECRETS, text))} == {}
