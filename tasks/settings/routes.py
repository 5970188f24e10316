"""`[routes.NAME]`: a table of redrive.toml becomes a `tasks.dlq.calls.route.Route`."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from tasks.dlq.calls.body_template import BodyTemplate
from tasks.dlq.calls.outcome import Answers, parse_status_set
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.calls.route import Route
from tasks.dlq.calls.url import check_template, variables
from tasks.dlq.parameters import Integer, ParameterType
from tasks.dlq.secrets.names import masked_document
from tasks.settings.headers import HeaderName, HeaderValue, merged
from tasks.settings.params import TypeOfParameter
from tasks.settings.rules import Bytes, Count, Matching, OneOf, Rule, Seconds, Variable, duration
from tasks.settings.sections import Conflict, Section
from tasks.settings.urls import MASK, Url, masked

DEFAULT_HEADERS = {"Content-type": "application/json"}

#: No "__": it separates the parts of an environment variable's name.
NAME = Matching(r"(?=.{1,64}\Z)[a-z0-9]+(?:_[a-z0-9]+)*", "a name of a-z 0-9 with single _ between, at most 64 characters")
Name = Annotated[str, NAME]
ParameterName = Annotated[str, Matching(r"[A-Za-z_][A-Za-z0-9_]{0,63}", "the name of a template variable: letters, digits, _")]


@dataclass(frozen=True)
class Template(Url):
    """A URL template as RFC 6570 has it; `RouteTable` compares its variables with the parameters."""

    meaning: str = 'an http:// or https:// URL, such as "https://company.com/employees/{employeeId}", without user and password'

    def check(self, url: str, parts: Any) -> str:
        """Return the template unchanged."""
        if parts.scheme not in {"http", "https"} or not parts.netloc or f"{MASK}@" in masked(url):
            raise self.refusal()
        return url


@dataclass(frozen=True)
class Statuses(Rule):
    """A list of HTTP statuses; from the environment a text with commas."""

    meaning: str = 'a list of statuses, such as [404, "2xx", "200-299"]'

    def parse(self, value: Any) -> frozenset[int]:
        """Return the statuses."""
        if isinstance(value, str):
            value = [item.strip() for item in value.strip("[]").split(",") if item.strip()]
        if not isinstance(value, list) or not all(isinstance(item, int | str) for item in value):
            raise self.refusal()
        try:
            return parse_status_set(value)
        except ValueError as error:
            raise ValueError(f"must be {self.allowed}: {error}") from None

    def show(self, value: frozenset[int]) -> list[int | str]:
        """Return the statuses with each whole hundred as one text."""
        whole = [family for family in range(1, 6) if value.issuperset(range(family * 100, family * 100 + 100))]
        rest = sorted(status for status in value if status // 100 not in whole)
        return [*rest, *(f"{family}xx" for family in whole)]


@dataclass(frozen=True)
class Body(Rule):
    """A JSON template for the body of a call."""

    meaning: str = 'JSON with {name} where a parameter stands, such as \'{"id": "{employeeId}"}\''

    def parse(self, value: Any) -> str:
        """Return the template unchanged."""
        if not isinstance(value, str):
            raise self.refusal()
        try:
            BodyTemplate(value)
        except ValueError as error:
            raise ValueError(f"must be {self.allowed}: {error}") from None
        return value

    def show(self, value: str | None) -> str | None:
        """Return the template without what looks like secrets in it."""
        document = json.loads(value) if value is not None else None
        shown = masked_document(document)
        return value if shown == document else json.dumps(shown, ensure_ascii=False)

    def echo(self, value: Any) -> str | None:  # noqa: ARG002
        """Return nothing: there may be secrets in it, and where they begin and end is not known."""
        return None


class RetryTable(Section):
    """When and how often a key is called again."""

    max_attempts: Annotated[int, Count(1, 1000)] = RetryPolicy.max_attempts
    base: Annotated[float, Seconds("100ms", "1d")] = RetryPolicy.base
    cap: Annotated[float, Seconds("100ms", "7d")] = RetryPolicy.cap
    max_misses: Annotated[int, Count(1, 10000)] = RetryPolicy.max_misses
    max_retry_after: Annotated[float, Seconds("1s", "7d")] = RetryPolicy.max_retry_after

    @model_validator(mode="after")
    def _cap_above_base(self) -> Self:
        if self.cap < self.base:
            raise Conflict((("cap",), f"must not be shorter than base, {duration(self.base)}"))
        return self


class AnswersTable(Section):
    """Which HTTP status means what. A status that one list names is taken out of the others' defaults."""

    success: Annotated[frozenset[int], Statuses()] = Answers.success
    refused: Annotated[frozenset[int], Statuses()] = Answers.refused
    throttled: Annotated[frozenset[int], Statuses()] = Answers.throttled
    conflict: Annotated[frozenset[int], Statuses()] = Answers.conflict
    api_fault: Annotated[frozenset[int], Statuses()] = Answers.api_fault

    @model_validator(mode="after")
    def _one_meaning_each(self) -> Self:
        if not self.success:
            raise Conflict((("success",), "must name at least one status"))
        given = sorted(self.model_fields_set)
        for position, name in enumerate(given):
            for other in given[:position]:
                both = getattr(self, name) & getattr(self, other)
                if both:
                    shown = ", ".join(str(status) for status in sorted(both)[:5])
                    raise Conflict(((name,), f"must not name what {other} names as well: {shown}"))
        return self

    def build(self) -> Answers:
        """Return the answers as the retry policy reads them."""
        given = frozenset().union(*(getattr(self, name) for name in self.model_fields_set))
        lists = {
            name: getattr(self, name) if name in self.model_fields_set else getattr(self, name) - given
            for name in type(self).model_fields
        }
        return Answers(**lists)


class RouteTable(Section):
    """One route as redrive.toml has it."""

    url: Annotated[str, Template()]
    method: Annotated[str, OneOf(("PUT", "POST", "PATCH", "DELETE", "GET"))] = Route.method
    params: dict[ParameterName, Annotated[ParameterType, TypeOfParameter()]] = Field(default_factory=dict)
    headers: dict[Annotated[str, HeaderName()], Annotated[str, HeaderValue()]] = Field(
        default_factory=dict, description="default: Content-type: application/json"
    )
    body: Annotated[str | None, Body()] = Field(default=None, description="default: no body")
    bearer_env: Annotated[str | None, Variable()] = None
    delay: Annotated[float, Seconds("0s", "7d")] = Route.delay
    deadline: Annotated[float, Seconds("100ms", "15m")] = Route.deadline
    drain: Annotated[float, Seconds("0s", "15m")] = Route.drain
    max_in_flight: Annotated[int, Count(1, 1000)] = Route.max_in_flight
    window: Annotated[int, Count(1, 10000)] = Route.window
    probe_interval: Annotated[float, Seconds("1s", "1h")] = Route.probe_interval
    max_response_bytes: Annotated[int, Bytes("1KiB", "16MiB")] = Route.max_response_bytes
    retry: RetryTable = RetryTable()
    answers: AnswersTable = AnswersTable()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        found: list[tuple[tuple[str, ...], str]] = []
        in_body = self._body.variables if self._body else frozenset()
        if strange := sorted(in_body - self.params.keys()):
            found.append((("body",), f"must hold the route's params only: there is no parameter {strange[0]}"))
        try:
            check_template(self.url, self.params.keys() - (in_body - variables(self.url)))
        except ValueError as error:
            detail = error if masked(self.url) == self.url else "the reason is not shown, since the URL holds a secret"
            found.append((("url",), f"must be a template for the route's params: {detail}"))
        lower = [name.lower() for name in self.headers]
        found += [
            (("headers", name), "must stand only once: header names have no case")
            for position, name in enumerate(self.headers)
            if name.lower() in lower[:position]
        ]
        if found:
            raise Conflict(*found)
        return self

    @property
    def _body(self) -> BodyTemplate | None:
        numbers = frozenset(name for name, kind in self.params.items() if isinstance(kind, Integer))
        return BodyTemplate(self.body, numbers) if self.body is not None else None

    def build(self, name: str) -> Route:
        """Return the route of this name."""
        return Route(
            name=name,
            url=self.url,
            method=self.method,
            params=dict(self.params),
            headers=merged(DEFAULT_HEADERS, self.headers),
            bearer_env=self.bearer_env,
            delay=self.delay,
            deadline=self.deadline,
            drain=self.drain,
            max_in_flight=self.max_in_flight,
            window=self.window,
            probe_interval=self.probe_interval,
            max_response_bytes=self.max_response_bytes,
            answers=self.answers.build(),
            body=self._body,
            retry=RetryPolicy(**self.retry.model_dump()),
        )
