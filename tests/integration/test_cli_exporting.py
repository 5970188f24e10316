"""`redrive export` and `redrive import`: from one directory's ledger into another's."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import pytest
from command_line import CommandLine, command_line
from ledger_bench import POSTGRESQL, a_database
from sqlalchemy import text
from waiting import TEST_TIMEOUT

from tasks.adapters.liveness import LivenessFile
from tasks.dlq.ledger import migrations


@pytest.fixture
def here(tmp_path: Path) -> CommandLine:
    """A folder with a ledger: three letters, two jobs, one of them parked, and what nobody can read."""
    cli = folder(tmp_path / "here")
    cli.arrange("m-1", employee=1)
    cli.arrange("m-2", employee=1)
    cli.arrange("m-3", employee=2, state="parked")
    cli.reject("m-4", b"\0\xff", "not-json", "no JSON")
    return cli


@pytest.fixture
def there(tmp_path: Path) -> CommandLine:
    """A folder without a ledger."""
    return folder(tmp_path / "there")


def folder(path: Path) -> CommandLine:
    path.mkdir()
    return command_line(path)


def audit_of(cli: CommandLine, **env: str) -> object:
    (audit,) = cli.json("audit", **env)
    return audit


def test_a_ledger_is_exported_and_imported(here: CommandLine, there: CommandLine):
    file = there.folder / "ledger.jsonl"
    done = here.run("export", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file}: 4 dead letters and 2 jobs, 10 rows in all, as of 20")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in there.folder.iterdir() if each.name.startswith(".")] == [], "no trace of its making"

    checked = there.run("import", str(file), "--dry-run")
    assert (checked.returncode, checked.stderr) == (0, "redrive: the file is complete; nothing was imported\n")
    assert not (there.folder / ".redrive").exists()

    done = there.run("import", str(file))
    assert done.returncode == 0
    first, sums = done.stdout.splitlines()
    assert first.startswith(f"{file}: 10 rows, as of 20")
    assert sums == "4 dead letters accepted = 0 recovered + 2 pending + 1 parked + 0 discarded + 1 rejected"
    assert done.stderr == "redrive: no call is made for 40s: calls that began after the export may still be open\n"
    assert audit_of(there) == audit_of(here)


def test_an_export_goes_through_a_pipe(here: CommandLine, there: CommandLine):
    file = here.run("export").stdout
    assert json.loads(file.splitlines()[0])["format"] == "redrive-ledger"
    (told,) = there.json("import", "-", stdin=file.encode())
    assert (told["file"], told["audit"]["accepted"]) == ("-", 4)
    assert audit_of(there) == audit_of(here)


def test_a_compressed_file_is_known_by_its_first_bytes(here: CommandLine, there: CommandLine):
    (told,) = here.json("export", "ledger.jsonl.gz")
    packed = (here.folder / "ledger.jsonl.gz").read_bytes()
    lines = gzip.decompress(packed).splitlines()
    assert json.loads(lines[-1]) == {"rows": told["rows"], "sha256": told["sha256"]}
    (there.folder / "whatever").write_bytes(packed)
    assert there.json("import", "whatever")[0]["rows"] == told["rows"]

    other = folder(there.folder / "other")
    for end in (2, 10, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        (other.folder / "cut.gz").write_bytes(packed[:end])
        other.error("import", "cut.gz", code=2)
    (other.folder / "bad.gz").write_bytes(packed[:40] + bytes([packed[40] ^ 255]) + packed[41:])
    other.error("import", "bad.gz", code=2)
    (other.folder / "bad.gz").write_bytes(packed[:-8] + b"\0\0\0\0" + packed[-4:])  # another checksum
    assert other.error("import", "bad.gz", code=2)["error"].startswith("the file was cut or damaged after line ")


def test_a_ledger_goes_to_postgresql_and_back(here: CommandLine, there: CommandLine, tmp_path: Path):
    here.run("export", "ledger.jsonl")
    with a_database(POSTGRESQL, tmp_path, empty=True) as url:
        here.json("import", "ledger.jsonl", REDRIVE_LEDGER__URL=url)
        assert audit_of(here, REDRIVE_LEDGER__URL=url) == audit_of(here)
        back = there.folder / "back.jsonl"
        here.json("export", str(back), REDRIVE_LEDGER__URL=url)
    there.json("import", "back.jsonl")
    assert audit_of(there) == audit_of(here)


def test_an_existing_file_is_replaced_only_by_force(here: CommandLine):
    file = here.folder / "precious"
    file.write_text("precious")
    error = here.error("export", "precious", code=2)
    assert (error["error"], error["hint"]) == ("'precious' exists already", "give another name, or --force to replace it")
    assert file.read_text() == "precious"

    here.json("export", "precious", "--force")
    assert file.read_text().startswith('{"format":"redrive-ledger"')
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "told", "code"),
    [
        (".", "'.' is not a regular file", 2),
        ("/dev/null", "'/dev/null' is not a regular file", 2),
        ("none/ledger.jsonl", "cannot write 'none/ledger.jsonl': No such file or directory", 1),
        ("x" * 300, "cannot write ", 1),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(here: CommandLine, name: str, told: str, code: int):
    done = here.run("export", name, "--force", "--json")
    assert (done.returncode, done.stdout) == (code, "")
    assert json.loads(done.stderr)["error"].startswith(told)


def test_a_full_disk_leaves_nothing_behind(here: CommandLine):
    here.reject("large", b"x" * 300_000, "not-json", "no JSON")
    before = sorted(here.folder.rglob("*"))
    command = "ulimit -f 100; trap '' XFSZ; exec \"$@\""  # a file may have 100 KiB: what writes more is told "File too large"
    arguments = ["bash", "-c", command, "-", sys.executable, "-m", "tasks.cli", "export", "ledger.jsonl"]
    done = subprocess.run(
        arguments, env=here.env, cwd=here.folder, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("redrive: cannot write 'ledger.jsonl': File too large\n")
    assert sorted(here.folder.rglob("*")) == before


def test_without_a_ledger_there_is_nothing_to_export(there: CommandLine):
    done = there.run("export", "ledger.jsonl")
    assert done.returncode == 5
    assert "there is no ledger at sqlite:///" in done.stderr
    assert not (there.folder / "ledger.jsonl").exists()


def test_an_import_leaves_a_full_ledger_alone(here: CommandLine):
    here.json("export", "ledger.jsonl")
    before = audit_of(here)
    error = here.error("import", "ledger.jsonl", code=2)
    assert error["error"] == "the ledger is not empty: dead_letters has rows"
    assert "needs an empty ledger" in error["hint"]
    assert audit_of(here) == before


def test_another_schema_is_refused_with_the_version_that_reads_it(here: CommandLine, there: CommandLine):
    here.json("export", "ledger.jsonl")
    file = here.folder / "ledger.jsonl"
    first, rest = file.read_bytes().split(b"\n", 1)
    header = json.loads(first) | {"revision": "0001", "redrive": "0.0.9"}
    (there.folder / "old.jsonl").write_bytes(json.dumps(header).encode() + b"\n" + rest)
    error = there.error("import", "old.jsonl", code=2)
    assert error == there.error("import", "old.jsonl", "--dry-run", code=2)
    assert error["error"] == f"the file has the schema 0001, and this Redrive needs {migrations.head()}"
    assert error["hint"].startswith("import it with Redrive 0.0.9, which wrote it")
    assert not (there.folder / ".redrive").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "this is not an export of a ledger"),
        (b'{"employeeId": 1}\n', "this is not an export of a ledger"),
        (None, "cannot read 'ledger.jsonl': No such file or directory"),
    ],
)
def test_a_file_that_is_not_an_export_is_refused(there: CommandLine, content: bytes | None, told: str):
    if content is not None:
        (there.folder / "ledger.jsonl").write_bytes(content)
    for options in ([], ["--dry-run"]):
        error = there.error("import", "ledger.jsonl", *options, code=2)
        assert (error["error"], error["hint"]) == (told, "give a file that `redrive export` wrote")


def test_a_cut_file_imports_nothing(here: CommandLine, there: CommandLine):
    lines = here.run("export").stdout.splitlines(keepends=True)
    (there.folder / "cut.jsonl").write_text("".join(lines[:-1]))
    error = there.error("import", "cut.jsonl", code=2)
    assert error["error"] == f"the file was cut: it ends with line {len(lines) - 1}, without the last line of an export"
    with there.ledger() as ledger, ledger.begin() as tx:
        assert tx.connection.scalar(text("SELECT count(*) FROM dead_letters")) == 0


EDITS = {
    "jobs.state": ["evil\x1b[31m", "evil" * 1000, None, 7],
    "jobs.due_at": [1 << 62, -1, "now"],
    "jobs.key": ["not json", '{"employeeId":["a"]}', '{"employeeId": "1"}', "\x1b[31m" * 1000],
    "jobs.lease_until": [1],
    "jobs.calls": [-1],
    "dead_letters.reject_reason": ["\x1b[31m"],
    "dead_letters.origin": ["[]"],
    "dead_letters.body": ["never-shown!"],
    "tallies.accepted": [-1, 1 << 62],
    "routes.breaker_open": [7],
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in EDITS.items() for value in values])
def test_an_edited_row_is_refused_by_its_line(here: CommandLine, there: CommandLine, column: str, value: object):
    here.run("pause", "employees")  # for the route's row
    here.json("export", str(there.folder / "ledger.jsonl"))
    line = edit(there.folder / "ledger.jsonl", *column.split("."), value)
    there.json("db", "upgrade")

    error = there.error("import", "ledger.jsonl", code=2)

    assert error["error"].startswith(f"line {line}: {column}: ")
    assert len(error["error"]) < 250
    assert error["error"].isprintable()
    assert "never-shown" not in error["error"]
    assert there.error("import", "ledger.jsonl", "--dry-run", code=2) == error
    with there.ledger() as ledger, ledger.begin() as tx:
        assert tx.connection.scalar(text("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM dead_letters)")) == 0


def edit(file: Path, table: str, column: str, value: object) -> int:
    """Give the last row of the table another value, and the file a digest that fits; return the number of the row's line."""
    *lines, last = file.read_bytes().splitlines(keepends=True)
    number, row = [(number, row) for number, row in enumerate(map(json.loads, lines)) if row.get("table") == table][-1]
    row["row"][column] = value
    lines[number] = json.dumps(row).encode() + b"\n"
    end = json.loads(last) | {"sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
    file.write_bytes(b"".join([*lines, json.dumps(end).encode() + b"\n"]))
    return number + 1


def test_nothing_is_imported_while_a_process_runs(here: CommandLine, there: CommandLine):
    here.json("export", str(there.folder / "ledger.jsonl"))
    running, gone = (
        LivenessFile(there.folder / ".redrive", "worker"),
        there.folder / ".redrive" / "health" / f"beat@{gethostname()}:",
    )
    running.touch()
    child = subprocess.Popen(["true"])
    child.wait()
    Path(f"{gone}{child.pid}").touch()

    error = there.error("import", "ledger.jsonl", code=2)

    assert error["error"] == f"processes run on this ledger; stop them first: worker (pid {os.getpid()})"
    assert not (there.folder / ".redrive" / "ledger.db").exists()
    there.json("import", "ledger.jsonl", "--dry-run")
    running.remove()
    there.json("import", "ledger.jsonl")


def test_an_import_that_does_not_balance_exits_with_1(here: CommandLine, there: CommandLine):
    with here.ledger() as ledger, ledger.begin() as tx:
        tx.connection.execute(text("UPDATE tallies SET accepted = accepted + 1"))
    here.json("export", str(there.folder / "ledger.jsonl"))
    done = there.run("import", "ledger.jsonl")
    assert done.returncode == 1
    assert "NOT BALANCED" in done.stderr
    assert there.run("audit").returncode == 1, "it is there, to be looked into"


def test_on_a_terminal_a_bar_is_shown(here: CommandLine):
    with here.terminal("export", "ledger.jsonl") as terminal:
        assert terminal.end() == 0
    assert any("exporting 10 rows" in line for line in terminal.lines)
    with folder(here.folder / "other").terminal("import", "../ledger.jsonl", columns=120) as terminal:
        assert terminal.end() == 0
    assert any("importing '../ledger.jsonl'" in line for line in terminal.lines)


def test_ctrl_c_ends_an_export(here: CommandLine):
    """Ctrl-C while it writes into a pipe that nobody empties."""
    for number in range(300):
        here.reject(f"large-{number}", os.urandom(10_000), "not-json", "no JSON")
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.cli", "export", "-"],
        env=here.env,
        cwd=here.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.read(100).startswith(b'{"format"')
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TEST_TIMEOUT)
    assert process.returncode == 130
    assert b"Traceback" not in err
