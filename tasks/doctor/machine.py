"""What this machine gives: configuration, secrets, the state directory, room, open files."""

from __future__ import annotations

import os
import resource
import shutil
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tasks.dlq.errors import ConfigError
from tasks.doctor.findings import Finding, State
from tasks.settings import directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tasks.settings import Settings

_MIB = 1 << 20
#: Bytes that a disk has left at least, before it is told, and before it is wrong.
_SCARCE, _LEAST = 1024 * _MIB, 64 * _MIB


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Look at what is here."""
    yield _configuration(settings)
    yield _secrets(settings)
    yield _state_dir(settings.state_path)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0], files_needed(settings))


def _configuration(settings: Settings) -> Finding:
    origin = f"read from {settings.file}" if settings.file else f"no file: {settings.source_file}"
    routes = ", ".join(settings.routes) or "none"
    detail = f"{origin}; {len(settings.variables)} of the settings from the environment; routes: {routes}"
    if not settings.routes:
        hint = "add [routes.NAME] to redrive.toml; redrive.example.toml shows how"
        return Finding(name="configuration", state=State.WARNING, detail=detail, hint=hint)
    return Finding(name="configuration", detail=detail)


def _secrets(settings: Settings) -> Finding:
    problems: list[str] = []
    hint = ""
    looks: list[Callable[[], object]] = [settings.tokens, settings.sentry_dsn, settings.notify_urls]
    looks += [partial(settings.source_secrets, name) for name in settings.sources]
    for look in looks:
        try:
            look()
        except ConfigError as error:
            problems += error.message.splitlines()
            hint = hint or error.hint
    if problems:
        return Finding(name="secrets", state=State.WRONG, detail="; ".join(problems), hint=hint)
    tables = settings.route_tables.values()
    names = [table.bearer_env for table in tables if table.bearer_env]
    names += [variable for source in settings.sources.values() for variable in source.secret_variables.values()]
    return Finding(name="secrets", detail=f"the environment holds {', '.join(sorted(set(names))) or 'all: none is needed'}")


def _state_dir(path: Path) -> Finding:
    where = str(path.absolute())
    try:
        directory.check(path)
        if not path.exists():
            return _to_be_made(path.absolute())
        probe = path / f".doctor-{os.getpid()}"
        probe.write_bytes(bytes(4096))
        probe.unlink()
    except ConfigError as error:
        return Finding(name="state_dir", state=State.WRONG, detail=error.message, hint=error.hint)
    except OSError as error:
        hint = "make room, and see who owns it: workers, beat and intake keep their liveness files there"
        return Finding(name="state_dir", state=State.WRONG, detail=f"{where} takes no file: {error.strerror}", hint=hint)
    return room("state_dir", path)


def _to_be_made(path: Path) -> Finding:
    """Tell whether the directory can be made, by one that goes at once: nobody may find that and take it for the real one."""
    parent = next(each for each in path.parents if each.exists())
    try:
        with TemporaryDirectory(prefix=".doctor-", dir=parent):
            pass
    except OSError as error:
        hint = f"see who owns {parent}; REDRIVE_STATE_DIR, or state_dir in redrive.toml, names another directory"
        detail = f"{path} cannot be made: {parent} takes no directory: {error.strerror}"
        return Finding(name="state_dir", state=State.WRONG, detail=detail, hint=hint)
    return Finding(name="state_dir", detail=f"{path} is not there yet: the first process makes it")


def room(name: str, path: Path) -> Finding:
    """Tell whether the disk that holds `path` has room."""
    free = shutil.disk_usage(path).free
    return judge_room(name, str(path.absolute()), free)


def judge_room(name: str, where: str, free: int) -> Finding:
    """Judge what is left of a disk, in bytes."""
    left = f"{free / (1024 * _MIB):.1f} GiB" if free >= _SCARCE else f"{free // _MIB} MiB"
    state = State.WRONG if free < _LEAST else State.WARNING if free < _SCARCE else State.OK
    hint = "" if state is State.OK else "make room: what cannot be written down is not taken in"
    return Finding(name=name, state=state, detail=f"{where}: {left} free", hint=hint)


def files_needed(settings: Settings) -> int:
    """Return how many open files a process should be allowed: pipes of its pool, connections, one for each open call."""
    return 128 + 32 * settings.worker.concurrency + 16 * len(settings.sources)


def open_files(allowed: int, needed: int) -> Finding:
    """Judge RLIMIT_NOFILE."""
    unlimited = allowed == resource.RLIM_INFINITY
    detail = f"{'any number' if unlimited else allowed} allowed, {needed} needed"
    if unlimited or allowed >= needed:
        return Finding(name="open files", detail=detail)
    hint = "raise the limit: ulimit -n, systemd's LimitNOFILE, or ulimits in Docker Compose"
    return Finding(name="open files", state=State.WRONG, detail=detail, hint=hint)
