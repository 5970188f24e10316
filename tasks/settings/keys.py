"""All keys that redrive.toml may have, found in the model. The environment, messages and the documentation use them."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from tasks.settings.values import Display

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.settings.values import KeyPath

#: In the path of a key: any name that a person chooses.
ANY_NAME = "NAME"
PREFIX = "REDRIVE_"
SEPARATOR = "__"
_BARE = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key that holds a value."""

    path: KeyPath
    display: Display
    #: The default in the model, or the value in a section.
    value: Any = None
    #: What is allowed for each name in the path that a person chooses.
    names: tuple[str, ...] = ()
    required: bool = False
    #: Says how the default depends on other keys.
    description: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that sets this key."""
        return variable_of(self.path)

    @property
    def shown(self) -> Any:
        """The value as redrive.toml would have it, without secrets."""
        return None if self.value is None else self.display.show(self.value)


@lru_cache
def keys_of(model: type[BaseModel]) -> tuple[Key, ...]:
    """Return all keys of a model and of the tables below it, each once: kinds of sources share some."""
    keys: dict[KeyPath, Key] = {}
    for key in _walk(model, None, (), ()):
        keys.setdefault(key.path, key)
    return tuple(keys.values())


def keys_in(section: BaseModel) -> Iterator[Key]:
    """Yield the keys of a section with their values; the paths have the names that a person chose."""
    return _walk(type(section), section, (), ())


def find(keys: Iterable[Key], path: KeyPath) -> Key | None:
    """Return the key at a path with the names that a person chose."""
    return next((key for key in keys if len(key.path) == len(path) and _fits(key.path, path)), None)


def steps_below(keys: Iterable[Key], path: KeyPath) -> list[str]:
    """Return what may follow `path`; ANY_NAME where a person may choose."""
    return list(dict.fromkeys(key.path[len(path)] for key in keys if len(key.path) > len(path) and _fits(key.path, path)))


def allowed_name(keys: Iterable[Key], path: KeyPath) -> str:
    """Return what is allowed for the last name in `path`."""
    key = next(key for key in keys if len(key.path) >= len(path) and _fits(key.path, path))
    return key.names[key.path[: len(path)].count(ANY_NAME) - 1]


def value_at(table: Any, path: KeyPath) -> Any:
    """Return the value in `table` at `path`, or None: TOML has no null."""
    for step in path:
        table = table.get(step) if isinstance(table, dict) else None
    return table


def variable_of(path: KeyPath) -> str:
    """Return the environment variable of a key."""
    return PREFIX + SEPARATOR.join(step.upper() for step in path)


def dotted(path: Iterable[str]) -> str:
    """Return a path as TOML writes it."""
    return ".".join(step if _BARE.fullmatch(step) else json.dumps(step)[:100] for step in path)


def suggestion(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return "did you mean …?" for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, [step for step in known if step != ANY_NAME], n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else ""


def _walk(model: type[BaseModel], section: BaseModel | None, prefix: KeyPath, names: tuple[str, ...]) -> Iterator[Key]:
    """Yield the keys of `section`, or of its model with ANY_NAME in the paths."""
    for name, field in model.model_fields.items():
        path, description = (*prefix, field.alias or name), field.description or ""
        default = None if field.is_required() else field.default
        value: Any = getattr(section, name) if section else default
        if display := _display(field.annotation, field.metadata):
            required = field.is_required() and not description
            yield Key(path=path, display=display, value=value, names=names, required=required, description=description)
        elif get_origin(field.annotation) is dict:
            name_type, item_type = get_args(field.annotation)
            all_names = (*names, getattr(_display(name_type), "allowed", ""))
            for step, item in (value if section else {ANY_NAME: None}).items():
                if display := _display(item_type):
                    yield Key(path=(*path, step), display=display, value=item, names=all_names, description=description)
                for each in _models(type(item) if section else item_type):
                    yield from _walk(each, item, (*path, step), all_names)
        else:
            for each in _models(field.annotation):
                yield from _walk(each, value if section else None, path, names)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield a model, or those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


def _display(annotation: Any, metadata: Iterable[Any] = ()) -> Display | None:
    """Return how people see the values of a type, with the bounds of the field; None for a table."""
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        return _display(annotation, [*inner, *metadata])
    found = [item for item in metadata if isinstance(item, Display)]
    if not found and get_origin(annotation) is not dict:  # a union with None
        found = [display for part in get_args(annotation) if (display := _display(part))]
    return found[-1].within(metadata) if found else None


def _fits(pattern: KeyPath, path: KeyPath) -> bool:
    return all(step in {ANY_NAME, given} for step, given in zip(pattern, path, strict=False))
