"""`[sources.NAME]`: where failures come from, and how their bodies become parameters."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from tasks.dlq.mapping import BodyMapping, check_expression
from tasks.settings.routes import Name, ParameterName
from tasks.settings.rules import Bytes, OneOf, Rule
from tasks.settings.sections import Section, is_queue
from tasks.settings.urls import HttpUrl


@dataclass(frozen=True)
class Queue(Rule):
    """A queue's name, or its URL when it belongs to another account."""

    meaning: str = "a queue's name (A-Z a-z 0-9 - _, at most 80 characters, .fifo at the end of a FIFO queue's) or its URL"

    def parse(self, value: Any) -> str:
        """Return the name or URL unchanged."""
        if isinstance(value, str) and is_queue(value):
            return value
        if isinstance(value, str) and "://" in value:
            return HttpUrl(self.allowed).parse(value)
        raise self.refusal()


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


class SqsSource(Section):
    """An SQS queue that any language fills with plain JSON."""

    kind: Annotated[str, OneOf(("sqs",))]
    queue: Annotated[str, Queue()]
    endpoint: Annotated[str | None, HttpUrl()] = Field(default=None, description="default: the broker's")
    route: Name
    each: Annotated[str | None, Path()] = None
    map: dict[ParameterName, Annotated[str, Path()]] = Field(default_factory=dict)
    max_body: Annotated[int, Bytes("1B", "16MiB")] = 1 << 20

    @cached_property
    def mapping(self) -> BodyMapping:
        """The compiled mapping from a body to parameters."""
        return BodyMapping(each=self.each, params=self.map)


#: A second kind makes this a union with `kind` as its discriminator.
SourceTable = SqsSource
