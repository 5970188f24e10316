"""The keys that redrive.toml may have, told from the model: for the environment, for suggestions and for the documentation."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from tasks.settings.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

#: Stands in a key's path for a name that a person chooses.
NAME = "NAME"
PREFIX = "REDRIVE_"
SEPARATOR = "__"
_BARE = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)

Steps = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key that holds a value. `default` is parsed; `description` tells of a default that depends on other keys."""

    path: Steps
    rule: Rule
    required: bool = False
    default: Any = None
    description: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that sets this key; NAME stays for a person's own names."""
        return PREFIX + SEPARATOR.join(part.upper() for part in self.path)


@lru_cache
def keys_of(model: type[BaseModel]) -> tuple[Key, ...]:
    """Return all keys of a model and of the tables below it; one that several kinds of a table share stands once."""
    keys: dict[Steps, Key] = {}
    for key in _keys(model, ()):
        keys.setdefault(key.path, key)
    return tuple(keys.values())


def find(keys: Iterable[Key], path: Steps) -> Key | None:
    """Return the key at a path in which people's names stand, None when there is none."""
    return next((key for key in keys if len(key.path) == len(path) and _below(key.path, path)), None)


def steps_below(keys: Iterable[Key], path: Steps) -> list[str]:
    """Return what may follow after `path`, NAME among it where a person may choose."""
    below = {key.path[len(path)]: None for key in keys if len(key.path) > len(path) and _below(key.path, path)}
    return list(below)


def value_at(table: Any, path: Steps) -> Any:
    """Return what stands in `table` at `path`. Raises KeyError."""
    for step in path:
        if not isinstance(table, dict):
            raise KeyError(step)
        table = table[step]
    return table


def dotted(path: Iterable[str]) -> str:
    """Return a path as TOML writes it."""
    return ".".join(step if _BARE.fullmatch(step) else json.dumps(step)[:100] for step in path)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "did you mean …?" for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, [step for step in known if step != NAME], n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


def rule_in(metadata: Iterable[Any]) -> Rule | None:
    """Return the rule among the metadata of an annotation."""
    return next((item for item in metadata if isinstance(item, Rule)), None)


def rule_of_values(field: FieldInfo) -> Rule | None:
    """Return the rule for the values of a table with names of a person's own."""
    return rule_in(getattr(get_args(field.annotation)[1], "__metadata__", ()))


def _keys(model: type[BaseModel], prefix: Steps) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        if rule := rule_in(field.metadata):
            required = field.is_required() and not field.description
            default = None if field.is_required() else field.default
            yield Key(path=path, rule=rule, required=required, default=default, description=field.description or "")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, path)
        elif rule := rule_of_values(field):
            yield Key(path=(*path, NAME), rule=rule, description=field.description or "")
        else:
            for each in _models(get_args(field.annotation)[1]):
                yield from _keys(each, (*path, NAME))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield a model, or those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for each in get_args(annotation):
            yield from _models(each)


def _below(pattern: Steps, path: Steps) -> bool:
    return all(step in {NAME, given} for step, given in zip(pattern, path, strict=False))
