"""The commands that documents and messages name, compared with the commands that exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from tasks.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/reference/cli.md", ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GLOBAL = {"--help", "--version", "--install-completion", "--show-completion"}


def commands() -> dict[str, set[str]]:
    """Return the options of each command that exists."""
    found: dict[str, set[str]] = {}

    def walk(name: str, command: object) -> None:
        below = getattr(command, "commands", {})
        for each, child in below.items():
            walk(f"{name} {each}", child)
        if not below:
            found[name] = {option for param in command.params for option in param.opts if option.startswith("--")}

    walk("redrive", typer.main.get_command(app))
    return found


COMMANDS = commands()


def sections() -> dict[str, str]:
    parts = re.split(r"^### `(.*)`$", (ROOT / "docs/reference/cli.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def examples(text: str) -> list[list[str]]:
    """Return the `redrive` commands in code blocks, as words: up to a pipe, a comment or what is told beside them."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    shell = "\n".join(block for language, block in fenced if language in {"", "console", "sh"})
    lines = re.findall(r"^(?:\$ )?(?:\.venv/bin/)?redrive(?: (.*))?$", shell, flags=re.MULTILINE)
    return [shlex.split(re.split(r" \| |  | > ", line)[0], comments=True) for line in lines]


def test_every_command_has_its_section_and_no_other_is_told():
    assert sorted(sections()) == sorted(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_section_has_an_example_and_every_option(name: str):
    section = sections()[name]
    assert any(" ".join(["redrive", *words]).startswith(name) for words in examples(section)), "no example"
    told = set(re.findall(r"--[a-z]+(?:-[a-z]+)*", section))
    assert told <= set().union(*COMMANDS.values()), "an option that nobody has"
    everywhere = {"--json", "--reason"} | GLOBAL
    assert COMMANDS[name] - everywhere <= told, "an option is not told"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_in_the_documentation_is_a_command_with_options_that_exist(page: Path):
    for words in examples(page.read_text()):
        if not words or words[0].startswith("-"):
            assert set(words) <= GLOBAL
            continue
        name = next((each for each in COMMANDS if " ".join(["redrive", *words, ""]).startswith(f"{each} ")), None)
        assert name, f"redrive {' '.join(words)}"
        assert {word for word in words if word.startswith("--")} <= COMMANDS[name] | GLOBAL, words


def strings(tree: ast.AST) -> Iterator[str]:
    """Yield the string literals of a module; what an f-string puts in is `1`."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside.update(node.values)
            yield "".join(part.value if isinstance(part, ast.Constant) else "1" for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.value


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the `redrive COMMAND …` of a message, as words: up to punctuation, and without the words of a sentence around it."""
    for found in re.finditer(
        r"\bredrive ([a-z]+(?: upgrade)?)((?: --?[a-z-]+(?:[ =][^\s;,:`|)]+)?| [A-Z0-9][^\s;,:`|)]*)*)", text
    ):
        yield [*found[1].split(), *found[2].split()]


MODULES = sorted((ROOT / "tasks").rglob("*.py"))
#: Words after "redrive" that are not commands: SQS has a redrive policy, and a Kafka client is named "redrive topic ids".
NO_COMMANDS = {"policy", "topic"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_every_command_in_a_message_exists_with_its_options(module: Path):
    for text in strings(ast.parse(module.read_text())):
        for words in commands_in(text):
            if words[0] in NO_COMMANDS:
                continue
            name = next((name for name in COMMANDS if " ".join(["redrive", *words, ""]).startswith(f"{name} ")), None)
            assert name or words == ["db"], f"redrive {' '.join(words)}"
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert options <= COMMANDS.get(name or "", set()) | GLOBAL, f"redrive {' '.join(words)}"


def test_a_wrong_option_in_a_message_is_found():
    assert list(commands_in("put it back, or run: redrive discard --route 1")) == [["discard", "--route", "1"]]
    assert list(commands_in("look: redrive jobs --state parked; then redrive replay")) == [
        ["jobs", "--state", "parked"],
        ["replay"],
    ]
    assert list(commands_in("run: redrive db upgrade, or start a worker")) == [["db", "upgrade"]]
