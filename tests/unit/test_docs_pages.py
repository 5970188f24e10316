"""The pages themselves: links, names of files and make targets, the index, the length of lines."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.dlq.alerts.kinds import alert_kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]
#: What names pages to a reader: code, tests, and the files that are shipped beside them.
NAMING = [
    file
    for pattern in ("tasks/**/*.py", "tests/**/*.py", "producers/**/*.py", "deploy/**/*", "*.toml", "*.yml", "Makefile")
    for file in ROOT.glob(pattern)
    if file.is_file()
]
LONGEST_LINE = 120


def prose(page: Path) -> str:
    """Return the page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of each link to a file of the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            yield (page.parent / name).resolve() if name else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target.name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_exists(page: Path):
    named = re.findall(r"`((?:tasks|tests|deploy|bench|producers|examples|docs)/[\w./-]*\w)/?`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    code = re.findall(r"^(?:\$ )?make ([a-z][a-z-]*)|`make ([a-z][a-z-]*)", page.read_text(), flags=re.MULTILINE)
    assert {first or second for first, second in code} <= targets


def test_every_page_that_is_named_elsewhere_exists():
    named = {
        (file.name, page)
        for file in NAMING
        for page in re.findall(r"\bdocs/[\w./-]+\.(?:md|json)\b", file.read_text(errors="ignore"))
    }
    assert named
    assert [(file, page) for file, page in named if not (ROOT / page).is_file()] == []


def test_the_index_leads_to_every_page():
    index = ROOT / "docs/README.md"
    listed = {target for target, _ in links(index)}
    decisions = ROOT / "docs/adr"
    assert decisions in listed
    assert [page.name for page in DOCS if page not in listed and decisions not in page.parents and page != index] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_of_prose_is_long(page: Path):
    unbreakable = re.compile(r"\S{60,}")  # a link or the name of a test
    lines = [line for line in prose(page).splitlines() if not line.startswith("|") and not unbreakable.search(line)]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


def test_every_package_has_its_sentence_in_the_architecture():
    rows = re.findall(r"^\| `(tasks[\w/]*)` \| (.*) \|$", (ROOT / "docs/architecture.md").read_text(), flags=re.MULTILINE)
    packages = {str(init.parent.relative_to(ROOT)) for init in ROOT.glob("tasks/**/__init__.py")}
    assert {name for name, _ in rows} == packages
    assert all(sentence.endswith(".") for _, sentence in rows)


@pytest.mark.parametrize("page", ["docs/reference/alerts.md", "docs/howto/on-call.md"])
def test_every_kind_of_alert_is_documented(page: str):
    text = (ROOT / page).read_text()
    assert [kind.name for kind in alert_kinds() if f"`{kind.name}`" not in text] == []


def test_every_log_message_that_a_page_quotes_exists():
    code = "".join(file.read_text() for file in ROOT.glob("tasks/**/*.py"))
    shortages = (
        (ROOT / "docs/reference/monitoring.md").read_text().partition("## When something runs out")[2].partition("\n## ")[0]
    )
    in_log = "".join(row.split(" | ")[1] + row.split(" | ")[2] for row in shortages.splitlines() if row.startswith("| "))
    quoted = set(re.findall(r"`([^`]+)`", in_log))
    quoted |= {message for page in DOCS for message in re.findall(r"\blogs\s+`([^`]+)`", page.read_text())}
    assert quoted
    assert [message for message in quoted if message not in code] == []
