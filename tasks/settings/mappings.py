"""From a body to a route and its parameters: `each`, `map`, `constants`, `choose` and `unwrap` of a source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tasks.dlq.calls.route import Route
from tasks.dlq.reading.mapping import BodyMapping, Condition, check_expression
from tasks.dlq.reading.reader import BodyReader, Choice
from tasks.dlq.reading.unwrapping import STEPS
from tasks.settings.routes import NAME, Name, ParameterName
from tasks.settings.rules import Bytes, Line, OneOf, Rule
from tasks.settings.sections import Section

KINDS = ("sqs", "kafka")
_MOST_STEPS = 5


@dataclass(frozen=True)
class Path(Rule):
    """A JMESPath expression."""

    meaning: str = 'a JMESPath expression, such as "employee.id"'

    def parse(self, value: Any) -> str:
        """Return the expression unchanged."""
        if not isinstance(value, str):
            raise self.refusal()
        try:
            check_expression(value)
        except ValueError as error:
            raise ValueError(f"must be {self.allowed}: {error}") from None
        return value


@dataclass(frozen=True)
class Steps(Rule):
    """What is to be taken off a body, in this order; from the environment a text with commas."""

    meaning: str = f"a list of {', '.join(STEPS)}, at most {_MOST_STEPS}"

    def parse(self, value: Any) -> tuple[str, ...]:
        """Return the steps."""
        if isinstance(value, str):
            value = [step.strip() for step in value.split(",")]
        if not isinstance(value, list) or len(value) > _MOST_STEPS or not all(step in STEPS for step in map(str, value)):
            raise self.refusal()
        return tuple(value)

    def show(self, value: tuple[str, ...]) -> list[str]:
        """Return the steps as a list."""
        return list(value)


Each = Annotated[str | None, Path()]
Paths = dict[ParameterName, Annotated[str, Path()]]
Constants = dict[ParameterName, Annotated[str, Line("a parameter's value", 256)]]


class Mapped:
    """How a document becomes a route's parameters. The fields stand in the tables themselves, in the order of their docs."""

    if TYPE_CHECKING:
        each: str | None
        map: dict[str, str]
        constants: dict[str, str]

    @cached_property
    def mapping(self) -> BodyMapping:
        """The compiled mapping from a body to parameters."""
        return BodyMapping(each=self.each, params=self.map, constants=self.constants)

    def misfits(self, route: Route) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield the path and a clause for each way in which this does not give the route's parameters."""
        if twice := sorted(self.map.keys() & self.constants.keys()):
            yield ("constants", twice[0]), "must not stand in map as well"
        elif self.map.keys() | self.constants.keys() != route.params.keys():
            takes = ", ".join(sorted(route.params)) or "no parameter at all"
            yield ("map",), f"must have exactly the parameters of route {route.name}: {takes}"
        for name, value in self.constants.items():
            try:
                route.params[name].parse(value)
            except KeyError:
                continue
            except ValueError as error:
                yield ("constants", name), f"must be {error}, as route {route.name} has it"


class ChoiceTable(Section, Mapped):
    """A route for some of a source's dead letters."""

    when: Annotated[str, Path("a JMESPath expression over origin and body, such as \"origin.topic == 'teams-dlt'\"")]
    route: Name
    each: Each = None
    map: Paths = Field(default_factory=dict)
    constants: Constants = Field(default_factory=dict)


class MappingTable(Section, Mapped):
    """What every source has whose records are JSON bodies."""

    kind: Annotated[str, OneOf(KINDS)]
    route: Annotated[str | None, NAME] = Field(default=None, description="required, unless `choose` has routes")
    each: Each = None
    map: Paths = Field(default_factory=dict)
    constants: Constants = Field(default_factory=dict)
    choose: dict[Name, ChoiceTable] = Field(default_factory=dict)
    unwrap: Annotated[tuple[str, ...], Steps()] = ()
    max_body: Annotated[int, Bytes("1B", "16MiB")] = 1 << 20

    def disagreements(self, routes: Mapping[str, Route]) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield the path and a clause for each thing in which the source does not fit the routes."""
        tables: dict[tuple[str, ...], tuple[str | None, Mapped]] = {
            ("choose", name): (choice.route, choice) for name, choice in self.choose.items()
        }
        if self.route is not None or not self.choose:
            tables[()] = (self.route, self)
        for path, (name, table) in tables.items():
            if name is None:
                yield (*path, "route"), f"is missing: must be one of the routes: {_listed(routes)}"
            elif name not in routes:
                yield (*path, "route"), f"must be one of the routes: {_listed(routes)}"
            else:
                yield from (((*path, *below), clause) for below, clause in table.misfits(routes[name]))

    def reader(self, routes: Mapping[str, Route]) -> BodyReader:
        """Return what reads this source's records: its choices in the order of the file, then its own route."""
        choices = [Choice(routes[each.route], each.mapping, Condition(each.when)) for each in self.choose.values()]
        if self.route is not None:
            choices.append(Choice(routes[self.route], self.mapping))
        return BodyReader(choices=choices, unwrap=self.unwrap, max_body=self.max_body)


def _listed(routes: Mapping[str, Route]) -> str:
    return ", ".join(sorted(routes)) or "there is none yet"
