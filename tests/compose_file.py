"""docker-compose.yml as Docker Compose reads it, as far as the file goes, and the queues of deploy/elasticmq.conf."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
ENV_EXAMPLE = ROOT / "deploy" / ".env.example"
ELASTICMQ = ROOT / "deploy" / "elasticmq.conf"

#: https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md, in the three forms that the file uses.
_INTERPOLATED = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\}|(?P<wrong>))")
_DURATION = re.compile(r"(?:(\d+)m)?(?:(\d+)s)?")


def interpolated(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with its variables replaced. Raises KeyError when a required one is missing or empty."""

    def value(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        assert found["name"], f"Compose does not take the $ in {text!r}"
        given = environ.get(found["name"], "")
        if not given and found["kind"] == "?":
            raise KeyError(found["name"])
        return given or (found["word"] if found["kind"] == "-" else "")

    return _INTERPOLATED.sub(value, text)


def variables(text: str) -> set[str]:
    """Return the names of the variables that Compose puts into `text`."""
    return {found["name"] for found in _INTERPOLATED.finditer(text) if found["name"]}


def seconds(duration: str) -> int:
    """Return a duration of the file, such as 1m or 40s."""
    found = _DURATION.fullmatch(duration)
    assert found, duration
    return 60 * int(found[1] or 0) + int(found[2] or 0)


def assignments(text: str) -> dict[str, str]:
    """Return the assignments of a .env file; of .env.example also those that a person may want to uncomment."""
    return dict(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=(.*)$", text, flags=re.MULTILINE))


@dataclass(frozen=True)
class Service:
    """One service, with its anchors merged and nothing interpolated yet."""

    name: str
    raw: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        return "build" in self.raw

    @property
    def long_running(self) -> bool:
        return self.raw["restart"] == "unless-stopped"

    @property
    def grace(self) -> int:
        return seconds(self.raw["stop_grace_period"])

    def command(self, environ: Mapping[str, str]) -> list[str]:
        return [interpolated(word, environ) for word in self.raw["command"]]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return what the container has in its environment; a variable without a value is handed on, if it is there."""
        given = self.raw.get("environment", {})
        handed_on = {name: environ[name] for name, value in given.items() if value is None and name in environ}
        return handed_on | {name: interpolated(value, environ) for name, value in given.items() if value is not None}

    def health_check(self, environ: Mapping[str, str]) -> list[str]:
        kind, *words = (interpolated(word, environ) for word in self.raw["healthcheck"]["test"])
        return {"CMD": words, "CMD-SHELL": ["/bin/sh", "-c", *words]}[kind]


@cache
def services() -> dict[str, Service]:
    """Return the file's services by name."""
    return {name: Service(name, raw) for name, raw in yaml.safe_load(COMPOSE.read_text())["services"].items()}


@dataclass(frozen=True)
class Queue:
    """A queue: its visibility timeout in seconds, its dead-letter queue and after how many deliveries a message goes there."""

    visibility_timeout: int = 30  # SQS' own default
    dead_letters: str | None = None
    max_receives: int | None = None


def elasticmq_queues() -> dict[str, Queue]:
    """Return the queues of deploy/elasticmq.conf: of HOCON only blocks, strings and whole numbers of seconds are known here."""
    tree: dict[str, Any] = {}
    open_blocks = [tree]
    for number, line in enumerate(ELASTICMQ.read_text().splitlines(), 1):
        text = re.sub(r"\s*#.*", "", line).strip()
        if block := re.fullmatch(r"([\w-]+) \{", text):
            open_blocks.append(open_blocks[-1].setdefault(block[1], {}))
        elif text == "}":
            open_blocks.pop()
        elif value := re.fullmatch(r'([\w-]+) = "?([^"]+?)(?: seconds)?"?', text):
            open_blocks[-1][value[1]] = value[2]
        else:
            assert not text or text.startswith("include "), f"elasticmq.conf, line {number}: {line}"
    assert open_blocks == [tree]
    return {name: _queue(table) for name, table in tree["queues"].items()}


def _queue(table: Mapping[str, Any]) -> Queue:
    dead = table.get("deadLettersQueue", {})
    assert set(table) <= {"defaultVisibilityTimeout", "deadLettersQueue"}
    return Queue(
        visibility_timeout=int(table.get("defaultVisibilityTimeout", 30)),
        dead_letters=dead.get("name"),
        max_receives=int(dead["maxReceiveCount"]) if dead else None,
    )
