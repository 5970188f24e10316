"""What is wrong with a command as it was typed, in Redrive's own words: Typer's and pydantic's are for programmers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import typer

from tasks.dlq.text import show_value

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPER = (
    (r"Missing (?:argument|option|parameter) '(.+)'\.", r"\1 is missing"),
    (r"Option '(.+)' requires an argument\.", r"\1 needs a value"),
    (r"Option '(.+)' requires \d+ arguments\.", r"\1 needs more values"),
    (r"Option '(.+)' does not take a value\.", r"\1 takes no value"),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)", r"too many arguments: \1"),
    (r"No such command '(.+?)'\.", r"there is no command '\1'."),
    (r"No such option: (\S+) \(Possible options: (.+)\)", r"there is no option \1; near it: \2"),
    (r"No such option: (\S+)", r"there is no option \1"),
    (r"'(.+)' is not one of (.+)\.", r"it must be one of \2"),
    (r"Invalid value for '(.+?)': (.+)", r"\1: \2"),
)
#: By pydantic's type of error: https://docs.pydantic.dev/latest/errors/validation_errors/
_PYDANTIC = {
    "int_parsing": "it must be a whole number",
    "int_parsing_size": "it must be a number of fewer digits",
    "greater_than_equal": "it must be at least {ge}",
    "less_than_equal": "it must be at most {le}",
}


def told(error: typer.TyperException) -> str:
    """Return what to tell of an error of Typer's; its own words where there are none here."""
    from pydantic import ValidationError

    cause = error.__cause__
    if isinstance(error, typer.BadParameter) and error.param and isinstance(cause, ValidationError):
        detail: Mapping[str, Any] = cause.errors(include_url=False)[0]
        clause = _PYDANTIC.get(detail["type"], "").format_map(detail.get("ctx", {}))
        clause = clause or _reworded(detail["msg"].removeprefix("Value error, "))
        return f"{error.param.get_error_hint().strip(chr(39))} is {show_value(detail['input'])}; {clause}"
    return _reworded(error.format_message())


def _reworded(text: str) -> str:
    for pattern, words in _TYPER:
        new, count = re.subn(pattern, words, text, count=1)
        if count:
            return new
    return text
