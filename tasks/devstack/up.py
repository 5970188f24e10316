"""`redrive up`: the whole service on this machine, until Ctrl-C. What production brings (SQS, Redis) is embedded if missing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console

from tasks.adapters import logs
from tasks.adapters.notify import apprise_sinks
from tasks.devstack import child
from tasks.devstack import sample as sample_config
from tasks.devstack.announcement import Announcement
from tasks.devstack.environment import inherited
from tasks.devstack.processes import Command, Ended, Processes, interruptible
from tasks.devstack.readiness import Readiness
from tasks.devstack.redis import EmbeddedRedis
from tasks.devstack.service import READY, company_api, service
from tasks.devstack.sqs import EmbeddedSqs
from tasks.devstack.state import held
from tasks.dlq.errors import ConfigError
from tasks.ledger_setup import upgrade_ledger
from tasks.monitoring import flower_command
from tasks.runtime import Runtime
from tasks.settings import DEFAULT_FILE, load

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.settings import Settings

#: Seconds between Ctrl-C and SIGKILL: a call that is open may end, and be written down.
GRACE = 8.0
#: What a shell reports for a process that ended by SIGINT.
INTERRUPTED = 130


def run(*, sample: bool) -> int:
    """Run until Ctrl-C, and return 0; until a process ends by itself, and return 1; until a second Ctrl-C, and return 130.

    With `sample`, the sample company's API runs as well, and a configuration for it is written unless there is one.

    Raises:
        RedriveError: something cannot start; whatever had started has been stopped.
    """
    logs.configure("ERROR")
    messages = Console(stderr=True, highlight=False)
    try:
        with interruptible(), ExitStack() as stack:
            try:
                return _run(stack, messages, with_company=sample)
            except KeyboardInterrupt:
                messages.print("redrive: stopping; Ctrl-C again kills")
                stack.close()
                return 0
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(stack: ExitStack, messages: Console, *, with_company: bool) -> int:
    env = inherited()
    settings = load(environ=env)
    _check_secrets(settings)
    state = settings.state_path.absolute()
    env["REDRIVE_STATE_DIR"] = str(state)
    stack.enter_context(held(state))
    company = child.free_port() if with_company else None
    if company and not env.get("REDRIVE_CONFIG") and not DEFAULT_FILE.exists():
        env["REDRIVE_CONFIG"] = str(sample_config.write(state, api_port=company))
    sqs = _embed(stack, state, env)
    settings = load(environ=env)
    upgrade_ledger(settings)
    Runtime(settings, _NoBell()).ensure_queues()  # else its processes would, at the same time

    flower = child.free_port()
    ports = {"flower": (flower, "/healthcheck")}
    commands = service(env)
    commands += [Command(name="flower", argv=[*flower_command(flower), "--logging=error"], env=env, essential=False)]
    if company:
        ports["company"] = (company, "/health")
        commands.insert(0, company_api(state / "company", company, "--employees", str(sample_config.EMPLOYEES), env=env))
    readiness = Readiness(READY, ports)
    messages.print(f"redrive: starts {', '.join(command.name for command in commands)}; it takes some seconds")
    processes = stack.enter_context(Processes(commands, console=messages, grace=GRACE, heard=readiness.heard))
    readiness.wait(processes)

    announcement = Announcement(state=state, settings=settings, env=env, flower=flower, sqs=sqs, company=company)
    stack.callback(announcement.file.unlink, missing_ok=True)
    announcement.write()
    Console(highlight=False, markup=False, soft_wrap=True).print(announcement.text())
    ended = processes.wait(also=lambda: _end_of(sqs))
    messages.print(f"redrive: {ended}; stopping the others")
    return 1


def _check_secrets(settings: Settings) -> None:
    """Look for what the worker would miss, while nothing is started yet. Raises ConfigError."""
    try:
        settings.tokens()
    except ConfigError as error:
        raise ConfigError(error.message, hint="export it in this shell, and start again: the worker gets it from here") from error
    settings.sentry_dsn()
    apprise_sinks(settings.notify_urls(), origin=settings.alerts.notify_env)


def _embed(stack: ExitStack, state: Path, env: dict[str, str]) -> EmbeddedSqs | None:
    """Start what is not configured, and put it into `env`. Return SQS if it is ours."""
    settings = load(environ=env)
    if not settings.monitor.url:
        env["REDRIVE_MONITOR__URL"] = stack.enter_context(EmbeddedRedis(state)).url
    if settings.describe()["settings"]["broker.url"]["from"] != "default" or settings.broker.predefined_queues:
        return None
    sqs = stack.enter_context(EmbeddedSqs(state))
    env["REDRIVE_BROKER__URL"] = f"sqs://embedded:embedded@127.0.0.1:{sqs.port}"
    env["REDRIVE_BROKER__TLS"] = "false"
    return sqs


class _NoBell:
    """The doorbell of a runtime that has nothing to ring for."""

    def ring(self, job_id: int, *, delay: float) -> None:
        """Ring nothing."""


def _end_of(sqs: EmbeddedSqs | None) -> Ended | None:
    code = sqs.process.poll() if sqs else None
    return None if code is None else Ended(name="sqs", code=code)
