"""`redrive doctor`: every check, well and not, against real parts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

import pytest
from command_line import AWAY, CommandLine, Done, client_of, command_line, run_here
from doubles.hostile_server import HostileServer
from ledger_bench import EMPLOYEES
from sqlalchemy import insert, update
from waiting import TEST_TIMEOUT

from tasks.adapters.liveness import LivenessFile
from tasks.dlq.errors import LedgerLocked
from tasks.dlq.ledger.processes import record_heartbeat
from tasks.dlq.ledger.routes import ensure_routes, lock_route
from tasks.dlq.ledger.schema import attempts, jobs
from tasks.dlq.process import Process, Role
from tasks.doctor import ledger as the_ledgers
from tasks.doctor.network import check_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.devstack.kafka import EmbeddedKafka
    from tasks.devstack.redis import EmbeddedRedis
    from tasks.devstack.sqs import EmbeddedSqs

PEM = Path(__file__).with_name("loopback.pem")
QUEUES = ("redrive-maintenance", "redrive-recovery", "redrive-submit")
TOKEN = "t0ken-that-nobody-may-see"
MORE = """
[routes.here]
url = "http://127.0.0.1:{api}/{{id}}"
params.id = "int"
bearer_env = "HERE_TOKEN"
[sources.employees_dlq]
kind = "sqs"
queue = "{queue}"
route = "employees"
map.employeeId = "employeeId"
"""


@contextmanager
def listening() -> Iterator[int]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def states(report: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in report["checks"]}


def of(report: dict[str, Any], name: str) -> dict[str, str]:
    return next(each for each in report["checks"] if each["name"] == name)


def examine(cli: CommandLine, *options: str, code: int, **env: str) -> dict[str, Any]:
    done = cli.run("doctor", "--json", *options, **env)
    assert done.returncode == code, done.stdout + done.stderr
    assert "only-here" not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["ok"] == (code == 0)
    assert all(each["hint"] for each in report["checks"] if each["state"] != "ok"), report
    return report


def populate(cli: CommandLine, *roles: Role) -> None:
    """Have processes of these roles in the ledger."""
    with cli.ledger() as ledger, ledger.begin() as tx:
        ensure_routes(tx, ["employees", "teams", "here"])
        for number, role in enumerate(roles):
            record_heartbeat(tx, Process(role=role, host="node-1", pid=number, main_pid=number, version="0.1.0", serves=QUEUES))


def made(tmp_path: Path, sqs: EmbeddedSqs, *, api: int, more: str = "") -> CommandLine:
    """A folder whose ledger and queues are there."""
    cli = command_line(tmp_path, port=sqs.port)
    text = MORE.format(api=api, queue=f"{cli.prefix}employees-dlq")
    cli = command_line(tmp_path, port=sqs.port, more=text + more)
    (tmp_path / "redrive.toml").write_text(
        (tmp_path / "redrive.toml").read_text().replace("https://company.com", f"http://127.0.0.1:{api}")
    )
    assert cli.run("intake", "--once", HERE_TOKEN=TOKEN).returncode == 0
    populate(cli, Role.WORKER, Role.BEAT, Role.BEAT)
    return cli


def test_all_is_well(tmp_path: Path, sqs: EmbeddedSqs, kafka: EmbeddedKafka, redis_server: EmbeddedRedis):
    kafka.make("employees-dlt")
    with listening() as api:
        more = f"""
        [sources.employees_dlt]
        kind = "kafka"
        bootstrap = "{kafka.bootstrap}"
        topics = ["employees-dlt"]
        route = "employees"
        map.employeeId = "employeeId"
        [monitor]
        url = "{redis_server.url}"
        """
        cli = made(tmp_path, sqs, api=api, more=more)
        report = examine(cli, code=0, HERE_TOKEN=TOKEN, REDRIVE_NOTIFY="json://127.0.0.1:1")
    assert states(report) == dict.fromkeys(
        [
            "configuration", "state_dir", "open files", "secrets", "Sentry", "notifications",
            "ledger", "ledger's commit", "ledger's disk", "clock", "worker", "beat",
            "route employees", "route here", "route teams", "backlog",
            *(cli.prefix + name for name in ("redrive-recovery", "redrive-submit", "redrive-maintenance")),
            "source employees_dlq", "source employees_dlt", "API 127.0.0.1", "side channel",
        ],
        "ok",
    )  # fmt: skip
    assert "HERE_TOKEN" in of(report, "secrets")["detail"]
    assert of(report, "beat")["detail"] == "2 running: node-1:1, node-1:2"
    assert "routes employees, teams, here" in of(report, "API 127.0.0.1")["detail"]
    assert {each["name"]: each["seconds"] for each in report["limits"]}["stop grace"] == 50
    with cli.ledger() as ledger, ledger.begin(read_only=True) as tx:
        assert tx.connection.exec_driver_sql("SELECT count(*) FROM processes").scalar() == 3  # the test commit left nothing


def test_nothing_is_there(tmp_path: Path):
    more = """
    [sources.employees_dlt]
    kind = "kafka"
    bootstrap = "127.0.0.1:1"
    topics = ["employees-dlt"]
    route = "employees"
    map.employeeId = "employeeId"
    properties_env.sasl_password = "KAFKA_PASSWORD"
    [monitor]
    url = "redis://127.0.0.1:1/0"
    """
    cli = command_line(tmp_path, port=AWAY, more=MORE.format(api=1, queue="employees-dlq") + more)
    report = examine(cli, code=5)
    found = states(report)
    assert {name for name, state in found.items() if state == "wrong"} >= {
        "secrets", "ledger", "SQS", "source employees_dlq", "source employees_dlt", "API 127.0.0.1", "API company.com",
    }  # fmt: skip
    assert found["side channel"] == "warning"
    assert "HERE_TOKEN is not set" in of(report, "secrets")["detail"]
    assert "KAFKA_PASSWORD is not set" in of(report, "secrets")["detail"]
    assert of(report, "ledger")["hint"].startswith("if it held jobs before, first see: Restore, ")
    assert "; else run: redrive db upgrade" in of(report, "ledger")["hint"]
    assert of(report, "SQS")["hint"].startswith("see whether SQS runs at http://127.0.0.1:1 and can be reached")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["redrive.toml"]  # whoever looks makes nothing


def test_queues_that_lose_or_double_messages(tmp_path: Path, sqs: EmbeddedSqs):
    with listening() as api:
        cli = made(tmp_path, sqs, api=api)
        with closing(client_of(sqs)) as client:
            urls = {
                name: client.get_queue_url(QueueName=cli.prefix + name)["QueueUrl"] for name in (*QUEUES, "employees-dlq-dead")
            }
            client.set_queue_attributes(QueueUrl=urls["redrive-recovery"], Attributes={"VisibilityTimeout": "30"})
            client.set_queue_attributes(QueueUrl=urls["redrive-maintenance"], Attributes={"RedrivePolicy": ""})
            client.delete_queue(QueueUrl=urls["redrive-submit"])
            client.send_message(QueueUrl=urls["employees-dlq-dead"], MessageBody="{}")
        report = examine(cli, "--offline", code=1, HERE_TOKEN=TOKEN)  # SQS answers
        by_hand = examine(cli, "--offline", code=1, HERE_TOKEN=TOKEN, REDRIVE_BROKER__MANAGE_QUEUES="false")
    found = states(report)
    recovery, submit, maintenance = (cli.prefix + name for name in ("redrive-recovery", "redrive-submit", "redrive-maintenance"))
    assert [found[name] for name in (recovery, submit, maintenance)] == ["wrong"] * 3
    assert of(report, recovery)["hint"] == "set its VisibilityTimeout to 40 or more, in seconds"
    assert "no dead-letter queue" in of(report, maintenance)["detail"]
    assert "SQS has no queue" in of(report, submit)["detail"]
    assert of(report, submit)["hint"].startswith("the first worker, beat or intake creates it")
    assert of(by_hand, submit)["hint"].startswith("create it; with broker.manage_queues = true")
    assert found["source employees_dlq"] == "warning"
    assert f"1 message in {cli.prefix}employees-dlq-dead" in of(report, "source employees_dlq")["detail"]
    assert not [name for name in found if name.startswith("API")]


def test_a_ledger_that_holds_work_up(tmp_path: Path, sqs: EmbeddedSqs):
    with listening() as api:
        cli = made(tmp_path, sqs, api=api)
        cli.arrange("m-1", state="parked")
        cli.reject("m-2", b"{", "not-json", "it is not JSON")
        with cli.ledger() as ledger, ledger.begin() as tx:
            lock_route(tx, EMPLOYEES).pause(by="alice@host", reason="maintenance")
            tx.connection.exec_driver_sql("UPDATE routes SET breaker_open = 1 WHERE name = 'teams'")
            tx.connection.exec_driver_sql("UPDATE processes SET seen_at = seen_at - 120000 WHERE role = 'worker'")
        report = examine(cli, code=1, HERE_TOKEN=TOKEN)
        assert {name: state for name, state in states(report).items() if state != "ok"} == {
            "notifications": "warning", "worker": "wrong", "route employees": "warning", "route teams": "warning",
            "parked": "warning", "rejected": "warning",
        }  # fmt: skip
        assert of(report, "worker")["detail"] == "none runs; node-1:0 did not stop cleanly, its last heartbeat was 2m ago"
        assert of(report, "route here")["detail"] == "takes calls"
        assert all("hint" not in each for each in report["checks"] if each["state"] == "ok")  # what would be empty is left out
        assert of(report, "route employees")["hint"] == "run: redrive resume employees"

        file = tmp_path / ".redrive" / "ledger.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked = examine(cli, code=5, HERE_TOKEN=TOKEN)
            other.execute("ROLLBACK")
            assert states(locked) == {**states(report), "ledger's commit": "wrong"}
            commit = of(locked, "ledger's commit")
            assert commit["detail"] == "another process has held the write lock for 3 s"
            assert "lsof" in commit["hint"]
            other.execute("UPDATE alembic_version SET version_num = '0001'")
            assert of(examine(cli, "--offline", code=5, HERE_TOKEN=TOKEN), "ledger")["hint"] == "run: redrive db upgrade"
            other.execute("UPDATE alembic_version SET version_num = '9999'")
            newer = of(examine(cli, "--offline", code=5, HERE_TOKEN=TOKEN), "ledger")
            assert newer["hint"] == "a newer Redrive wrote it: install that version"


def test_what_hangs_is_told_within_a_bounded_time(tmp_path: Path):
    with listening() as silent:
        cli = command_line(tmp_path, port=silent, more=f"[monitor]\nurl = 'redis://127.0.0.1:{silent}/0'\n")
        text = (tmp_path / "redrive.toml").read_text()
        (tmp_path / "redrive.toml").write_text(text.replace("https://company.com", f"https://127.0.0.1:{silent}"))
        began = time.monotonic()
        report = examine(cli, code=5)
        assert time.monotonic() - began < 60
    assert "timed out" in of(report, "API 127.0.0.1")["detail"]
    assert "SQS does not answer" in of(report, "SQS")["detail"]
    assert states(report)["side channel"] == "warning"


def test_a_wrong_configuration_ends_with_2(tmp_path: Path):
    cli = command_line(tmp_path, more="[worker]\nslice = 'long'\n")
    assert "worker.slice" in cli.error("doctor", code=2)["error"]


def test_a_secret_that_the_running_worker_has_is_a_warning(tmp_path: Path, sqs: EmbeddedSqs):
    with listening() as api:
        cli = made(tmp_path, sqs, api=api)
        secrets = of(examine(cli, "--offline", code=0), "secrets")
    assert secrets["state"] == "warning"
    assert secrets["detail"].startswith("not in this shell: HERE_TOKEN is not set")
    assert "the running worker node-1:0 started with its own" in secrets["detail"]


def test_a_worker_that_was_killed_is_not_alive_and_its_call_is_told(tmp_path: Path, sqs: EmbeddedSqs):
    with listening() as api:
        cli = made(tmp_path, sqs, api=api)
        job = cli.arrange("m-1")
        with subprocess.Popen([sys.executable, "-c", ""]) as gone:
            gone.wait()
        with cli.ledger() as ledger, ledger.begin() as tx:
            tx.connection.exec_driver_sql("UPDATE processes SET role = 'beat'")
            record_heartbeat(
                tx, Process(role=Role.WORKER, host=gethostname(), pid=gone.pid, main_pid=gone.pid, version="", serves=QUEUES)
            )
            now = tx.now()
            lease = {"state": "executing", "token": "t", "lease_until": now + 600_000}
            tx.connection.execute(update(jobs).where(jobs.c.id == job).values(**lease))
            call = {"job_id": job, "number": 1, "token": "t", "fence": now, "covers_seq": 1, "began_at": now}
            tx.connection.execute(insert(attempts).values(worker=f"{gethostname()}:{gone.pid}", **call))
        report = examine(cli, "--offline", code=1, HERE_TOKEN=TOKEN)
    assert of(report, "worker")["detail"].startswith(f"none runs; {gethostname()}:{gone.pid} did not stop cleanly")
    assert of(report, "calls")["detail"] == "the worker of 1 call has ended: taken back in 9m"


def test_work_that_waits_though_nothing_holds_it_up(tmp_path: Path, sqs: EmbeddedSqs):
    with listening() as api:
        cli = made(tmp_path, sqs, api=api)
        cli.arrange("m-1", due_at=1)
        report = examine(cli, "--offline", code=1, HERE_TOKEN=TOKEN)
        assert "; no call of employees has begun for 5m or longer" in of(report, "backlog")["detail"]
        with cli.ledger() as ledger, ledger.begin() as tx:
            lock_route(tx, EMPLOYEES).pause(by="alice@host", reason="maintenance")
        report = examine(cli, "--offline", code=0, HERE_TOKEN=TOKEN)
        assert of(report, "backlog")["detail"].endswith("; employees is paused")


def test_a_full_disk_is_told_by_every_command(tmp_path: Path):
    cli = command_line(tmp_path)
    (tmp_path / ".redrive").mkdir()
    script = """
    mount -t tmpfs -o size=1m none .redrive || exit 99
    "$@" db upgrade >&2 || exit 98
    dd if=/dev/zero of=.redrive/filler bs=1k 2>/dev/null
    "$@" stats
    """
    if not shutil.which("unshare"):
        pytest.skip("no unshare(1) here: a small disk cannot be mounted")
    run = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "tasks.cli"]
    done = subprocess.run(run, cwd=tmp_path, env=cli.env, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False)
    if done.returncode in {1, 99}:
        pytest.skip(f"no small disk can be mounted here: {done.stderr}")
    assert done.returncode == 5, done.stderr
    assert "does not answer: disk I/O error; its disk is full" in done.stderr
    assert "make room on its disk: work continues by itself" in done.stderr


def test_a_locked_ledger_is_told(tmp_path: Path):
    cli = command_line(tmp_path)
    populate(cli)
    with closing(sqlite3.connect(tmp_path / ".redrive" / "ledger.db", isolation_level=None)) as other, cli.ledger() as ledger:
        other.execute("BEGIN IMMEDIATE")
        with ledger.begin(read_only=True) as tx:
            tx.connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        with pytest.raises(LedgerLocked, match="database is locked") as caught:
            ledger.transact(lambda tx: lock_route(tx, EMPLOYEES).pause(by="alice@host", reason=""))
    assert "lsof" in caught.value.hint


def test_the_doctor_waits_for_a_lock_no_longer_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(the_ledgers, "_LOCK_WAIT", 0.05)
    cli, file = command_line(tmp_path), tmp_path / ".redrive" / "ledger.db"
    with cli.ledger() as ledger, closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = the_ledgers.check_commit(ledger)
        with ledger.begin(read_only=True) as tx:
            assert tx.connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 50
    assert (found.state, found.out_of_reach) == ("wrong", True)
    assert found.detail.endswith(" for 0.05 s")


@pytest.mark.parametrize("place", ["/proc/redrive", "/proc/redrive/state", "redrive.toml/state"])
def test_a_state_directory_that_cannot_be_made(tmp_path: Path, place: str):
    cli = command_line(tmp_path)
    found = of(examine(cli, "--offline", code=5, REDRIVE_STATE_DIR=place), "state_dir")
    assert found["state"] == "wrong"
    assert "cannot be created" in found["detail"]
    assert "REDRIVE_STATE_DIR" in found["hint"]


def test_whoever_looks_leaves_nothing_where_the_state_directory_will_be(tmp_path: Path):
    found = of(examine(command_line(tmp_path), "--offline", code=5, REDRIVE_STATE_DIR="var/lib/redrive"), "state_dir")
    assert (found["state"], found["detail"]) == (
        "ok",
        f"{tmp_path}/var/lib/redrive does not exist yet: the first process creates it",
    )
    assert [file.name for file in tmp_path.iterdir()] == ["redrive.toml"]


def ask(cli: CommandLine, *options: str) -> Done:
    """Ask in this process: as quick as a health check should be."""
    return run_here("doctor", *options, folder=cli.folder, env=cli.env)


def test_a_question_is_answered_in_a_line(tmp_path: Path):
    cli = command_line(tmp_path)
    pid = os.getpid()
    none = ask(cli, "--live", "beat").stdout
    assert none.endswith(f"has no liveness file of one on {gethostname()} → start one: celery -A tasks beat\n")
    file = LivenessFile(tmp_path / ".redrive", Role.BEAT)
    file.touch()
    assert ask(cli, "--live", "beat")[:2] == (0, f"beat is live: process {pid}\n")

    away = ask(cli, "--ready", "beat")
    assert away.returncode == 1
    assert away.stdout.startswith("beat is not ready: there is no ledger at")
    assert " → do not restart it: " in away.stdout
    populate(cli)
    mute = ask(cli, "--ready", "beat")
    assert (mute.returncode, mute.stdout.partition(" → ")[0]) == (
        1,
        f"beat is not ready: process {pid} has no heartbeat in the ledger",
    )
    assert "do not restart it" in json.loads(ask(cli, "--ready", "beat", "--json").stdout)["hint"]
    with cli.ledger() as ledger, ledger.begin() as tx:
        record_heartbeat(tx, Process(role=Role.BEAT, host=gethostname(), pid=pid, main_pid=pid, version=""))
    assert json.loads(ask(cli, "--ready", "beat", "--json").stdout) == {"ok": True, "detail": f"beat is ready: process {pid}"}

    os.utime(file.path, (time.time() - 30,) * 2)
    assert ask(cli, "--live", "beat").returncode == 0
    stuck = ask(cli, "--ready", "beat", "--within", "20")
    assert (stuck.returncode, stuck.stdout.startswith(f"beat is stuck: process {pid} for ")) == (1, True)
    assert " s → restart it: " in stuck.stdout
    whole = of(json.loads(cli.run("doctor", "--json", "--offline").stdout), "beat")
    assert whole["state"] == "ok"
    os.utime(file.path, (time.time() - 63,) * 2)
    whole = of(json.loads(cli.run("doctor", "--json", "--offline").stdout), "beat")
    assert (whole["state"], whole["detail"][:-5]) == ("wrong", f"stuck: process {pid} for")
    file.remove()


def test_the_certificate_of_an_api_has_to_be_one_that_calls_would_trust():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    with HostileServer(lambda _peer: None, tls=context) as server:
        [refused] = check_host("https", "127.0.0.1", server.port, ["employees"], ca_bundle=None)
        [trusted] = check_host("https", "127.0.0.1", server.port, ["employees"], ca_bundle=str(PEM))
    assert (refused.state, trusted.state) == ("wrong", "ok")
    assert "its certificate is refused" in refused.detail
    assert "worker.ca_bundle" in refused.hint
    [unknown] = check_host("https", "nowhere.invalid", 443, ["employees"], ca_bundle=None)
    assert unknown.detail.startswith("nowhere.invalid is not known")


@pytest.mark.parametrize("options", [("--live", "nobody"), ("--within", "0"), ("--live", "beat", "--ready", "beat")])
def test_a_wrong_question_is_refused(tmp_path: Path, options: tuple[str, ...]):
    assert command_line(tmp_path).run("doctor", *options, refused=True).returncode == 2


def test_it_fits_a_terminal_of_80_columns(tmp_path: Path):
    cli = command_line(tmp_path)
    with cli.terminal("doctor", "--offline") as terminal:
        assert terminal.end() == 5
    assert max(map(len, terminal.lines)) <= 80, "\n".join(terminal.lines)
    assert "\x1b[32mok" in terminal.seen
    assert "\x1b[31mwrong" in terminal.seen
