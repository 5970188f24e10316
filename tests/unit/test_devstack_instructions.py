import shlex
import sys
import tomllib
from pathlib import Path

from tasks.devstack.instructions import Instructions
from tasks.devstack.sample import EMPLOYEES, write_config
from tasks.devstack.sqs import EmbeddedSqs
from tasks.settings import Settings, assemble

OWN = """
[broker]
region = "eu-west-1"
[routes.teams]
url = "https://company.com/{site}/teams/{id}"
params = { id = "positive-int", site = "string" }
[routes.shops]
url = "https://company.com/shops"
[sources.failed]
kind = "sqs"
queue = "failed"
route = "teams"
map = { id = "team.id", site = "team.site" }
"""


def format_lines(text: str, *, company_port: int | None = None, sqs: EmbeddedSqs | None = None) -> list[str]:
    settings: Settings = assemble(tomllib.loads(text), {}, file="/c/redrive.toml")
    instructions = Instructions(
        settings=settings, env_file=Path("/s t/up.env"), flower_port=5555, company_port=company_port, sqs=sqs
    )
    return instructions.format().splitlines()


def test_the_sample_has_three_ways_to_send_a_failure(tmp_path: Path):
    write_config(tmp_path / "sample.toml", api_port=8080)
    sqs = EmbeddedSqs()
    sqs.port = 9324
    lines = format_lines((tmp_path / "sample.toml").read_text(), company_port=8080, sqs=sqs)
    assert lines == [
        "",
        "Redrive is up. Ctrl-C stops it.",
        "",
        "  SQS      http://127.0.0.1:9324 (embedded, in memory)",
        "  source   employees_dlq -> route employees",
        "           http://127.0.0.1:9324/000000000000/employees-dlq",
        "  Flower   http://127.0.0.1:5555",
        "  company  http://127.0.0.1:8080/stats (employees 1 to 2000)",
        "  config   /c/redrive.toml",
        "",
        "In another terminal, first run:",
        "  . '/s t/up.env'",
        "",
        "Send a failure in one of these ways. After 5 seconds Redrive calls",
        "PUT http://127.0.0.1:8080/employees/7",
        "  aws sqs send-message --endpoint-url http://127.0.0.1:9324 \\",
        "    --queue-url http://127.0.0.1:9324/000000000000/employees-dlq \\",
        """    --message-body '{"employeeId": 7}'""",
        f"  {shlex.quote(sys.executable)} -c 'import boto3; boto3.client(",
        '    "sqs", endpoint_url="http://127.0.0.1:9324").send_message(',
        '    QueueUrl="http://127.0.0.1:9324/000000000000/employees-dlq",',
        r"""    MessageBody="{\"employeeId\": 7}")'""",
        "  redrive send employees employeeId=7",
        "",
        "Then see what becomes of it:",
        "  redrive jobs",
        "  redrive stats",
        "  redrive doctor",
        "  redrive audit",
    ]


def test_a_configuration_of_ones_own_has_one_command_for_each_route():
    lines = format_lines(OWN)
    assert "  SQS      AWS, eu-west-1" in lines
    assert lines[lines.index("  source   failed -> route teams") + 1] == "           failed"
    begin = lines.index("Send a failure, with values of your own:")
    assert lines[begin + 1 : begin + 3] == ["  redrive send teams id=VALUE site=VALUE", "  redrive send shops"]
    assert "  redrive audit" in lines


def test_on_a_configured_sqs_the_sample_uses_the_command_line_only(tmp_path: Path):
    write_config(tmp_path / "sample.toml", api_port=8080)
    lines = format_lines((tmp_path / "sample.toml").read_text(), company_port=8080)
    assert "  redrive send employees employeeId=7" in lines
    assert "boto3" not in "".join(lines)


def test_the_sample_company_has_the_employee_of_the_documentation():
    assert EMPLOYEES >= 1234
