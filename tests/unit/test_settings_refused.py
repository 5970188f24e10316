"""What a wrong configuration is told: where, the value unless secret, and what is allowed; all at once, a line each."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.queues import dead_letter_queue
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import ConfigError
from tasks.names import CELERY_QUEUES, DLQ_SUFFIX, OWN_QUEUES
from tasks.settings import Settings, assemble
from tasks.settings.keys import keys_of
from tasks.settings.queues import Address
from tasks.settings.urls import masked

ROUTE = """
[routes.r]
url = "http://host/{id}"
params.id = "int"
"""
SOURCE = """
[sources.s]
kind = "sqs"
queue = "q"
route = "r"
map.id = "id"
"""


def lines(text: str, /, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        assemble(tomllib.loads(text), environ, file="redrive.toml")
    assert "docs/reference/configuration.md" in caught.value.hint
    assert caught.value.exit_code == 2
    found = caught.value.message.splitlines()
    assert all(line.isprintable() for line in found)
    return found


def line(text: str, /, **environ: str) -> str:
    (only,) = lines(text, **environ)
    return only


def test_a_line_has_file_path_value_and_what_is_allowed():
    assert line(ROUTE + 'deadline = "2h"') == (
        'redrive.toml: routes.r.deadline is "2h": must be a duration from "100ms" to "15m", or a number of seconds'
    )


def test_a_wrong_override_names_its_variable():
    assert line(ROUTE, REDRIVE_ROUTES__R__DEADLINE="2h").startswith(
        'REDRIVE_ROUTES__R__DEADLINE (routes.r.deadline) is "2h": must be a'
    )


def test_a_long_value_is_cut():
    assert len(line(ROUTE + f'deadline = "{"1" * 5000}"')) < 250
    assert "\\u001b" in line(ROUTE + 'deadline = "\\u001b[31m"')


def test_what_was_read_is_not_changed():
    table = tomllib.loads(ROUTE)
    assemble(table, {"REDRIVE_ROUTES__R__DELAY": "1s"})
    assert table == tomllib.loads(ROUTE)


def test_all_problems_are_told_at_once():
    text = ROUTE + 'metod = "PUT"\nwindow = 0\n[worker]\nslice = "x"\n[ledgr]\nurl = "x"'
    found = lines(text, REDRIVE_WORKER__CONCURRENCY="0", REDRIVE_LEDGR__URL="x")
    assert len(found) == 6
    for start in (
        "REDRIVE_LEDGR__URL:",
        "REDRIVE_WORKER__CONCURRENCY (worker.concurrency) is",
        "redrive.toml: ledgr is no key",
        "redrive.toml: routes.r.metod is no key",
        "redrive.toml: routes.r.window is 0",
        'redrive.toml: worker.slice is "x"',
    ):
        assert any(each.startswith(start) for each in found), start


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("[ledgr]", "ledgr is no key that Redrive knows; did you mean ledger?"),
        (ROUTE + 'metod = "PUT"', "routes.r.metod is no key that Redrive knows; did you mean method?"),
        (
            ROUTE + "retry = { max_attemps = 3 }",
            "routes.r.retry.max_attemps is no key that Redrive knows; did you mean max_attempts?",
        ),
        (ROUTE + SOURCE + 'maps.id = "id"', "sources.s.maps is no key that Redrive knows; did you mean map?"),
        ("[broker]\nxyz = 1", "broker.xyz is no key that Redrive knows; known here: "),
    ],
)
def test_unknown_keys_get_the_nearest_one(text: str, suggestion: str):
    assert suggestion in line(text)


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("REDRIVE_LEDGR__URL", "did you mean REDRIVE_LEDGER__URL?"),
        ("REDRIVE_ROUTES__R__METOD", "Redrive has no key routes.r.metod"),
        ("REDRIVE_ROUTES__R", "routes.r is a table; set a key of it, such as REDRIVE_ROUTES__R__URL"),
        ("REDRIVE_ALERTS__BURST", "alerts.burst is a table; set a key of it, such as REDRIVE_ALERTS__BURST__FAILURES"),
        ("REDRIVE_WORKER__SLICE__X", "Redrive has no key worker.slice.x"),
        ("REDRIVE_WORKER__", "Redrive has no key worker."),
    ],
)
def test_unknown_variables_are_refused_without_their_value(variable: str, told: str):
    found = line(ROUTE, **{variable: "sesame"})
    assert found.startswith(f"{variable}: ")
    assert told in found
    assert "sesame" not in found


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("delay", ['"8d"', '"-1s"', "-1", '"1w"', '"1h30m"', "true", "nan", "inf", "[1]", '"ten"', '"1e3"', '"\\u0661s"', '""']),
        ("deadline", ['"99ms"', '"16m"', "0"]),
        ("max_in_flight", ["0", "1001", "1.0", "true", '"1 "', '"٣"']),
        ("max_response_bytes", ["1023", '"17MiB"', '"1GB"', '"1kib"', "1.5"]),
        ("method", ['"put"', '"CONNECT"', "1"]),
        (
            "params.id",
            [
                '"posint"',
                "1",
                "{}",
                "{ enum = [] }",
                '{ pattern = "x", enum = ["x"] }',
                '{ enum = ["a", 1] }',
                '{ enum = [".."] }',
            ],
        ),
        ("params.id", ['{ pattern = "[" }', '{ pattern = "(a)\\\\1" }', '{ pattern = "[a-z]++" }', "{ pattern = 1 }"]),
        ("answers.success", ["200", "[]", '["9xx"]', "[true]", "[99]", '["2xx", 1.5]', "[[200]]"]),
        ("retry.max_attempts", ["0", '"many"']),
        ("retry.cap", ['"1s"']),
        ("bearer_env", ['"Bearer x"', '""', "1", '"REDRIVE_ROUTES__R__TOKEN"']),
        (
            "url",
            [
                '"ftp://host/{id}"',
                '"host/{id}"',
                '"http://host"',
                '"http://host/"',
                '"http://host/{id}/{other}"',
                '"http://{id}/"',
            ],
        ),
        ("url", ['"http://host/{+id}"', '"http://ho st/{id}"', '"http://host/../{id}"', '"http://user:pw@host/{id}"', "1", '""']),
    ],
)
def test_a_route_refuses(key: str, values: list[str]):
    for value in values:
        text = "\n".join(each for each in ROUTE.splitlines() if not each.startswith(f"{key} "))
        assert line(f"{text}\n{key} = {value}").startswith(f"redrive.toml: routes.r.{key}"), value


@pytest.mark.parametrize(
    "header",
    [
        "Authorization",
        "authorization",
        "Host",
        "Content-Length",
        "Redrive-Job",
        "redrive-x",
        "Transfer-Encoding",
        '"a b"',
        '""',
        '"a:b"',
    ],
)
def test_a_route_refuses_headers_that_are_not_its_own(header: str):
    assert "the name must" in line(f'{ROUTE}headers.{header} = "x"')


@pytest.mark.parametrize("value", ["a\\r\\nX: y", "a\\nb", "\\u0000", "€", " a", "\\u00a0a", "a\\u007f", "x" * 4001])
def test_a_route_refuses_header_values_that_break_the_request_and_never_shows_them(value: str):
    found = line(f'{ROUTE}headers.X = "{value}sesame"')
    assert found.startswith("redrive.toml: routes.r.headers.X: must be")
    assert "sesame" not in found


def test_header_names_have_no_case():
    assert "headers.x-a: must stand only once" in line(ROUTE + 'headers.X-A = "1"\nheaders.x-a = "2"')


def test_authorization_points_to_bearer_env():
    assert "bearer_env" in line(ROUTE + 'headers.Authorization = "Bearer sesame"')


def test_two_written_lists_must_not_share_a_status():
    found = line(ROUTE + "answers = { success = [200, 202], conflict = [202] }")
    assert "routes.r.answers.success" in found
    assert "conflict names as well: 202" in found


@pytest.mark.parametrize("name", ["Employees", "a-b", "a__b", "_a", "a_", "é", '""', "a" * 65])
def test_names_of_routes_and_sources(name: str):
    if name == "é":
        name = '"é"'
    found = line(f'[routes.{name}]\nurl = "http://host/"')
    assert found.startswith("redrive.toml: routes.")
    assert "the name must be" in found
    assert "[key]" not in found


@pytest.mark.parametrize(
    ("key", "value", "told"),
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
def test_a_source_refuses(key: str, value: str, told: str):
    text = "\n".join(each for each in SOURCE.splitlines() if not each.startswith(f"{key} "))
    assert told in line(f"{ROUTE}{text}\n{key} = {value}")


def test_what_is_missing_is_told_with_what_it_must_be():
    found = lines('[routes.r]\n[sources.s]\n[sources.t]\nkind = "sqs"')
    assert [each.split(": must be")[0] for each in found] == [
        "redrive.toml: routes.r.url is missing",
        "redrive.toml: sources.s.kind is missing",
        "redrive.toml: sources.t.queue is missing",
    ]


def test_what_does_not_fit_is_told_beside_what_is_wrong_elsewhere():
    bad_queue = SOURCE.replace("sources.s", "sources.t").replace('"q"', '"no queue"')
    unknown = SOURCE.replace('"r"', '"nowhere"')
    found = lines(ROUTE + unknown + bad_queue + "[worker]\nconcurrency = 0")
    assert [each.partition(":")[2].split()[0] for each in found] == [
        "sources.t.queue",
        "worker.concurrency",
        "sources.s.route",
    ]


def test_a_wrong_route_is_a_route_all_the_same():
    other = '[routes.other]\nurl = "http://host/"\n'
    assert "routes.r.deadline" in line(ROUTE + 'deadline = "2h"\n' + SOURCE)
    _, unknown = lines(ROUTE + 'deadline = "2h"\n' + other + SOURCE.replace('route = "r"', 'route = "nowhere"'))
    assert unknown.endswith('sources.s.route is "nowhere": must be one of the routes: other, r')


@pytest.mark.parametrize(
    "name", ["REDRIVE_X__\nredrive: ok=x", "REDRIVE_ROUTES__R__PARAMS__A\nredrive: ok", "REDRIVE_\x1b[2J__X"]
)
def test_a_variables_name_forges_no_line(name: str):
    assert all(ascii(name)[1:-1] in each for each in lines(ROUTE, **{name: "x"}))


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
        ('map.id = "id"\nconstants.id = "1"', 'sources.s.constants.id is "1": must not stand in map as well'),
        ('constants.id = "x"', 'sources.s.constants.id is "x": must be an integer, as route r has it'),
        ('constants.other = "1"', "sources.s.map: must have exactly the parameters of route r: id"),
        ('map.id = "id"\nunwrap = ["zip"]', 'sources.s.unwrap is ["zip"]: must be a list of sns, lambda, eventbridge, base64'),
        ('map.id = "id"\nunwrap = [["sns"]]', "sources.s.unwrap is"),
    ],
)
def test_what_a_source_makes_of_a_body(keys: str, said: str):
    assert said in line(ROUTE + SOURCE.replace('map.id = "id"', keys))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("'no json'", "must be JSON with {name} where a parameter stands"),
        ("5", "must be JSON with {name}"),
        ("""'{"id": "{other}"}'""", "must hold the route's params only: there is no parameter other"),
    ],
)
def test_the_body_of_a_route(body: str, said: str):
    assert said in line(
        ROUTE.replace("[sources", f"body = {body}\n[sources") if "[sources" in ROUTE else ROUTE + f"body = {body}\n"
    )


@pytest.mark.parametrize("name", ["celery", "cli"])
def test_a_source_has_not_the_name_of_redrives_own(name: str):
    assert f"sources.{name}: must have another name" in line(ROUTE + SOURCE.replace("sources.s", f"sources.{name}"))


def test_two_sources_do_not_share_a_queue():
    assert "sources.t.queue" in line(ROUTE + SOURCE + SOURCE.replace("sources.s", "sources.t"))
    assemble(tomllib.loads(ROUTE + SOURCE + SOURCE.replace("sources.s", "sources.t") + 'endpoint = "http://other"'), {})


BROKER = '[broker]\nurl = "sqs://localhost:4566"\nqueue_prefix = "p-"\n'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('queue = "q"', 'queue = "http://localhost:4566/000000000000/q"'),
        ('queue = "q"', 'queue = "q"\nendpoint = "http://127.0.0.1:4566/"'),
        ('queue = "http://a/1/q"', 'queue = "http://b/1/q"'),
        ('queue = "q"\nendpoint = "http://HOST"', 'queue = "q"\nendpoint = "http://host:80"'),
        ('queue = "q"\nendpoint = "http://host."', 'queue = "q"\nendpoint = "http://host"'),
        ('queue = "q"\nendpoint = "http://[2001:db8::1]"', 'queue = "q"\nendpoint = "http://[2001:DB8:0::1]"'),
        ('queue = "a-q"', 'queue = "http://h/1/a%2Dq"'),
        ('queue = "q"', 'queue = "http://h//1//q;x=y/"'),
    ],
)
def test_one_queue_is_found_however_it_is_written(one: str, other: str):
    two = SOURCE.replace('queue = "q"', one) + SOURCE.replace("sources.s", "sources.t").replace('queue = "q"', other)
    assert "must not be that of source s: each letter has one reader" in line(BROKER + ROUTE + two)


@pytest.mark.parametrize(
    "host",
    [
        "localhost.", "a.localhost", "127.1", "127.0.0.2", "0x7f.1", "2130706433", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]",
    ],
)  # fmt: skip
def test_this_machine_is_one_host_however_it_is_written(host: str):
    own = SOURCE.replace('"q"', '"p-redrive-submit"') + f'endpoint = "http://{host}:4566"'
    assert "own queue p-redrive-submit" in line(BROKER + ROUTE + own)


@pytest.mark.parametrize("host", ["128.0.0.1", "localhost.example", "notlocalhost", "[::2]"])
def test_other_hosts_are_others(host: str):
    assemble(tomllib.loads(BROKER + ROUTE + SOURCE.replace('"q"', '"p-redrive-submit"') + f'endpoint = "http://{host}:4566"'), {})


@pytest.mark.parametrize("other", ['queue = "http://a/2/q"', 'queue = "http://a/1/q"\nendpoint = "http://127.0.0.1:4567"'])
def test_queues_of_other_accounts_and_endpoints_are_others(other: str):
    two = SOURCE.replace('queue = "q"', 'queue = "http://a/1/q"')
    two += SOURCE.replace("sources.s", "sources.t").replace('queue = "q"', other)
    assemble(tomllib.loads(BROKER + ROUTE + two), {})


@pytest.mark.parametrize(
    ("queue", "dead"),
    [
        ("q", "q-dead"),
        ("q.fifo", "q-dead.fifo"),
        ("http://a/1/q", "http://b/1/q-dead"),
        ("q", "http://a/1/q-dead"),
        ("http://a/1/q", "q-dead"),
    ],
)
def test_a_dead_letter_queue_is_read_with_its_queue_and_is_no_source_of_its_own(queue: str, dead: str):
    for living, first, second in (("s", queue, dead), ("t", dead, queue)):
        two = SOURCE.replace('"q"', f'"{first}"') + SOURCE.replace("sources.s", "sources.t").replace('"q"', f'"{second}"')
        found = line(BROKER + ROUTE + two)
        assert found == (
            f'redrive.toml: sources.{"st".replace(living, "")}.queue is "{dead}": must not be the dead-letter queue of source'
            f" {living}, which reads it: each letter has one reader"
        )


@pytest.mark.parametrize(("queue", "other"), [("q", "q-dead.fifo"), ("q.fifo", "q-dead"), ("http://a/1/q", "http://a/2/q-dead")])
def test_what_is_only_called_like_a_dead_letter_queue_is_a_source(queue: str, other: str):
    two = SOURCE.replace('"q"', f'"{queue}"') + SOURCE.replace("sources.s", "sources.t").replace('"q"', f'"{other}"')
    assemble(tomllib.loads(BROKER + ROUTE + two), {})


@pytest.mark.parametrize("name", ["q", "q.fifo", "q-dead"])
def test_settings_and_adapter_call_a_dead_letter_queue_alike(name: str):
    assert Address(("h", 1), ("a", name)).dead.path == ("a", dead_letter_queue(name))


def test_aws_is_one_endpoint_whether_it_is_named_or_not():
    two = SOURCE + SOURCE.replace("sources.s", "sources.t") + 'endpoint = "https://sqs.us-east-1.amazonaws.com"'
    assert "sources.t.queue" in line(ROUTE + two)
    assemble(tomllib.loads(ROUTE + two.replace("us-east-1", "eu-west-1")), {})


@pytest.mark.parametrize(
    "host",
    [
        "sqs.eu-west-1.amazonaws.com",
        "sqs-fips.eu-west-1.amazonaws.com",
        "sqs.eu-west-1.api.aws",
        "sqs-fips.eu-west-1.api.aws",
        "eu-west-1.queue.amazonaws.com",
        "vpce-0a1b-2c.sqs.eu-west-1.vpce.amazonaws.com",
    ],
)
def test_aws_has_many_names_for_a_region(host: str):
    region = '[broker]\nregion = "eu-west-1"\n'
    two = SOURCE + SOURCE.replace("sources.s", "sources.t") + f'endpoint = "https://{host}"'
    assert "sources.t.queue" in line(region + ROUTE + two)
    assemble(tomllib.loads(ROUTE + two), {})


@pytest.mark.parametrize("host", ["queue.amazonaws.com", "us-east-1.queue.amazonaws.com"])
def test_the_oldest_name_of_sqs_is_that_of_its_first_region(host: str):
    two = SOURCE + SOURCE.replace("sources.s", "sources.t") + f'endpoint = "https://{host}"'
    assert "sources.t.queue" in line(ROUTE + two)
    assemble(tomllib.loads('[broker]\nregion = "eu-west-1"\n' + ROUTE + two), {})


@pytest.mark.parametrize(
    "name", [f"redrive-{role}{end}" for role in ("submit", "recovery", "maintenance") for end in ("", "-dead")]
)
def test_a_source_does_not_read_redrives_own_queues(name: str):
    for queue in (f"p-{name}", f"http://localhost:4566/000000000000/p-{name}"):
        found = line(BROKER + ROUTE + SOURCE.replace('"q"', f'"{queue}"'))
        assert found == (
            f'redrive.toml: sources.s.queue is "{queue}": must not be Redrive\'s own queue p-{name}:'
            " name the queue that your consumers send failures to"
        )
    assemble(tomllib.loads(BROKER + ROUTE + SOURCE.replace('"q"', f'"{name}"')), {})  # another prefix: another's


def test_a_url_without_a_queue_is_no_other_sources():
    two = SOURCE.replace('"q"', '"http://h/"') + SOURCE.replace("sources.s", "sources.t")
    assemble(tomllib.loads(BROKER + ROUTE + two), {})


def test_predefined_queues_are_redrives_own_too():
    predefined = 'predefined_queues.redrive-submit-dead = "https://sqs.us-east-1.amazonaws.com/1/team-x"\n'
    text = "[broker]\n" + predefined + ROUTE + SOURCE
    assert "own queue redrive-submit-dead" in line(text.replace('"q"', '"team-x"'))
    assemble(tomllib.loads(text.replace('"q"', '"https://sqs.us-east-1.amazonaws.com/2/team-x"')), {})


def test_redrives_own_queues_are_those_that_it_makes():
    assert set(OWN_QUEUES) == {name + end for name in CELERY_QUEUES for end in ("", DLQ_SUFFIX)}


@pytest.mark.parametrize(
    "text",
    [
        "routes = 3",
        'routes = ["r"]',
        "[routes]\nr = 1",
        "ledger = 1",
        "[alerts]\nburst = 20",
        "[[sources]]",
        ROUTE + "retry = 3",
        ROUTE + "headers = 3",
    ],
)
def test_a_value_where_a_table_belongs(text: str):
    assert "must be a table" in line(text)
    path = "routes.r.headers.x" if "routes" in text else "ledger.url"
    assert any("must be a table" in each for each in lines(text, **{"REDRIVE_" + path.upper().replace(".", "__"): "y"}))


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("ledger.url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "x", "", "sqlite+aiosqlite:///x"]),
        (
            "broker.url",
            [
                "amqp://h",
                "sqs:",
                "sqs://k@h",
                "sqs://:s@h",
                "sqs://h:0",
                "sqs://h:99999",
                "sqs://h/path",
                "sqs://h?x=y",
                "sqs://[::1]:1",
            ],
        ),
        ("broker.tls", ["yes", "1", ""]),
        ("broker.wait_time", ["16", "-1"]),
        ("broker.visibility_timeout", ["13h", "1s"]),
        ("broker.queue_prefix", ["a b", "x" * 41]),
        ("monitor.url", ["http://h", "redis://", "redis:///0"]),
        ("worker.slice", ["0s", "2m"]),
        ("sweeps.promote", ["0s", "2h"]),
        ("prune.keep", ["14d", "1000"]),
    ],
)
def test_the_other_sections_refuse(section: str, values: list[str]):
    variable = "REDRIVE_" + section.upper().replace(".", "__")
    for value in values:
        assert line("", **{variable: value}).startswith(f"{variable} ({section})"), value


def test_the_visibility_timeout_must_outlast_the_longest_slice():
    found = line('[broker]\nvisibility_timeout = "1m"\n[routes.slow]\nurl = "http://h/"\ndeadline = "10m"')
    lease = Route(name="slow", url="http://h/", deadline=600).lease
    assert found.endswith(f"must be at least a slice and the longest lease of a route: {5 + lease:g}s")


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable",
    [
        "REDRIVE_LEDGER__URL",
        "REDRIVE_BROKER__URL",
        "REDRIVE_MONITOR__URL",
        "REDRIVE_ROUTES__R__URL",
        "REDRIVE_SOURCES__S__ENDPOINT",
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        "x://user:sesame@host",
        "x://user:ses/ame@host/",
        "x://user:se@same@host",
        "x://sesame@host:99999999",
        "x://user:sesame@[host",
        "http://user:sesame@host/{id}",
        "http://user:12/sesame@host/{id}",
        "http://host/{id}{x}?token=sesame",
        "user:sesame@host",
        "sesame",
        "x://user:sesame#@host",
        "x://user:sesame?@host",
        "redis://user:ses/ame@host",
        "sqs://user:ses/ame@host",
        "postgresql://user:ses/ame@host:x",
        "http://host/{other}?token=sesame%zz",
    ],
)
def test_no_url_gives_its_credentials_away(variable: str, url: str):
    found = "\n".join(lines(ROUTE + SOURCE, **{variable: url}))
    assert "same" not in found
    assert "ses" not in found


@pytest.mark.parametrize("key", ["notify_env", "sentry_dsn_env"])
def test_a_secret_in_the_place_of_its_variables_name_is_not_shown(key: str):
    assert "sesame" not in line(f'[alerts]\n{key} = "slack://sesame"')
    assert "sesame" not in line(ROUTE + 'bearer_env = "eyJ.sesame"')


def test_values_of_unknown_keys_are_not_shown():
    assert "sesame" not in line(ROUTE + 'password = "sesame"')
    assert "sesame" not in line(ROUTE + 'auth = { token = "sesame" }')


def test_a_refused_body_is_not_shown():
    assert "sesame" not in line(ROUTE + """body = '{"apiKey": "sesame"'""")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqs://", "sqs://"),
        ("sqs://k:s@h:1", "sqs://***@h:1"),
        ("postgresql://u@h/d", "postgresql://***@h/d"),
        ("https://h/users/@{id}?a=b", "https://h/users/@{id}?a=b"),
        ("https://h:8080/users/{id}", "https://h:8080/users/{id}"),
        ("https://h:8080/users/@{id}", "https://***@{id}"),
        ("https://h/x?a=1&api_key=s&b=2#f", "https://h/x?a=1&api_key=***&b=2#f"),
        ("https://h/x?code=s/3+x==&a=1", "https://h/x?code=***&a=1"),
        ("https://h/x?a=1&CODE=s&ApiKey=s&SAS=s&Sig=s#f", "https://h/x?a=1&CODE=***&ApiKey=***&SAS=***&Sig=***#f"),
        (
            "https://h/x?access_token=s&passwd=s&x-auth=s&%63ode=s",
            "https://h/x?access_token=***&passwd=***&x-auth=***&%63ode=***",
        ),
        ("https://h/x?zipcode=1&design=2&compass=3&p=4", "https://h/x?zipcode=1&design=2&compass=3&p=4"),
        ("https://h/x?key={id}&token={id}s", "https://h/x?key={id}&token=***"),
        ("u:s@h", "***"),
    ],
)
def test_masked(url: str, shown: str):
    assert masked(url) == shown


# --- anything at all -------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.sampled_from(["1s", "sqs", "int", "http://h/"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
paths = st.sampled_from([key.path for key in keys_of(Settings)])


@given(
    st.lists(st.tuples(paths, st.integers(0, 3), values), max_size=5), st.dictionaries(st.text(max_size=9), values, max_size=1)
)
def test_whatever_stands_in_the_file_the_answer_is_settings_or_a_config_error(
    entries: list[tuple[tuple[str, ...], int, Any]], extra: dict[str, Any]
):
    table: dict[str, Any] = dict(extra)
    for path, cut, value in entries:
        below: Any = table
        steps = [step.lower() if step == "NAME" else step for step in path[: max(1, len(path) - cut)]]
        for step in steps[:-1]:
            below = below.setdefault(step, {}) if isinstance(below, dict) else {}
        if isinstance(below, dict):
            below[steps[-1]] = value
    try:
        settings = assemble(table, {}, file="redrive.toml")
    except ConfigError as error:
        told = error.message.splitlines()
        assert told
        assert all(each.startswith("redrive.toml: ") for each in told)
    else:
        assert settings.describe()["settings"]


@given(
    st.lists(st.sampled_from(["ROUTES", "R", "URL", "PARAMS", "id", "HEADERS", "", "BROKER", "X", "RETRY"]), max_size=5),
    st.text(max_size=10),
)
def test_whatever_the_variables_are_called_the_answer_is_settings_or_a_config_error(parts: list[str], value: str):
    variable = "REDRIVE_" + "__".join(parts)
    try:
        assemble(tomllib.loads(ROUTE), {variable: value})
    except ConfigError as error:
        assert variable in error.message or ": routes." in error.message  # noqa: PT017 - either outcome is right
