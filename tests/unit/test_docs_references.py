"""The documentation names tests as its proof: they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
#: `tests/path.py`, `tests/path.py::test`, or `::test` of the file that was named before.
REFERENCE = re.compile(r"`(?:(tests/[\w/]+\.py)|(?=::\w))(?:::(\w+))?`")


def references(page: Path) -> Iterator[tuple[str, str, str]]:
    path = ""
    for match in REFERENCE.finditer(page.read_text()):
        path = match[1] or path
        yield page.name, path, match[2] or ""


FOUND = sorted({found for page in PAGES for found in references(page)})


@cache
def functions(path: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


def test_there_are_references():
    assert len(FOUND) > 30


@pytest.mark.parametrize(("document", "path", "test"), FOUND)
def test_a_test_that_is_named_is_there(document: str, path: str, test: str):
    assert (ROOT / path).is_file(), f"{document} names {path}"
    assert not test or test in functions(path), f"{document} names {path}::{test}"
