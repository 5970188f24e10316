"""What the container image lacks of this virtual environment: packages that no requirement of Redrive's brings in."""

from __future__ import annotations

from importlib.metadata import packages_distributions, requires
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from pathlib import Path

_HOOK = """\
import sys

ABSENT = {absent!r}


class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}: the image does not have it", name=name)


sys.meta_path.insert(0, Absent)
"""


def closure(requirement: str) -> set[str]:
    """Return the names of the distributions that pip installs for `requirement`."""
    waiting, seen = [Requirement(requirement)], set()
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            if (name := canonicalize_name(wanted.name), extra) not in seen:
                seen.add((name, extra))
                needs = (Requirement(text) for text in requires(name) or ())
                waiting += [need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def hide_the_rest(folder: Path, requirement: str) -> None:
    """Write a sitecustomize.py: with `folder` on its PYTHONPATH, Python finds only what `requirement` brings in."""
    there = closure(requirement)
    owners = packages_distributions().items()
    absent = {module for module, names in owners if there.isdisjoint(canonicalize_name(name) for name in names)}
    (folder / "sitecustomize.py").write_text(_HOOK.format(absent=absent))
