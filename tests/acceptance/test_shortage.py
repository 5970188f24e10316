"""Real processes that run out of descriptors, memory or disk: red, nothing acknowledged in vain, and on again by themselves."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sqlite3
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from doubles.tcp_proxy import TcpProxy
from stack import Stack, stack
from waiting import until

from tasks.dlq.process import HEARTBEAT_INTERVAL, Role
from tasks.doctor import probes
from tasks.doctor.findings import State
from tasks.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

#: Seconds that a sign of life may be old here: a little more than they are apart, so that red is soon.
WITHIN = HEARTBEAT_INTERVAL + 3
#: Characters that three processes may log while they have nothing to work with: lines by the second, no flood.
MOST_LOGGED = 300_000
#: Shares of a CPU that a process may take meanwhile. Two sweeps a second that cannot be sent cost beat some hundredths.
MOST_CPU = 0.5
#: Bytes of a big body.
BIG = 256 * 1024 - 100
#: Messages of that size after which a process whose memory is capped should have noticed.
MOST_SENT = 400
NEW_MOUNTS, OWN_FS = 0x00020000, 0x00000200  # <sched.h>
PRIVATE = 1 << 14 | 1 << 18  # <sys/mount.h>, with what is below


class World:
    """A stack whose way to SQS can be cut, and what its processes have."""

    def __init__(self, made: Stack, way: TcpProxy) -> None:
        self.stack = made
        self.way = way

    @property
    def pool(self) -> int:
        """The process that makes the calls."""
        [child] = until(psutil.Process(self.stack.processes["worker"].pid).children, what="a pool")
        return int(child.pid)

    @property
    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.stack.processes.items()} | {"pool": self.pool}

    def cut(self) -> None:
        """Have every process connect to SQS anew. What SQS had handed out on the way comes again soon."""
        self.way.cut()
        self.way.restore()

    def send(self, *numbers: int, more: str = "") -> None:
        self.stack.send(*(json.dumps({"employeeId": number, "more": more}) for number in numbers))

    def logged(self) -> int:
        return sum(len(self.stack.log(name)) for name in self.stack.processes)

    def is_ready(self, role: Role) -> bool:
        return probes.check_readiness(settings(), role, within=WITHIN).state is State.OK

    def wait_until_ready(self, *roles: Role, wanted: bool = True) -> None:
        for role in roles:
            until(partial(self._says, role, wanted), what=f"{role} ready: {wanted}")

    def _says(self, role: Role, wanted: bool) -> bool:  # noqa: FBT001 - partial's
        return self.is_ready(role) is wanted

    def check_nothing_is_lost(self, sent: int) -> dict[str, Any]:
        """Tell that what SQS has no longer is in the ledger."""
        left = self.stack.left()  # before the ledger is asked: what is deleted in between is in both
        sums = self.stack.audit()
        assert sums["balanced"], sums
        assert sums["sources"]["employees_dlq"]["accepted"] + left >= sent, (sums, left)
        assert sums["parked"] == sums["rejected"] == sums["lost"] == 0, sums
        return sums


@pytest.fixture
def world(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    way = TcpProxy(sqs.port)
    address: Any = SimpleNamespace(port=way.port, endpoint=sqs.endpoint, region=sqs.region)
    with stack(tmp_path, address, company_api) as made:
        for name in ("REDRIVE_CONFIG", "REDRIVE_STATE_DIR"):
            monkeypatch.setenv(name, made.env[name])
        settings.cache_clear()
        yield World(made, way)
        settings.cache_clear()
    way.close()


def start(world: World, company_api: CompanyApi) -> None:
    """Start all, and let each do its work once: what is loaded at the first time is there."""
    world.stack.start_worker()
    world.stack.start_beat()
    start_intake(world)
    world.wait_until_ready(*Role)
    url = world.stack.client.get_queue_url(QueueName=f"{world.stack.prefix}employees-dlq")["QueueUrl"]
    world.stack.client.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "5"})
    world.send(1)
    company_api.wait_for_calls(1, 60)
    world.stack.wait_for_audit(recovered=1)


@contextmanager
def capped(kind: int, **caps: tuple[int, int]) -> Iterator[None]:
    """Lower the soft limits of running processes: NAME=(pid, limit)."""
    before = {pid: resource.prlimit(pid, kind) for pid, _ in caps.values()}
    try:
        for pid, limit in caps.values():
            resource.prlimit(pid, kind, (limit, before[pid][1]))
        yield
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, kind, limits)


def data_of(pid: int) -> int:
    """Return the bytes that a process has of what RLIMIT_DATA counts: proc_pid_status(5)."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmData:")]
    return int(line.split()[1]) * 1024


def cpu_of(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def test_without_file_descriptors_nothing_is_lost_or_spent_and_all_goes_on(world: World, company_api: CompanyApi):
    start(world, company_api)
    pool = world.pool

    with capped(resource.RLIMIT_NOFILE, pool=(pool, 3)):  # it gets its wake-ups, has its ledger, and can open no socket
        world.send(2, 3, 4)
        world.stack.wait_for_audit(accepted=4)
        until(lambda: "call_impossible" in world.stack.log("worker"), what="a word about it")
        world.wait_until_ready(Role.WORKER, wanted=False)
        assert len(company_api.calls) == 1
        assert world.check_nothing_is_lost(4)["pending"] == 3
        tried = [job for job in world.stack.jobs() if job["state"] != "completed"]
        assert {job["attempts"] for job in tried} == {0}, tried
        assert "may open no more files" in " ".join(str(job["detail"]) for job in tried), tried
    world.stack.wait_for_audit(recovered=4)
    world.wait_until_ready(*Role)

    pids, logged = world.pids, world.logged()
    used = {name: cpu_of(pid) for name, pid in pids.items()}
    with capped(resource.RLIMIT_NOFILE, **{name: (pid, 3) for name, pid in pids.items()}):
        world.cut()
        began = os.times().elapsed
        world.send(*range(5, 25))
        assert world.stack.redrive("send", "employees", "employeeId=100").returncode == 0
        for role in Role:
            world.wait_until_ready(role, wanted=False)
        world.check_nothing_is_lost(24)
        elapsed = os.times().elapsed - began
        assert {
            name: cpu_of(pid) - used[name] for name, pid in pids.items() if cpu_of(pid) - used[name] > MOST_CPU * elapsed
        } == {}
        assert world.logged() - logged < MOST_LOGGED
    sums = world.stack.wait_for_audit(recovered=25)
    assert sums["accepted"] == 25
    world.wait_until_ready(*Role)
    assert world.pids == pids, "nothing was restarted"
    for name in world.stack.processes:
        assert "Traceback" not in world.stack.log(name)
    assert set(company_api.most_per_path.values()) == {1}


def test_without_memory_nothing_is_acknowledged_in_vain_and_all_goes_on(world: World, company_api: CompanyApi):
    start(world, company_api)
    pids = world.pids
    sent = 1
    with capped(resource.RLIMIT_DATA, **{name: (pid, data_of(pid)) for name, pid in pids.items()}):
        while "no more memory" not in world.stack.log("intake") + world.stack.log("worker") and not has_ended(world):
            assert sent <= MOST_SENT, "the cap is none"
            world.send(*range(sent + 1, sent + 11), more="x" * BIG)
            sent += 10
        world.check_nothing_is_lost(sent)
    for name, process in list(world.stack.processes.items()):
        if process.poll() is not None:  # as its supervisor does
            assert process.returncode != 0
            assert world.stack.log(name).splitlines()[-1].strip(), name
            {"worker": world.stack.start_worker, "beat": world.stack.start_beat}.get(name, partial(start_intake, world))()
    sums = world.stack.wait_for_audit(recovered=sent)
    assert (sums["accepted"], sums["rejected"], sums["parked"]) == (sent, 0, 0)
    world.wait_until_ready(*Role)


def start_intake(world: World) -> None:
    world.stack.start("intake", "tasks.cli", "intake")


def has_ended(world: World) -> bool:
    return any(process.poll() is not None for process in world.stack.processes.values())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB where the state directory is, seen by this thread and what it starts."""
    state = tmp_path / "state"
    state.mkdir()
    here, ours = Path.cwd(), os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(NEW_MOUNTS) or libc.mount(b"none", b"/", None, PRIVATE, None):
            pytest.skip(f"no mount namespace of one's own: {os.strerror(ctypes.get_errno())}")
        if libc.mount(b"redrive", str(state).encode(), b"tmpfs", 0, b"size=24m"):
            pytest.skip(f"no small disk can be mounted here: {os.strerror(ctypes.get_errno())}")
        yield state
    finally:
        libc.unshare(OWN_FS)  # the threads that were begun meanwhile share it, and setns(2) then refuses
        assert libc.setns(ours, NEW_MOUNTS) == 0, os.strerror(ctypes.get_errno())  # the other goes with its last process
        os.close(ours)
        os.chdir(here)


def test_with_a_full_disk_a_call_waits_to_be_written_down_and_all_goes_on(
    small_disk: Path, world: World, company_api: CompanyApi
):
    start(world, company_api)
    company_api.gate.clear()
    world.send(2)
    company_api.wait_for_calls(2, 60)
    leave_no_room_in_the_log(small_disk / "ledger.db")
    filler = fill(small_disk)
    company_api.gate.set()
    world.send(*range(3, 13), more="x" * BIG)
    until(lambda: "settlement_delayed" in world.stack.log("worker"), what="a call that is kept")
    said = partial(map, world.stack.log, ("worker", "intake"))  # whoever got the messages
    until(lambda: "source_unavailable" in "".join(said()), what="a word about it")
    for role in Role:
        world.wait_until_ready(role, wanted=False)
    world.check_nothing_is_lost(12)
    filler.unlink()
    sums = world.stack.wait_for_audit(recovered=12)
    assert (sums["accepted"], sums["rejected"], sums["parked"]) == (12, 0, 0)
    world.wait_until_ready(*Role)
    assert {process.poll() for process in world.stack.processes.values()} == {None}, "nothing was restarted"
    assert set(company_api.most_per_path.values()) == {1}


def leave_no_room_in_the_log(ledger: Path) -> None:
    """Cut off what SQLite's write-ahead log has free: a small transaction would fit into it."""
    with closing(sqlite3.connect(ledger)) as database:
        until(lambda: database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, what="a checkpoint")


def fill(folder: Path) -> Path:
    """Leave no byte free on the folder's disk. Return the file that does it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler
