"""A route's URL template (RFC 6570) and its expansion, which never reaches a resource that the template does not name.

Quoting is not enough: `uritemplate` turns `../admin` into `..%2Fadmin`, but leaves the id `..` as it is, drops a missing
variable, and quotes nothing in `{+path}`. So a template is checked strictly once, and every expansion is compared with the
template's shape.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from uritemplate import URITemplate

from tasks.dlq.parameters import has_dot_segment
from tasks.dlq.text import show_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TEMPLATE = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.ASCII | re.DOTALL)
_AUTHORITY = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[1-9][0-9]{0,4}))?", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_EXPRESSION = re.compile(r"\{(?P<operator>[/.;?&]?)(?P<names>[A-Za-z_][A-Za-z0-9_]*(?:,[A-Za-z_][A-Za-z0-9_]*)*)\}", re.ASCII)
#: RFC 3986 sections 3.3 and 3.4: pchar, "/" and "?". Quoted octets are in upper case, and only where quoting is needed: then no
#: client or proxy on the way rewrites them.
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%(?!2[DE]|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F|7E)[0-9A-F]{2})*", re.ASCII)


def check_template(template: str, names: Iterable[str]) -> None:
    """Refuse a URL template that is not safe to expand with the parameters called `names`.

    Raises:
        ValueError: what is wrong and what is allowed.
    """
    _shape(template, frozenset(names))


def variables(template: str) -> frozenset[str]:
    """Return the names of a template's variables."""
    return frozenset(URITemplate(template).variable_names)


def expand(template: str, parameters: Mapping[str, str]) -> str:
    """Return the URL of one call: `parameters` are canonical texts as `parse_parameters` returns them.

    Raises:
        ValueError: the template is not safe, a parameter is missing or unknown, or the URL would leave the template's shape.
    """
    shape = _shape(template, frozenset(parameters))
    empty = next((name for name, value in sorted(parameters.items()) if not value), None)
    if empty:
        raise ValueError(f"parameter {empty} is empty: the URL would name another resource")
    try:
        url = URITemplate(template).expand(dict(parameters))
    except UnicodeEncodeError as error:
        raise ValueError("a parameter contains characters that a URL cannot have") from error
    if not shape.fullmatch(url) or has_dot_segment(urlsplit(url).path):
        raise ValueError(f"{show_value(url, 200)} leaves the template {template}")
    return url


@lru_cache(maxsize=256)
def _shape(template: str, names: frozenset[str]) -> re.Pattern[str]:
    """Return the pattern that every expansion must match: the template's literals, and quoted text in place of its variables.

    A match has the template's scheme, host, port, path segments and query, because quoted text contains none of the characters
    that separate these.
    """
    found = _TEMPLATE.fullmatch(template)
    if not found or found["scheme"] not in {"http", "https"}:
        raise ValueError(f"{show_value(template)} is not a URL template: it must begin with http:// or https://")
    _check_authority(found["authority"])
    rest = found["rest"]
    if not rest.startswith("/"):
        raise ValueError(f'the URL needs a path, which begins with "/", after {found["authority"]}')
    if "#" in rest:
        raise ValueError("a fragment (#…) is never sent: remove it")
    pattern, used, end = re.escape(template[: found.start("rest")]), set[str](), 0
    for expression in _EXPRESSION.finditer(rest):
        pattern += _literal(rest[end : expression.start()]) + _expression(expression, in_query="?" in rest[: expression.start()])
        used.update(expression["names"].split(","))
        end = expression.end()
    pattern += _literal(rest[end:])
    if has_dot_segment(re.sub(_EXPRESSION, "x", rest).partition("?")[0]):
        raise ValueError('a path segment "." or ".." is not allowed')
    if used - names:
        raise ValueError(
            f"{{{min(used - names)}}} has no value: every variable of the URL needs one (params.{min(used - names)})"
        )
    if names - used:
        raise ValueError(
            f"parameter {min(names - used)} is not used in the URL: write {{{min(names - used)}}} there, or remove the parameter"
        )
    return re.compile(pattern, re.ASCII)


def _check_authority(authority: str) -> None:
    if "{" in authority or "}" in authority:
        raise ValueError("scheme, host and port must not contain variables: a message must not choose the server")
    if "@" in authority:
        raise ValueError("the URL must not contain a user or password: use bearer_env for a token")
    found = _AUTHORITY.fullmatch(authority)
    if not found or int(found["port"] or 1) > 65535:  # noqa: PLR2004 - TCP's highest port
        raise ValueError(
            f"{show_value(authority)} is not a host: use a name or address in ASCII, and a port from 1 to 65535 if you need one"
        )
    if found["ipv6"]:
        ipaddress.IPv6Address(found["ipv6"])  # its ValueError says what is wrong
    elif not all(_LABEL.fullmatch(label) for label in found["host"].removesuffix(".").split(".")):
        raise ValueError(f"{show_value(authority)} is not a host: a name is letters, digits and dashes between dots")


def _literal(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError(
            f"{show_value(text)} is not an expression: write {{name}}, {{/name}}, {{.name}}, {{;name}}, {{?name}} or {{&name}}, "
            "without modifiers; {+name} and {#name} are refused because they quote nothing"
        )
    if not _LITERAL.fullmatch(text):
        raise ValueError(
            f"{show_value(text)} is not quoted like a URL: use %XX in upper case where quoting is needed, and nowhere else"
        )
    return re.escape(text)


def _expression(expression: re.Match[str], *, in_query: bool) -> str:
    """Return the pattern of one expression's expansions; RFC 6570 section 3.2."""
    operator, names = expression["operator"], expression["names"].split(",")
    if (operator in "/.;" and operator and in_query) or (operator == "?" and in_query) or (operator == "&" and not in_query):
        raise ValueError(f"{expression[0]} is on the wrong side of the query: {{?name}} begins a query, {{&name}} continues it")
    text = "[A-Za-z0-9._~%-]+"
    values = [f"{name}={text}" for name in names] if operator in {";", "?", "&"} else [text] * len(names)
    separator = {"": ",", "?": "&"}.get(operator, operator)
    return re.escape(operator) + re.escape(separator).join(values)
