"""Checks this machine: the configuration, the state directory, disk space and open files."""

from __future__ import annotations

import os
import resource
import shutil
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tasks.dlq.errors import ConfigError
from tasks.doctor.findings import Finding, State
from tasks.settings import directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.settings import Settings

_MIB = 1 << 20
#: Free bytes of a disk below which there is a warning, and below which it is wrong.
_LOW, _TOO_LOW = 1024 * _MIB, 64 * _MIB


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Check this machine."""
    yield _check_configuration(settings)
    yield _check_state_directory(settings.state_path)
    yield judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0], count_files(settings))


def _check_configuration(settings: Settings) -> Finding:
    origin = f"read from {settings.file}" if settings.file else f"no file: {settings.source_file}"
    routes = ", ".join(settings.routes) or "none"
    detail = f"{origin}; {len(settings.variables)} of the settings from the environment; routes: {routes}"
    if not settings.routes:
        hint = "add [routes.NAME] to redrive.toml; redrive.example.toml shows how"
        return Finding(name="configuration", state=State.WARNING, detail=detail, hint=hint)
    return Finding(name="configuration", detail=detail)


def _check_state_directory(path: Path) -> Finding:
    where = str(path.absolute())
    try:
        directory.check(path)
        if not path.exists():
            return _check_parent(path.absolute())
        probe = path / f".doctor-{os.getpid()}"
        probe.write_bytes(bytes(4096))
        probe.unlink()
    except ConfigError as error:
        return Finding(name="state_dir", state=State.WRONG, detail=error.message, hint=error.hint)
    except OSError as error:
        hint = "free disk space, and check who owns it: workers, beat and intake write files there"
        return Finding(
            name="state_dir", state=State.WRONG, detail=f"no file can be written in {where}: {error.strerror}", hint=hint
        )
    return check_disk("state_dir", path)


def _check_parent(path: Path) -> Finding:
    """Check that the directory can be created, with a temporary one of another name: no process may use it yet."""
    parent = next(parent for parent in path.parents if parent.exists())
    try:
        with TemporaryDirectory(prefix=".doctor-", dir=parent):
            pass
    except OSError as error:
        hint = f"check who owns {parent}; REDRIVE_STATE_DIR, or state_dir in redrive.toml, names another directory"
        detail = f"{path} cannot be created in {parent}: {error.strerror}"
        return Finding(name="state_dir", state=State.WRONG, detail=detail, hint=hint)
    return Finding(name="state_dir", detail=f"{path} does not exist yet: the first process creates it")


def check_disk(name: str, path: Path) -> Finding:
    """Check the free space of the disk that holds `path`."""
    return judge_disk(name, str(path.absolute()), shutil.disk_usage(path).free)


def judge_disk(name: str, where: str, free: int) -> Finding:
    """Judge the free bytes of a disk."""
    detail = f"{where}: {free / (1024 * _MIB):.1f} GiB free" if free >= _LOW else f"{where}: {free // _MIB} MiB free"
    if free >= _LOW:
        return Finding(name=name, detail=detail)
    state = State.WARNING if free >= _TOO_LOW else State.WRONG
    return Finding(
        name=name, state=state, detail=detail, hint="free disk space: failures that cannot be written are not taken in"
    )


def count_files(settings: Settings) -> int:
    """Return how many open files a process may need: for the pipes of its pool, connections, and open calls."""
    return 128 + 32 * settings.worker.concurrency + 16 * len(settings.sources)


def judge_open_files(allowed: int, needed: int) -> Finding:
    """Judge RLIMIT_NOFILE."""
    unlimited = allowed == resource.RLIM_INFINITY
    detail = f"{'any number' if unlimited else allowed} allowed, {needed} needed"
    if unlimited or allowed >= needed:
        return Finding(name="open files", detail=detail)
    hint = "raise the limit: ulimit -n, systemd's LimitNOFILE, or ulimits in Docker Compose"
    return Finding(name="open files", state=State.WRONG, detail=detail, hint=hint)
