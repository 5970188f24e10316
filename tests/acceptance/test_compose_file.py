"""What stands in docker-compose.yml, the Dockerfile and deploy/: against their specifications, and against the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
import tornado.options
from compose_file import (
    COMPOSE,
    ENV_EXAMPLE,
    ROOT,
    Queue,
    Service,
    assignments,
    elasticmq_queues,
    seconds,
    services,
    variables,
)
from flower.options import default_options  # noqa: F401 - defines Flower's options, which its variables are named after
from waiting import TEST_TIMEOUT

from tasks.continuous_intake import LONG_POLL
from tasks.devstack.sqs import EmbeddedSqs
from tasks.names import CELERY_QUEUES
from tasks.runtime import Runtime
from tasks.settings import Settings, assemble
from tasks.settings.environment import CONFIG
from tasks.settings.file import read_table
from tasks.settings.keys import keys_of

if TYPE_CHECKING:
    from collections.abc import Mapping

BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LIMITS = (ROOT / "docs/reference/processes.md").read_text()
COSTS = (ROOT / "docs/reference/aws.md").read_text()
POLICIES = ROOT / "deploy/iam"
TOML = ROOT / "deploy" / "redrive.toml"
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|_KEY|AUTH|DSN|NOTIFY")
FILLED = {"EMPLOYEES_API_TOKEN": "t0ken", "FLOWER_BASIC_AUTH": "operator:only-here"}
#: What AWS' libraries read, and what the images of others do.
AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
OTHERS = {"sqs": {"JAVA_TOOL_OPTIONS"}, "postgres": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}}

ALL = list(services().values())
QUEUES = set(elasticmq_queues())
each = pytest.mark.parametrize("service", ALL, ids=lambda service: service.name)
each_of_ours = pytest.mark.parametrize("service", [one for one in ALL if one.ours], ids=lambda service: service.name)
each_long_running = pytest.mark.parametrize("service", [one for one in ALL if one.long_running], ids=lambda service: service.name)


def compose_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of a process with this environment: deploy/redrive.toml is there when the variable says so."""
    return assemble(read_table(TOML) if CONFIG in environ else {}, environ)


@pytest.fixture(scope="module")
def sqs_of_redrive() -> dict[str, Queue]:
    """The queues of an SQS that was empty when Redrive came to it with the configuration of the compose file."""
    environ = services()["recovery"].environment(FILLED)
    with EmbeddedSqs() as sqs:
        here = {"REDRIVE_BROKER__URL": f"sqs://local:only-here@127.0.0.1:{sqs.port}"}
        runtime = Runtime(compose_settings({**environ, **here}), sender=None)  # type: ignore[arg-type]
        runtime.ensure_queues()
        queues = {}
        for url in runtime.celery_queues.client.list_queues()["QueueUrls"]:
            found = runtime.celery_queues.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            policy = json.loads(found.get("RedrivePolicy", "{}"))
            queues[url.rpartition("/")[2]] = Queue(
                visibility_timeout=int(found["VisibilityTimeout"]),
                dead_letters=policy["deadLetterTargetArn"].rpartition(":")[2] if policy else None,
                max_receives=int(policy["maxReceiveCount"]) if policy else None,
            )
        runtime.close()
        return queues


def test_the_compose_file_follows_the_compose_specification():
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TEST_TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_no_findings():
    command = [BIN / "hadolint", "--no-color", "--failure-threshold=style", ROOT / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TEST_TIMEOUT)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_image_runs_what_was_tested_as_nobody_in_particular():
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)) == {"python:3.11.14-slim-bookworm"}
    assert re.findall(r"^USER (.*)$", DOCKERFILE, flags=re.MULTILINE) == ["10001:10001"]
    [user] = {option for one in ALL for option in one.raw.get("tmpfs", []) if "uid=" in option}
    assert user == "/run/redrive:uid=10001,gid=10001,mode=0700"
    assert "--constraint constraints.txt '.[flower]'" in DOCKERFILE
    assert {one.raw["image"] for one in ALL if one.ours} == {f"redrive:{version('redrive')}"}
    assert f"ARG VERSION={version('redrive')}\n" in DOCKERFILE


def test_the_image_is_built_from_what_the_ignore_file_lets_in_and_from_nothing_else():
    copied = {
        path for paths in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE) for path in paths.split()
    }
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied
    assert all((ROOT / path).exists() for path in copied)


@each
def test_a_service_is_pinned_bounded_and_kept_in(service: Service):
    assert re.search(r":\d+(\.\d+)+(-alpine)?$", service.raw["image"])
    assert service.raw["init"] is True
    assert "no-new-privileges:true" in service.raw["security_opt"]
    assert set(service.raw["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(service.raw["logging"]["options"]) == {"max-size", "max-file"}
    assert all(port.startswith("127.0.0.1:") for port in service.raw.get("ports", []))
    assert not service.raw.get("privileged")


@each_of_ours
def test_a_process_of_redrive_may_write_its_state_and_nothing_else(service: Service):
    assert service.raw["read_only"] is True
    assert service.raw["cap_drop"] == ["ALL"]
    assert "user" not in service.raw  # the image's own
    assert set(service.raw.get("volumes", [])) <= {
        "./deploy/redrive.toml:/etc/redrive/redrive.toml:ro",
        "state:/var/lib/redrive",
    }


@each_long_running
def test_a_long_running_service_is_asked_for_its_health(service: Service):
    check = service.raw["healthcheck"]
    assert set(check) == {"test", "interval", "timeout", "retries", "start_period", "start_interval"}
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert service.grace > 0


@each
def test_a_service_waits_for_what_can_say_that_it_is_ready(service: Service):
    for name, wait in service.raw.get("depends_on", {}).items():
        assert wait["condition"] == ("service_healthy" if services()[name].long_running else "service_completed_successfully")
        assert wait.get("required", True) or name in {"sqs", "postgres"}
    assert "redis" not in service.raw.get("depends_on", {}) or service.name == "flower"  # work goes on without it


@pytest.mark.parametrize("name", ["recovery", "maintenance"])
def test_a_worker_may_end_the_call_that_it_is_in(name: str):
    settings = compose_settings(services()[name].environment(FILLED))
    assert services()[name].grace >= settings.limits.grace


@pytest.mark.parametrize(
    ("name", "role"), [("recovery", "worker"), ("maintenance", "worker"), ("beat", "beat"), ("intake", "intake")]
)
def test_the_health_check_asks_the_process_that_the_service_runs(name: str, role: str):
    assert services()[name].health_check({}) == ["redrive", "doctor", "--ready", role]
    assert (role == "worker") == ("worker" in services()[name].command({}))
    assert "state:/var/lib/redrive" in services()[name].raw["volumes"]  # where the liveness files are
    assert "hostname" not in services()[name].raw  # each container has its own: processes are told apart by it


def test_the_documented_limits_are_those_of_the_code():
    limits = assemble({"routes": {"r": {"url": "http://h/"}}}, {}).limits
    assert f"the longest lease + 15 s ({limits.grace:g} s with the defaults)" in LIMITS
    assert re.search(rf"    busy    = worker\.slice \+ the longest lease +{limits.busy:g} s with the defaults\n", LIMITS)
    assert re.search(rf"    soft    = .* {limits.soft:g} s with the defaults\n", LIMITS)


def test_the_workers_share_all_queues_and_no_queue_has_two():
    words = [word for name in ("recovery", "maintenance") for word in services()[name].command({})]
    consumed = [queue for word in words if word.startswith("--queues=") for queue in word.removeprefix("--queues=").split(",")]
    assert sorted(consumed) == sorted(CELERY_QUEUES)


@each
def test_no_secret_stands_in_the_file(service: Service):
    for name, value in service.raw.get("environment", {}).items():
        if SECRET.search(name):
            assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
        assert "@" not in (value or ""), name


def test_nothing_that_is_given_away_holds_a_secret():
    for text in (COMPOSE.read_text(), TOML.read_text(), DOCKERFILE):
        assert not re.search(r"//[^\s/@]+:[^\s/@…]+@", text)
    given = assignments(ENV_EXAMPLE.read_text())
    assert {given[name] for name in given if SECRET.search(name)} == {"", "local"}


@each_of_ours
def test_every_variable_is_one_that_the_process_knows(service: Service):
    environ = service.environment({**FILLED, "REDRIVE_NOTIFY": "json://127.0.0.1:1/", "SENTRY_DSN": "http://key@127.0.0.1:1/1"})
    settings = compose_settings(environ)  # refuses a variable with __ that is no key
    named = {table.bearer_env for table in settings.route_tables.values()}
    named |= {settings.alerts.notify_env, settings.alerts.sentry_dsn_env, CONFIG}
    flower = {f"FLOWER_{name.upper()}" for name in tornado.options.options} if service.name == "flower" else set()
    assert set(service.raw["environment"]) <= {key.variable for key in keys_of(Settings)} | named | flower | AWS
    if service.name in {"recovery", "maintenance", "beat"}:
        assert settings.tokens()
        assert settings.notify_urls()
        assert settings.sentry_dsn()


@each
def test_the_images_of_others_get_what_they_know(service: Service):
    if not service.ours:
        assert set(service.raw.get("environment", {})) == OTHERS.get(service.name, set())


def test_the_example_of_the_env_file_has_every_variable_and_no_other():
    handed_on = {name for one in ALL for name, value in one.raw.get("environment", {}).items() if value is None}
    assert set(assignments(ENV_EXAMPLE.read_text())) == variables(COMPOSE.read_text()) | handed_on | {"COMPOSE_PROFILES"}


def test_elasticmq_has_the_queues_that_redrive_would_make(sqs_of_redrive: dict[str, Queue]):
    # MessageRetentionPeriod is left out: ElasticMQ does not have it and keeps messages for ever.
    assert elasticmq_queues() == sqs_of_redrive


def test_the_documented_policies_grant_what_sqs_knows_on_the_queues_that_there_are():
    known = set(boto3.client("sqs", region_name="us-east-1").meta.service_model.operation_names)
    policies = {f"deploy/iam/{file.name}": json.loads(file.read_text()) for file in POLICIES.iterdir()}
    assert set(re.findall(r"\[`(deploy/iam/.*)`\]", COSTS)) == policies.keys()
    for statement in [statement for policy in policies.values() for statement in policy["Statement"]]:
        actions, resources = ([one] if isinstance(one, str) else one for one in (statement["Action"], statement["Resource"]))
        assert {action.removeprefix("sqs:") for action in actions} <= known
        assert actions == ["sqs:ListQueues"] if resources == ["*"] else {arn.rpartition(":")[2] for arn in resources} <= QUEUES


def idle_requests(settings: Settings) -> float:
    """Return the SQS requests of 30 idle days, in millions: one source, three queues of workers, and intake."""
    sweeps, looked_into = settings.sweeps, 2 * 1 + 3
    sent = sum(1 / every for every in (sweeps.promote, sweeps.rescue, sweeps.sources, sweeps.watch, sweeps.prune))
    per_second = 3 * sent + looked_into / sweeps.sources + 3 / settings.broker.wait_time + looked_into / LONG_POLL
    return per_second * 30 * 86400 / 1e6


def test_the_documented_costs_follow_from_the_intervals():
    [slower] = re.findall(r"```toml\n(.*?)```", COSTS, flags=re.DOTALL)
    assert f"is {idle_requests(assemble({}, {})):.1f} million requests in 30 days" in COSTS
    assert f"make it {idle_requests(assemble(tomllib.loads(slower), {})):.1f} million" in COSTS
