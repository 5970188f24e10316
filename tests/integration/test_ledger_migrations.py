"""`redrive db upgrade` makes exactly the schema that this version writes, and says when it is due."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from ledger_bench import URLS, a_database, wipe
from sqlalchemy import inspect
from waiting import TEST_TIMEOUT

from tasks.dlq.errors import LedgerNewer, LedgerOutdated
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.schema import metadata


@pytest.fixture(params=URLS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with a_database(request.param, tmp_path, empty=True) as url, closing(Ledger(url)) as made:
        yield made


def differences(ledger: Ledger) -> list[Any]:
    with ledger.begin() as tx:
        return compare_metadata(MigrationContext.configure(tx.connection, opts={"compare_type": True}), metadata)


def options(index: Any) -> dict[str, str]:
    return {name: str(value) for name, value in index.get("dialect_options", {}).items()}


def reflected(ledger: Ledger) -> dict[str, Any]:
    """Return what autogenerate does not compare: defaults, check constraints, and the conditions of partial indexes."""
    look = inspect(ledger.engine)
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"], column["default"]) for column in look.get_columns(table)],
            sorted((check["name"], check["sqltext"]) for check in look.get_check_constraints(table)),
            sorted((index["name"], index["column_names"], options(index)) for index in look.get_indexes(table)),
            sorted((unique["name"], unique["column_names"]) for unique in look.get_unique_constraints(table)),
        )
        for table in sorted(metadata.tables)
    }


STARTS = """
import sys
from tasks.dlq.ledger import migrations
from tasks.dlq.ledger import Ledger
ledger = Ledger(sys.argv[1])
print(migrations.revision(ledger), flush=True)
sys.stdin.readline()
migrations.upgrade(ledger)
migrations.check(ledger)
"""


def test_processes_that_start_at_once_make_an_empty_database_ready_together(ledger: Ledger):
    """Compose starts workers, beat and intake at the same moment; who comes second finds all done."""
    command = [sys.executable, "-c", STARTS, ledger.engine.url.render_as_string(hide_password=False)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(4)]
        assert [process.stdout.readline() for process in processes] == ["None\n"] * 4
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=TEST_TIMEOUT)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, told


def test_an_upgrade_of_an_empty_database_makes_the_schema_that_this_version_writes(ledger: Ledger):
    assert migrations.upgrade(ledger) == (None, migrations.head())

    assert differences(ledger) == []
    migrated = reflected(ledger)
    wipe(ledger)
    metadata.create_all(ledger.engine)
    assert migrated == reflected(ledger)


def test_an_upgrade_is_idempotent_and_keeps_what_is_there(ledger: Ledger):
    migrations.upgrade(ledger)
    with ledger.begin() as tx:
        tx.connection.exec_driver_sql("INSERT INTO routes (name) VALUES ('employees')")

    assert migrations.upgrade(ledger) == (migrations.head(), migrations.head())

    with ledger.begin() as tx:
        assert tx.connection.exec_driver_sql("SELECT count(*) FROM routes").scalar() == 1


def test_an_older_ledger_is_brought_up_with_what_it_holds(ledger: Ledger):
    with ledger.begin() as tx:
        config = migrations._config()
        config.attributes["connection"] = tx.connection
        command.upgrade(config, "0001")
        tx.connection.exec_driver_sql(
            "INSERT INTO tallies (source, stream, accepted, first_at, last_at) VALUES ('dlt', 'employees-dlt/0', 3, 1, 2)"
        )
    with pytest.raises(LedgerOutdated, match="0001"):
        migrations.check(ledger)

    assert migrations.upgrade(ledger) == ("0001", migrations.head())

    assert differences(ledger) == []
    with ledger.begin() as tx:
        kept = tx.connection.exec_driver_sql("SELECT accepted, first_offset, last_offset FROM tallies").one()
    assert tuple(kept) == (3, None, None)


def test_check_says_that_an_upgrade_is_due(ledger: Ledger):
    with pytest.raises(LedgerOutdated, match="empty") as caught:
        migrations.check(ledger)
    assert caught.value.hint.endswith("run: redrive db upgrade")
    migrations.upgrade(ledger)
    migrations.check(ledger)

    with ledger.begin() as tx:
        tx.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for act in (migrations.check, migrations.upgrade):
        with pytest.raises(LedgerNewer, match="9999") as caught:
            act(ledger)
        assert caught.value.hint == "a newer Redrive wrote it: install that version"


def test_an_upgrade_that_fails_leaves_nothing_behind(ledger: Ledger):
    with ledger.begin() as tx:
        tx.connection.exec_driver_sql("CREATE TABLE jobs (id INTEGER)")  # in the migration's way
    with pytest.raises(Exception, match="already exists"):
        migrations.upgrade(ledger)

    assert migrations.revision(ledger) is None
    assert inspect(ledger.engine).get_table_names() == ["jobs"]


def test_ids_are_never_given_out_twice(ledger: Ledger):
    """A late settle must not meet another's row."""
    migrations.upgrade(ledger)
    row = "(route, key, state, due_at, last_seq, created_at, changed_at) VALUES ('r', '{}', 'scheduled', 0, 1, 0, 0)"
    ids = []
    for _ in range(2):
        with ledger.begin() as tx:
            ids.append(tx.connection.exec_driver_sql(f"INSERT INTO jobs {row} RETURNING id").scalar())
            tx.connection.exec_driver_sql("DELETE FROM jobs")
    assert ids[0] < ids[1]
