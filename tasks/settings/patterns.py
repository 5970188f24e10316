"""How long a regular expression could keep a worker busy, told before it meets a hostile value.

Python's `re` backtracks: `(a+)+` on 40 characters outlives the worker. The number of ways that a backtracking matcher can
try is bounded by the product of the choices in the pattern, and a pattern with too many is refused at start. What cannot
be backtracked into (possessive repeats such as `[a-z]++`, atomic groups) counts once.
"""

from __future__ import annotations

import math
import re
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from tasks.dlq.parameters import MAX_LENGTH

#: Three repeats without a bound over the longest value; measured below a second.
MAX_BITS = 25.0
_MAX_PATTERN = 200


def check_pattern(pattern: str) -> str:
    """Return `pattern` when it is a regular expression that is quick on every value. Raises ValueError."""
    if len(pattern) > _MAX_PATTERN:
        raise ValueError(f"must be a regular expression of at most {_MAX_PATTERN} characters")
    try:
        re.compile(pattern, re.ASCII)
        bits = _bits(_parser.parse(pattern, re.ASCII))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression: {error}") from None
    if bits > MAX_BITS:
        raise ValueError(
            "must be a regular expression without a repeat in a repeat and with at most three open ones "
            "(possessive ones such as [a-z]++ or (?:-[0-9]++)*+ are fine): this one could keep a worker busy for ever"
        )
    return pattern


def _bits(sequence: Any) -> float:
    return float(sum(_bits_of(code, argument) for code, argument in sequence))


def _bits_of(code: Any, argument: Any) -> float:  # noqa: PLR0911 - one return a kind
    """Return the base-2 logarithm of the number of ways to match one element."""
    match code:
        case op.MAX_REPEAT | op.MIN_REPEAT:
            least, most, body = argument
            most = min(int(most), MAX_LENGTH)
            return math.log2(max(most - least + 1, 1)) + most * _bits(body)
        case op.POSSESSIVE_REPEAT:
            return _once(argument[2])
        case op.ATOMIC_GROUP:
            return _once(argument)
        case op.SUBPATTERN:
            return _bits(argument[-1])
        case op.BRANCH:
            return math.log2(sum(2.0 ** min(_bits(branch), 100.0) for branch in argument[1]))
        case op.ASSERT | op.ASSERT_NOT:
            return _once(argument[1])
        case op.GROUPREF_EXISTS:
            return sum(_bits(branch) for branch in argument[1:] if branch)
        case _:
            return 0.0


def _once(body: Any) -> float:
    """Return 0 for a body that is never backtracked into, or its own ways when they alone are too many."""
    bits = _bits(body)
    return bits if bits > MAX_BITS else 0.0
