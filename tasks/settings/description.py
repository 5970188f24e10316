"""Every setting with its value and where it came from, for `redrive config`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.settings.keys import Steps, dotted, rule_in, rule_of_values, value_at
from tasks.settings.sections import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.settings.rules import Rule


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Where values came from: the file's name and table, and the environment variable of each overridden path."""

    file: str | None = None
    table: Mapping[str, Any] = field(default_factory=dict, repr=False)
    variables: Mapping[Steps, str] = field(default_factory=dict)

    def of(self, path: Steps) -> str:
        """Return the variable's name, "file" or "default"."""
        if path in self.variables:
            return self.variables[path]
        try:
            value_at(self.table, path)
        except KeyError:
            return "default"
        return "file"


def describe(settings: Section, origins: Origins) -> dict[str, Any]:
    """Return the file and each setting as `{"value": …, "from": …}`, secrets masked."""
    return {
        "file": origins.file,
        "settings": {
            dotted(path): {"value": rule.show(value), "from": origins.of(path)} for path, rule, value in _values(settings, ())
        },
    }


def _values(section: Section, prefix: Steps) -> Iterator[tuple[Steps, Rule, Any]]:
    for name, info in type(section).model_fields.items():
        path, value = (*prefix, info.alias or name), getattr(section, name)
        if rule := rule_in(info.metadata):
            yield path, rule, value
        elif isinstance(value, Section):
            yield from _values(value, path)
        elif rule := rule_of_values(info):
            yield from (((*path, key), rule, item) for key, item in value.items())
        else:
            for key, item in value.items():
                yield from _values(item, (*path, key))
