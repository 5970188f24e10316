"""The key of a job: with the route, it is the identity of a call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_key(parameters: Mapping[str, str]) -> str:
    """Return the key of these parameters: compact JSON with sorted names, in ASCII. Equal parameters have equal keys."""
    return json.dumps(dict(parameters), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
