"""From a body to a route and its parameters: `each`, `map`, `constants`, `choose` and `unwrap` of a source."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from tasks.dlq.calls.route import Route
from tasks.dlq.reading.mapping import BodyMapping, Condition, check_expression
from tasks.dlq.reading.reader import BodyReader, RouteChoice
from tasks.dlq.reading.unwrapping import STEPS
from tasks.settings.sections import Broker, Section
from tasks.settings.values import MIB, Display, KeyPath, Name, ParameterName, PrintableText, Size, split_commas

_Finding = tuple[KeyPath, str]
#: The kinds in `SOURCE_KINDS` of tasks/sources.py.
KIND = Display('"sqs" or "kafka"')


def _check_expression(text: str) -> str:
    check_expression(text)
    return text


Expression = Annotated[str, AfterValidator(_check_expression), Display('a JMESPath expression, such as "employee.id"')]
ConditionText = Annotated[
    Expression, Display("a JMESPath expression over origin and body, such as \"origin.topic == 'teams-dlt'\"")
]
Constant = Annotated[PrintableText, Field(max_length=256), Display("a parameter's value")]
UnwrapSteps = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=f"^({'|'.join(STEPS)})$")], ...],
    Field(max_length=5),
    BeforeValidator(split_commas),
    Display(f"a list of {', '.join(STEPS)}, at most 5", show=list),
]


class ChoiceTable(Section):
    """A route for some of a source's dead letters."""

    when: ConditionText
    route: Name
    each: Expression | None = None
    map: dict[ParameterName, Expression] = Field(default_factory=dict)
    constants: dict[ParameterName, Constant] = Field(default_factory=dict)


class MappingTable(Section):
    """What all kinds of sources have: their records are JSON bodies."""

    kind: str
    route: Name | None = Field(default=None, description="required, unless `choose` has routes")
    each: Expression | None = None
    map: dict[ParameterName, Expression] = Field(default_factory=dict)
    constants: dict[ParameterName, Constant] = Field(default_factory=dict)
    choose: dict[Name, ChoiceTable] = Field(default_factory=dict)
    unwrap: UnwrapSteps = ()
    max_body: Size = Field(default=MIB, ge=1, le=16 * MIB)

    def conflicts(self, routes: Mapping[str, Route]) -> Iterator[_Finding]:
        """Yield the path and a clause for each way in which the source does not fit the routes."""
        for name, choice in self.choose.items():
            yield from ((("choose", name, *path), clause) for path, clause in _conflicts(choice, routes))
        if self.route is not None or not self.choose:
            yield from _conflicts(self, routes)

    @classmethod
    def find_conflicts(cls, sources: Mapping[str, Self], broker: Broker) -> Iterator[_Finding]:  # noqa: ARG003 - for kinds
        """Yield the path and a clause for each source that reads the same records as another source of this kind."""
        yield from ()

    @property
    def secret_variables(self) -> Mapping[str, str]:
        """The variables that hold secrets, by the key that names them."""
        return {}

    def reader(self, routes: Mapping[str, Route]) -> BodyReader:
        """Return the reader of this source's records: its choices in the order of the file, then its own route."""
        choices = [RouteChoice(routes[each.route], _mapping(each), Condition(each.when)) for each in self.choose.values()]
        if self.route is not None:
            choices.append(RouteChoice(routes[self.route], _mapping(self)))
        return BodyReader(choices=choices, unwrap=self.unwrap, max_body=self.max_body)


def _mapping(table: ChoiceTable | MappingTable) -> BodyMapping:
    return BodyMapping(each=table.each, params=table.map, constants=table.constants)


def _conflicts(table: ChoiceTable | MappingTable, routes: Mapping[str, Route]) -> Iterator[_Finding]:
    route = routes.get(table.route) if table.route is not None else None
    if route is None:
        prefix = "is missing: " if table.route is None else ""
        yield ("route",), f"{prefix}must be one of the routes: {', '.join(sorted(routes)) or 'there is none yet'}"
        return
    if twice := sorted(table.map.keys() & table.constants.keys()):
        yield ("constants", twice[0]), "must not be in map as well"
    elif table.map.keys() | table.constants.keys() != route.params.keys():
        takes = ", ".join(sorted(route.params)) or "no parameter at all"
        yield ("map",), f"must have exactly the parameters of route {route.name}: {takes}"
    for name, value in table.constants.items():
        try:
            if name in route.params:
                route.params[name].parse(value)
        except ValueError as error:
            yield ("constants", name), f"must be {error}, as in route {route.name}"
