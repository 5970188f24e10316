"""`[sources.NAME]`: what a source refuses, and how it fits its routes."""

import tomllib

import pytest
from settings_texts import ROUTE, SOURCE, line

from tasks.settings import assemble


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("kind", '"kinesis"', 'sources.s.kind is "kinesis": must be "sqs" or "kafka"'),
        ("kind", "[1]", "sources.s.kind is [1]: must be"),
        ("queue", '"a b"', "must be a queue's name"),
        ("queue", '"sqs://x"', "must be a queue's name"),
        ("queue", f'"{"q" * 81}"', "must be a queue's name"),
        ("endpoint", '"http://user:pw@host"', "must be an http"),
        ("route", '"rr"', "must be one of the routes: r"),
        ("each", '"a["', "'a['"),
        ("each", '"f(@)"', "calls f()"),
        ("map.id", '"a..b"', "'a..b'"),
        ("map.other", '"x"', "sources.s.map: must have exactly the parameters of route r: id"),
        ("max_body", '"1GiB"', "must be a size"),
    ],
)
def test_what_a_source_refuses(key: str, value: str, expected: str):
    text = "\n".join(each for each in SOURCE.splitlines() if not each.startswith(f"{key} "))
    assert expected in line(f"{ROUTE}{text}\n{key} = {value}")


def test_a_source_has_a_route_or_choices():
    table = '[sources.s]\nkind = "sqs"\nqueue = "q"\n'
    assert line(ROUTE + table) == "redrive.toml: sources.s.route is missing: must be one of the routes: r"
    choice = '[sources.s.choose.c]\nwhen = "body.a"\nroute = "r"\n'
    assemble(tomllib.loads(ROUTE + table + choice + 'map.id = "id"'), {})
    assert "sources.s.choose.c.map: must have exactly the parameters of route r: id" in line(ROUTE + table + choice)
    assert "sources.s.choose.c.route" in line(ROUTE + table + choice.replace('"r"', '"nowhere"'))
    assert "sources.s.choose.c.when" in line(ROUTE + table + choice.replace("body.a", "body[") + 'map.id = "id"')


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('map.id = "id"\nconstants.id = "1"', 'sources.s.constants.id is "1": must not be in map as well'),
        ('constants.id = "x"', 'sources.s.constants.id is "x": must be an integer, as in route r'),
        ('constants.other = "1"', "sources.s.map: must have exactly the parameters of route r: id"),
        ('map.id = "id"\nunwrap = ["zip"]', 'sources.s.unwrap is ["zip"]: must be a list of sns, lambda, eventbridge, base64'),
        ('map.id = "id"\nunwrap = [["sns"]]', "sources.s.unwrap is"),
    ],
)
def test_what_does_not_fit_the_route(keys: str, said: str):
    assert said in line(ROUTE + SOURCE.replace('map.id = "id"', keys))
