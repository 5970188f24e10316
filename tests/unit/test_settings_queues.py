"""Two sources never read one SQS queue, and none reads Redrive's own."""

import tomllib

import pytest
from settings_texts import ROUTE, SOURCE, line

from tasks.adapters.sqs.queues import dead_letter_queue
from tasks.settings import assemble
from tasks.settings.queues import Address


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
def test_spellings_of_one_queue(one: str, other: str):
    two = SOURCE.replace('queue = "q"', one) + SOURCE.replace("sources.s", "sources.t").replace('queue = "q"', other)
    assert "must not be that of source s: each dead letter has one reader" in line(BROKER + ROUTE + two)


@pytest.mark.parametrize(
    "host",
    [
        "localhost.", "a.localhost", "127.1", "127.0.0.2", "0x7f.1", "2130706433", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]",
    ],
)  # fmt: skip
def test_spellings_of_this_machine(host: str):
    own = SOURCE.replace('"q"', '"p-redrive-submit"') + f'endpoint = "http://{host}:4566"'
    assert "own queue p-redrive-submit" in line(BROKER + ROUTE + own)


@pytest.mark.parametrize("host", ["128.0.0.1", "localhost.example", "notlocalhost", "[::2]"])
def test_other_hosts(host: str):
    assemble(tomllib.loads(BROKER + ROUTE + SOURCE.replace('"q"', '"p-redrive-submit"') + f'endpoint = "http://{host}:4566"'), {})


@pytest.mark.parametrize("other", ['queue = "http://a/2/q"', 'queue = "http://a/1/q"\nendpoint = "http://127.0.0.1:4567"'])
def test_other_accounts_and_endpoints(other: str):
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
def test_a_dead_letter_queue_is_not_a_second_source(queue: str, dead: str):
    for living, first, second in (("s", queue, dead), ("t", dead, queue)):
        two = SOURCE.replace('"q"', f'"{first}"') + SOURCE.replace("sources.s", "sources.t").replace('"q"', f'"{second}"')
        found = line(BROKER + ROUTE + two)
        assert found == (
            f"redrive.toml: sources.{'st'.replace(living, '')}.queue: must not be the dead-letter queue of source"
            f" {living}, which reads it: each dead letter has one reader"
        )


@pytest.mark.parametrize(("queue", "other"), [("q", "q-dead.fifo"), ("q.fifo", "q-dead"), ("http://a/1/q", "http://a/2/q-dead")])
def test_names_that_only_look_like_dead_letter_queues(queue: str, other: str):
    two = SOURCE.replace('"q"', f'"{queue}"') + SOURCE.replace("sources.s", "sources.t").replace('"q"', f'"{other}"')
    assemble(tomllib.loads(BROKER + ROUTE + two), {})


@pytest.mark.parametrize("name", ["q", "q.fifo", "q-dead"])
def test_settings_and_adapter_name_a_dead_letter_queue_alike(name: str):
    assert Address(("h", 1), ("a", name)).dead_letter_queue.path == ("a", dead_letter_queue(name))


def test_aws_is_one_endpoint_also_without_a_name():
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
def test_names_of_aws_in_a_region(host: str):
    region = '[broker]\nregion = "eu-west-1"\n'
    two = SOURCE + SOURCE.replace("sources.s", "sources.t") + f'endpoint = "https://{host}"'
    assert "sources.t.queue" in line(region + ROUTE + two)
    assemble(tomllib.loads(ROUTE + two), {})


@pytest.mark.parametrize("host", ["queue.amazonaws.com", "us-east-1.queue.amazonaws.com"])
def test_old_names_of_sqs(host: str):
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
            f"redrive.toml: sources.s.queue: must not be Redrive's own queue p-{name}:"
            " name the queue that your consumers send failures to"
        )
    assemble(tomllib.loads(BROKER + ROUTE + SOURCE.replace('"q"', f'"{name}"')), {})  # another prefix: another's


def test_a_url_without_a_queue():
    two = SOURCE.replace('"q"', '"http://h/"') + SOURCE.replace("sources.s", "sources.t")
    assemble(tomllib.loads(BROKER + ROUTE + two), {})


def test_predefined_queues_are_redrives_own():
    predefined = 'predefined_queues.redrive-submit-dead = "https://sqs.us-east-1.amazonaws.com/1/team-x"\n'
    text = "[broker]\n" + predefined + ROUTE + SOURCE
    assert "own queue redrive-submit-dead" in line(text.replace('"q"', '"team-x"'))
    assemble(tomllib.loads(text.replace('"q"', '"https://sqs.us-east-1.amazonaws.com/2/team-x"')), {})
