"""What `redrive up` proposes to try a configuration with."""

import tomllib
from pathlib import Path

import pytest

from tasks.devstack import examples
from tasks.devstack.announcement import Announcement
from tasks.devstack.sample import EMPLOYEES
from tasks.settings import Settings, assemble

ROUTE = """
[broker]
url = "sqs://key:sec-ret@127.0.0.1:9324"
[routes.teams]
url = "https://company.com/{site}/teams/{id}{?q}"
method = "POST"
delay = "90s"
params = { id = "positive-int", site = { enum = ["kitchen", "hall"] }, q = "string" }
"""
SOURCE = """
[sources.failed]
kind = "sqs"
queue = "http://127.0.0.1:9324/0/failed"
route = "teams"
"""
MAP = 'map = { id = "team.id", site = "team.site", q = "q" }'


def made(text: str) -> Settings:
    return assemble(tomllib.loads(text), {}, file="redrive.toml")


def told(text: str) -> list[str]:
    announcement = Announcement(state=Path("/s t"), settings=made(text), env={}, flower=1, sqs=None, company=None)
    return announcement.text().splitlines()


def body(mapping: str) -> str | None:
    settings = made(ROUTE + SOURCE + mapping)
    route = settings.route("teams")
    values = examples.parameters(route)
    assert values
    return examples.body(settings.sources["failed"], route, values)


@pytest.mark.parametrize(
    ("mapping", "written"),
    [
        (MAP, '{"team": {"id": 7, "site": "kitchen"}, "q": "7"}'),
        (f'each = "all.teams[]"\n{MAP}', '{"all": {"teams": [{"team": {"id": 7, "site": "kitchen"}, "q": "7"}]}}'),
        (MAP.replace('"q" }', '"team.id" }'), None),
        (MAP.replace('"q" }', '"team" }'), None),
        (MAP.replace('"q" }', '"q || r" }'), None),
        (f'each = "teams[?open]"\n{MAP}', None),
        (f'each = "q[]"\n{MAP}', '{"q": [{"team": {"id": 7, "site": "kitchen"}, "q": "7"}]}'),
        (f'max_body = "9B"\n{MAP}', None),
    ],
)
def test_a_body_is_one_that_the_source_maps_to_the_parameters(mapping: str, written: str | None):
    assert body(mapping) == written


def test_a_persons_own_first_source_is_told_with_the_call_that_it_leads_to():
    lines = told(ROUTE + SOURCE + MAP)
    begin = lines.index("From another terminal:")
    assert lines[begin + 1 :] == [
        "  . '/s t/up.env'",
        "",
        "Hand in a failure, in any of these ways; after 90s it leads to",
        "POST https://company.com/kitchen/teams/7?q=7",
        "  aws sqs send-message --endpoint-url http://127.0.0.1:9324 \\",
        "    --queue-url http://127.0.0.1:9324/0/failed \\",
        """    --message-body '{"team": {"id": 7, "site": "kitchen"}, "q": "7"}'""",
        "  python3 -c 'import boto3; boto3.client(",
        '    "sqs", endpoint_url="http://127.0.0.1:9324").send_message(',
        '    QueueUrl="http://127.0.0.1:9324/0/failed",',
        r"""    MessageBody="{\"team\": {\"id\": 7, \"site\": \"kitchen\"}, \"q\": \"7\"}")'""",
        "  redrive send teams id=7 site=kitchen q=7",
        "",
        "And look at what became of it:",
        "  redrive jobs",
        "  redrive audit",
    ]


def test_without_a_source_a_failure_is_sent_by_hand():
    lines = told(ROUTE)
    assert "  redrive send teams id=7 site=kitchen q=7" in lines
    assert not [line for line in lines if "aws sqs" in line]


def test_a_value_that_nobody_can_guess_is_left_to_the_person():
    lines = told('[routes.teams]\nurl = "http://h/{code}"\nparams.code = { pattern = "[A-Z]{3}" }')
    assert "  redrive send teams code=VALUE" in lines


def test_on_aws_the_region_is_spelled_out():
    aws = 'queue = "https://sqs.eu-west-1.amazonaws.com/1/failed"'
    lines = told(
        (ROUTE + SOURCE + MAP)
        .replace('url = "sqs://key:sec-ret@127.0.0.1:9324"', 'region = "eu-west-1"')
        .replace('queue = "http://127.0.0.1:9324/0/failed"', aws)
    )
    assert "  aws sqs send-message --region eu-west-1 \\" in lines
    assert '    "sqs", "eu-west-1").send_message(' in lines
    assert "endpoint" not in "".join(lines)


def test_the_file_for_another_terminal_means_the_same_wherever_that_stands(tmp_path: Path):
    settings = made(ROUTE + '[ledger]\nurl = "sqlite:///here/ledger.db"')
    env = {"REDRIVE_STATE_DIR": "/s", "HOME": "/h", "REDRIVE_X": "a b"}
    announcement = Announcement(state=tmp_path, settings=settings, env=env, flower=1, sqs=None, company=None)
    announcement.write()
    *lines, path = announcement.file.read_text().splitlines()
    assert lines == [
        "export AWS_ACCESS_KEY_ID=key",
        "export AWS_DEFAULT_REGION=us-east-1",
        "export AWS_ENDPOINT_URL_SQS=http://127.0.0.1:9324",
        "export AWS_SECRET_ACCESS_KEY=sec-ret",
        f"export REDRIVE_CONFIG={Path.cwd()}/redrive.toml",
        f"export REDRIVE_LEDGER__URL=sqlite:///{Path.cwd()}/here/ledger.db",
        "export REDRIVE_STATE_DIR=/s",
        "export REDRIVE_X='a b'",
    ]
    assert path.startswith("export PATH=/")
    assert path.endswith(':"$PATH"')
    assert announcement.file.stat().st_mode & 0o777 == 0o600


def test_the_sample_company_tells_whom_it_employs_and_1234_is_among_them():
    announcement = Announcement(state=Path("/s"), settings=made(ROUTE), env={}, flower=1, sqs=None, company=8080)
    assert "  company  http://127.0.0.1:8080/stats (employees 1 to 2000)" in announcement.text().splitlines()
    assert 1234 <= EMPLOYEES == 2000
