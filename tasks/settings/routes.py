"""`[routes.NAME]`: a table of redrive.toml becomes a `tasks.dlq.calls.route.Route`."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from tasks.dlq.calls.body_template import BodyTemplate
from tasks.dlq.calls.outcome import Answers, parse_status_set
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.calls.route import Route
from tasks.dlq.calls.url import check_template, variables
from tasks.dlq.parameters import Integer
from tasks.dlq.secrets.names import MASK, masked_document
from tasks.settings.headers import HeaderName, HeaderValue, merge_headers
from tasks.settings.params import TypeOfParameter
from tasks.settings.sections import Section
from tasks.settings.urls import masked, split_url
from tasks.settings.values import (
    DAY,
    HOUR,
    KIB,
    MIB,
    MINUTE,
    Display,
    KeyPath,
    ParameterName,
    Refusal,
    Seconds,
    Size,
    VariableName,
    WholeNumber,
    format_duration,
)

DEFAULT_HEADERS = {"Content-type": "application/json"}


def _check_url(template: str) -> str:
    """Return the template; `RouteTable` compares its variables with the parameters. Raises ValueError."""
    parts = split_url(template)
    if parts.scheme not in {"http", "https"} or not parts.netloc or f"{MASK}@" in masked(template):
        raise ValueError
    return template


def _parse_statuses(value: Any) -> frozenset[int]:
    if isinstance(value, str):  # from the environment
        value = [item.strip() for item in value.strip("[]").split(",") if item.strip()]
    if not isinstance(value, list) or not all(isinstance(item, int | str) for item in value):
        raise ValueError
    return parse_status_set(value)


def _show_statuses(statuses: frozenset[int]) -> list[int | str]:
    """Return the statuses; each whole hundred is one text."""
    whole = [family for family in range(1, 6) if statuses.issuperset(range(family * 100, family * 100 + 100))]
    rest = sorted(status for status in statuses if status // 100 not in whole)
    return [*rest, *(f"{family}xx" for family in whole)]


def _check_body(text: str) -> str:
    BodyTemplate(text)
    return text


def _show_body(text: str) -> str:
    document = json.loads(text)
    shown = masked_document(document)
    return text if shown == document else json.dumps(shown, ensure_ascii=False)


#: A URL template as in RFC 6570.
UrlTemplate = Annotated[
    str,
    AfterValidator(_check_url),
    Display(
        'an http:// or https:// URL, such as "https://company.com/employees/{employeeId}", without user and password',
        show=masked,
        secret=True,
    ),
]
Method = Annotated[Literal["PUT", "POST", "PATCH", "DELETE", "GET"], Display('"PUT" or "POST" or "PATCH" or "DELETE" or "GET"')]
Statuses = Annotated[
    frozenset[int],
    PlainValidator(_parse_statuses),
    Display('a list of statuses, such as [404, "2xx", "200-299"]', show=_show_statuses),
]
#: A refused body is never repeated: it may hold secrets, and where they begin and end is not known.
Body = Annotated[
    str,
    AfterValidator(_check_body),
    Display('JSON with {name} for each parameter, such as \'{"id": "{employeeId}"}\'', show=_show_body, secret=True),
]


class RetryTable(Section):
    """When and how often a key is called again."""

    max_attempts: WholeNumber = Field(default=RetryPolicy.max_attempts, ge=1, le=1000)
    base: Seconds = Field(default=RetryPolicy.base, ge=0.1, le=DAY)
    cap: Seconds = Field(default=RetryPolicy.cap, ge=0.1, le=7 * DAY)
    max_misses: WholeNumber = Field(default=RetryPolicy.max_misses, ge=1, le=10_000)
    max_retry_after: Seconds = Field(default=RetryPolicy.max_retry_after, ge=1, le=7 * DAY)

    @model_validator(mode="after")
    def _check_cap(self) -> Self:
        if self.cap < self.base:
            raise Refusal((("cap",), f"must not be shorter than base, {format_duration(self.base)}"))
        return self


class AnswersTable(Section):
    """Which HTTP status means what. A status that one list names is removed from the defaults of the others."""

    success: Statuses = Answers.success
    refused: Statuses = Answers.refused
    throttled: Statuses = Answers.throttled
    conflict: Statuses = Answers.conflict
    api_fault: Statuses = Answers.api_fault

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        if not self.success:
            raise Refusal((("success",), "must name at least one status"))
        given = sorted(self.model_fields_set)
        for position, name in enumerate(given):
            for other in given[:position]:
                if both := getattr(self, name) & getattr(self, other):
                    shown = ", ".join(str(status) for status in sorted(both)[:5])
                    raise Refusal(((name,), f"must not name statuses that {other} names as well: {shown}"))
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

    url: UrlTemplate
    method: Method = "PUT"
    params: dict[ParameterName, TypeOfParameter] = Field(default_factory=dict)
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, description="default: Content-type: application/json")
    body: Body | None = Field(default=None, description="default: no body")
    bearer_env: VariableName | None = None
    delay: Seconds = Field(default=Route.delay, ge=0, le=7 * DAY)
    deadline: Seconds = Field(default=Route.deadline, ge=0.1, le=15 * MINUTE)
    drain: Seconds = Field(default=Route.drain, ge=0, le=15 * MINUTE)
    max_in_flight: WholeNumber = Field(default=Route.max_in_flight, ge=1, le=1000)
    window: WholeNumber = Field(default=Route.window, ge=1, le=10_000)
    probe_interval: Seconds = Field(default=Route.probe_interval, ge=1, le=HOUR)
    max_response_bytes: Size = Field(default=Route.max_response_bytes, ge=KIB, le=16 * MIB)
    retry: RetryTable = RetryTable()
    answers: AnswersTable = AnswersTable()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        found: list[tuple[KeyPath, str]] = []
        in_body = self._body.variables if self._body else frozenset()
        if unknown := sorted(in_body - self.params.keys()):
            found.append((("body",), f"must use only the route's params: there is no parameter {unknown[0]}"))
        try:
            check_template(self.url, self.params.keys() - (in_body - variables(self.url)))
        except ValueError as error:
            detail = error if masked(self.url) == self.url else "the reason is not shown, since the URL holds a secret"
            found.append((("url",), f"must be a template for the route's params: {detail}"))
        lower = [name.lower() for name in self.headers]
        found += [
            (("headers", name), "must be set only once: header names have no case")
            for position, name in enumerate(self.headers)
            if name.lower() in lower[:position]
        ]
        if found:
            raise Refusal(*found)
        return self

    @property
    def _body(self) -> BodyTemplate | None:
        numbers = frozenset(name for name, kind in self.params.items() if isinstance(kind, Integer))
        return BodyTemplate(self.body, numbers) if self.body is not None else None

    def build(self, name: str) -> Route:
        """Return the route of this name."""
        as_they_are = self.model_dump(exclude={"headers", "params", "body", "retry", "answers"})
        return Route(
            name=name,
            params=dict(self.params),
            headers=merge_headers(DEFAULT_HEADERS, self.headers),
            body=self._body,
            answers=self.answers.build(),
            retry=RetryPolicy(**self.retry.model_dump()),
            **as_they_are,
        )
