"""A second PostgreSQL server that follows a first one, and takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from postgresql_server import EmbeddedPostgresql
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

#: What a server is started with that may be followed.
REPLICATES = {"wal_level": "replica", "max_wal_senders": "4", "wal_retrieve_retry_interval": "100ms"}


class Standby(EmbeddedPostgresql):
    """Follows `primary`, which was started with REPLICATES: each commit there waits until it is on this one's disk."""

    def __init__(self, primary: EmbeddedPostgresql) -> None:
        super().__init__(**REPLICATES)
        self.password = primary.password
        self._primary = primary

    def _furnish(self) -> None:
        self._primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._primary.execute("SELECT pg_reload_conf()")
        until(self._is_synchronous, what="the synchronous standby")

    def _make_data(self, password: Path) -> None:  # noqa: ARG002 - of one's own none is made
        source = ["--host=127.0.0.1", f"--port={self._primary.port}", "--username=postgres"]
        target = [f"--pgdata={self.scratch}/data", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        self._run("pg_basebackup", *source, *target, PGPASSWORD=self.password)

    def _is_synchronous(self) -> bool:
        return self._is_followed("WHERE sync_state = 'sync'")

    def _is_followed(self, how: str = "") -> bool:
        with self._primary.connect() as connection:
            return connection.execute(f"SELECT FROM pg_stat_replication {how}").fetchone() is not None

    def fall_behind(self) -> None:
        """Get no more of what the primary writes, which waits for it no longer."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self._primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
        for server in (self, self._primary):
            server.execute("SELECT pg_reload_conf()")
        until(lambda: not self._is_followed(), what="the end of the stream")

    def promote(self) -> None:
        """Make it the primary, which waits for no standby; return when it is."""
        self.execute("SELECT pg_promote()")
        self.execute("ALTER SYSTEM RESET synchronous_standby_names")
        self.execute("SELECT pg_reload_conf()")


def of_both(url: str, standby: Standby) -> str:
    """Return the URL, as the documentation has it, of a database on that server of the two that is the primary."""
    there = urlsplit(url)
    hosts = f"host={there.hostname}:{there.port}&host={there.hostname}:{standby.port}"
    return f"postgresql://{there.username}:{there.password}@{there.path}?{hosts}"
