"""The documentation names tests as its proof: they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
FOUND = sorted({
    (document.name, match[1], match[2] or "")
    for document in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    for match in REFERENCE.finditer(document.read_text())
})  # fmt: skip


@cache
def functions(path: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


def test_there_are_references():
    assert len(FOUND) > 30


@pytest.mark.parametrize(("document", "path", "test"), FOUND)
def test_a_test_that_is_named_is_there(document: str, path: str, test: str):
    assert (ROOT / path).is_file(), f"{document} names {path}"
    assert not test or test in functions(path), f"{document} names {path}::{test}"
