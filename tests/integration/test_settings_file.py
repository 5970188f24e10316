"""Configuration from real files: the ones that Redrive ships, and every way in which a file cannot be read."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.dlq.errors import ConfigError
from tasks.settings import Settings, assemble, load, settings
from tasks.settings.keys import Key, dotted, keys_of

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "redrive.example.toml"
DOCUMENT = ROOT / "docs/reference/configuration.md"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("REDRIVE_")]:
        monkeypatch.delenv(name)
    settings.cache_clear()
    yield
    settings.cache_clear()


def refused(path: Path | None = None, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    assert caught.value.hint
    message = caught.value.message
    assert message.startswith("/"), "a file is told with its directory"
    return message.removeprefix(f"{Path.cwd()}/")


# --- which file ------------------------------------------------------------------------------------------------------


def test_without_a_file_there_are_the_defaults():
    assert load(environ={}).file is None


def test_redrive_toml_is_taken_where_the_process_starts():
    Path("redrive.toml").write_text("[worker]\nconcurrency = 3")
    assert load(environ={}).worker.concurrency == 3


def test_the_environment_names_another_file_and_an_argument_wins(tmp_path: Path):
    Path("redrive.toml").write_text("[worker]\nconcurrency = 3")
    other, third = tmp_path / "other.toml", tmp_path / "third.toml"
    other.write_text("[worker]\nconcurrency = 4")
    third.write_text("[worker]\nconcurrency = 5")
    assert load(environ={"REDRIVE_CONFIG": str(other)}).worker.concurrency == 4
    assert load(third, {"REDRIVE_CONFIG": str(other)}).worker.concurrency == 5
    assert load(environ={"REDRIVE_CONFIG": ""}).worker.concurrency == 3


def test_a_named_file_has_to_be_there(tmp_path: Path):
    Path("redrive.toml").write_text("")
    assert refused(REDRIVE_CONFIG="nowhere.toml") == "nowhere.toml does not exist"
    assert "does not exist" in refused(tmp_path / "nowhere.toml")


def test_the_process_reads_its_settings_once(monkeypatch: pytest.MonkeyPatch):
    first = settings()
    monkeypatch.setenv("REDRIVE_WORKER__CONCURRENCY", "2")
    assert settings() is first
    settings.cache_clear()
    assert settings().worker.concurrency == 2


def test_celery_commands_end_with_the_message_and_no_traceback():
    Path("redrive.toml").write_text("[worker]\nconcurrency = 0")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command in ("worker", "beat"):
        ended = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "tasks", command], env=environ, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        *_, told, hint = ended.stderr.splitlines()
        assert told == f"redrive: {Path.cwd()}/redrive.toml: worker.concurrency is 0: must be a whole number from 1 to 64"
        assert "docs/reference/configuration.md" in hint
        assert "Traceback" not in ended.stderr


# --- files that cannot be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[ledger\n", r"is not TOML: .* \(at line 1, column 8\)"),
        (b"a = 1\n\nb = \n", r"is not TOML: .* \(at line 3, column 5\)"),
        (b"a = 1\na = 2\n", r"is not TOML: .*line 2"),
        (b'\n"\xe9" = 1\n', r"is not UTF-8 at line 2, column 2"),
        ("a = 1".encode("utf-16"), r"is not UTF-8 at line 1, column 1"),
        (b"a = " + b"[" * 100_000, r"is not TOML: .*(too deeply|line)"),
        (b"a = " + b"9" * 5000, r"is not TOML: a number is too long"),
        (b"#" * (1 << 20) + b"#", r"is larger than 1048576 bytes"),
    ],
    ids=["bracket", "no value", "twice", "latin-1", "utf-16", "deep", "digits", "large"],
)
def test_a_file_that_is_not_toml(content: bytes, told: str):
    Path("redrive.toml").write_bytes(content)
    message = refused()
    assert message.startswith("redrive.toml ")
    assert re.search(told, message)
    assert len(message) < 200


def test_a_byte_order_mark_and_other_line_ends_are_read():
    Path("redrive.toml").write_bytes(b"\xef\xbb\xbf[worker]\r\nconcurrency = 2\r\n")
    assert load(environ={}).worker.concurrency == 2


def test_a_directory_is_not_a_file(tmp_path: Path):
    assert refused(tmp_path) == f"{tmp_path} is a directory"
    (tmp_path / "redrive.toml").mkdir()
    assert refused() == "redrive.toml is a directory"


def test_a_file_that_the_user_may_not_read(monkeypatch: pytest.MonkeyPatch):
    file = Path("redrive.toml")
    file.write_text("")
    file.chmod(0)
    if os.access(file, os.R_OK):  # root reads everything: let the system call fail as it would for others

        def denied(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
    assert refused() == "redrive.toml cannot be read: Permission denied"


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_a_path_that_no_file_can_have(path: str):
    assert "cannot be read" in refused(REDRIVE_CONFIG=path) or "does not exist" in refused(REDRIVE_CONFIG=path)


# --- the files that Redrive ships ------------------------------------------------------------------------------------


def uncommented(text: str) -> str:
    """Return the example with every key in force that it shows as a default."""
    return re.sub(r"^# ((?:[a-z_]+)(?:\.[A-Za-z-]+)? = )", r"\1", text, flags=re.MULTILINE)


def test_the_example_is_a_configuration():
    example = load(EXAMPLE, {})
    assert list(example.routes) == ["employees", "teams"]
    assert list(example.sources) == ["employees_dlq", "teams_dlq", "events", "employees_dlt"]


def test_what_the_example_comments_out_are_the_defaults():
    text = EXAMPLE.read_text()
    as_it_is = assemble(tomllib.loads(text), {}).describe()["settings"]
    in_force = assemble(tomllib.loads(uncommented(text)), {}).describe()["settings"]
    differing = {key for key in in_force if key not in as_it_is or in_force[key]["value"] != as_it_is[key]["value"]}
    assert differing == {
        "broker.predefined_queues.redrive-recovery",
        "routes.employees.headers.Content-type",
        "sources.employees_dlq.endpoint",
        "sources.employees_dlt.header_names.topic",
        "worker.ca_bundle",
    }


def test_the_example_shows_every_key():
    table = tomllib.loads(uncommented(EXAMPLE.read_text()))

    def shown(below: object, path: tuple[str, ...]) -> bool:
        if not path:
            return below != {}
        if not isinstance(below, dict):
            return False
        names = list(below) if path[0] == "NAME" else [path[0]]
        return any(name in below and shown(below[name], path[1:]) for name in names)

    assert [dotted(key.path) for key in keys_of(Settings) if not shown(table, key.path)] == []


def test_the_documentation_has_every_key_as_the_model_has_it():
    assert list(documented()) == [[dotted(key.path), allowed(key), default(key)] for key in keys_of(Settings)]


def documented() -> Iterator[list[str]]:
    """Yield key, what is allowed and the default of each row; a key stands below its section's heading."""
    section = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            heading = re.fullmatch(r"## `\[(.*)\]`", line)
            section = f"{heading[1]}." if heading else ""
        elif line.startswith("| `"):
            name, *cells = [cell.strip() for cell in line.strip("|\n").split(" | ")]
            yield [section + name.strip("`"), *cells[:2]]


def allowed(key: Key) -> str:
    return re.sub(r", or a number of (seconds|bytes)$", "", key.display.allowed)  # the page's first lines say so of all


def default(key: Key) -> str:
    if key.required:
        return "required"
    if key.description:
        return key.description.removeprefix("default: ")
    return "none" if key.value is None else f"`{json.dumps(key.shown)}`"


def test_every_documented_variable_sets_its_key():
    base = {"REDRIVE_ROUTES__NAME__URL": "http://host/{name}", "REDRIVE_ROUTES__NAME__PARAMS__name": "int"}
    for key in keys_of(Settings):
        if key.value is None or key.path[0] in {"routes", "sources"}:
            continue
        shown = key.shown
        told = assemble({}, {**base, key.variable: shown if isinstance(shown, str) else json.dumps(shown)}).describe()["settings"]
        assert told[dotted(key.path)] == {"value": shown, "from": key.variable}


# --- the one reader of the environment -------------------------------------------------------------------------------


def test_importing_the_settings_reads_no_file(tmp_path: Path):
    environ = {**os.environ, "REDRIVE_CONFIG": str(tmp_path / "nowhere.toml"), "REDRIVE_LEDGR__URL": "x"}
    subprocess.run([sys.executable, "-c", "import tasks.settings"], check=True, env=environ, cwd=ROOT)


def test_nothing_else_in_tasks_reads_the_environment():
    readers = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tasks").rglob("*.py")
        if re.search(r"os\.environ(?!\[\w+\] = |\.setdefault)|os\.getenv|import environ|import getenv", file.read_text())
    }
    allowed = {name for name in readers if name.startswith("tasks/devstack/")}  # it builds the environment of its children
    assert readers - allowed == {"tasks/settings/__init__.py"}
