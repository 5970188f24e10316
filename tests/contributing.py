"""The worked examples of CONTRIBUTING.md, as code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


def run_example(title: str, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run the first Python block below a heading, with these names beside it; return the names that it makes."""
    [section] = re.findall(rf"^### {title}$(.*?)(?=^### |\Z)", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    code, *_ = re.findall(r"^```python\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    made = dict(names or {})
    exec(compile(f"from __future__ import annotations\n{code}", PAGE.name, "exec"), made)  # noqa: S102 - the page's own
    return made
