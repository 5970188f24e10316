"""`redrive up`: the whole service on this machine until Ctrl-C. SQS and Redis are embedded unless they are configured."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from rich.console import Console
from sqlalchemy import URL

from tasks.adapters import logs
from tasks.adapters.notify import apprise_sinks
from tasks.devstack import child
from tasks.devstack.commands import make_company_command, make_flower_command, make_redrive_commands
from tasks.devstack.company.store import Company
from tasks.devstack.env_file import write_env_file
from tasks.devstack.environment import inherit_environment
from tasks.devstack.instructions import Instructions
from tasks.devstack.processes import Processes, interruptible
from tasks.devstack.redis import EmbeddedRedis
from tasks.devstack.sample import EMPLOYEES, write_config
from tasks.devstack.sqs import EmbeddedSqs
from tasks.devstack.state_lock import lock_state_directory
from tasks.dlq.errors import ConfigError, Refused
from tasks.ledger_setup import upgrade_ledger
from tasks.runtime import Runtime
from tasks.settings import DEFAULT_FILE, Settings, load

#: Seconds between SIGTERM and SIGKILL: enough to finish an open call and to record its result.
GRACE = 8.0
#: The exit code that a shell reports for a process that SIGINT has ended.
INTERRUPTED = 130


def run(*, sample: bool) -> int:
    """Run the service. With `sample`, run the sample company's API too, with a configuration for it.

    Returns:
        0 after Ctrl-C, 1 after an essential process has ended by itself, 130 after a second Ctrl-C.

    Raises:
        RedriveError: a part cannot start. Every part that had started has been stopped.
    """
    logs.configure("ERROR")
    messages = Console(stderr=True, highlight=False)
    try:
        with interruptible(), ExitStack() as stack:
            try:
                return _run(stack, messages, sample=sample)
            except KeyboardInterrupt:
                messages.print("redrive: stopping; Ctrl-C again kills")
                stack.close()
                return 0
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(stack: ExitStack, messages: Console, *, sample: bool) -> int:
    env = inherit_environment()
    company_port = child.free_port() if sample else None
    if company_port:
        _use_sample_config(stack, messages, env, company_port)
    else:
        _use_own_config(stack, env)
    state = Path(env["REDRIVE_STATE_DIR"])
    sqs = _start_embedded_servers(stack, state, env)
    settings = load(environ=env)
    _prepare(settings)

    flower_port = child.free_port()
    commands = [*make_redrive_commands(env), make_flower_command(flower_port, env=env)]
    if company_port:
        commands.insert(0, make_company_command(state / "company", company_port, env=env))
    messages.print(f"redrive: starting {', '.join(command.name for command in commands)}; this takes some seconds")
    processes = stack.enter_context(Processes(commands, console=messages, grace=GRACE))
    processes.wait_until_ready(hint="its output is above")

    env_file = state / "up.env"
    stack.callback(env_file.unlink, missing_ok=True)
    write_env_file(env_file, settings, env)
    instructions = Instructions(settings=settings, env_file=env_file, flower_port=flower_port, company_port=company_port, sqs=sqs)
    Console(highlight=False, markup=False, soft_wrap=True).print(instructions.format())
    ended = processes.wait(find_other=sqs.find_ended if sqs else lambda: None)
    messages.print(f"redrive: {ended}; stopping the others")
    return 1


def _use_own_config(stack: ExitStack, env: dict[str, str]) -> None:
    """Check the configuration before anything is written or started, then lock its state directory."""
    if env.get("REDRIVE_CONFIG") or DEFAULT_FILE.exists():
        env["REDRIVE_CONFIG"] = str(Path(env.get("REDRIVE_CONFIG") or DEFAULT_FILE).absolute())
    settings = load(environ=env)
    if not settings.routes:
        hint = f"try: redrive up --sample, or add [routes.NAME] to {settings.source_file}"
        raise Refused("no route is configured", hint=hint)
    _check_secrets(settings)
    _lock_state(stack, env, settings.state_path)


def _use_sample_config(stack: ExitStack, messages: Console, env: dict[str, str], company_port: int) -> None:
    """Create the sample company and its configuration. The sample has a ledger of its own."""
    own = env.get("REDRIVE_CONFIG") or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if own:
        messages.print(f"redrive: --sample ignores your {own}", soft_wrap=True)
    state = _lock_state(stack, env, Path(env.get("REDRIVE_STATE_DIR") or Settings.model_fields["state_dir"].default))
    file = state / "sample.toml"
    write_config(file, api_port=company_port)
    env["REDRIVE_CONFIG"] = str(file)
    (state / "company").mkdir(exist_ok=True)
    with closing(Company(state / "company")) as company:
        company.create(range(1, EMPLOYEES + 1))
    env["REDRIVE_LEDGER__URL"] = URL.create("sqlite", database=str(state / "sample.db")).render_as_string()
    _check_secrets(load(environ=env))


def _lock_state(stack: ExitStack, env: dict[str, str], directory: Path) -> Path:
    state = directory.absolute()
    stack.enter_context(lock_state_directory(state))
    env["REDRIVE_STATE_DIR"] = str(state)
    return state


def _check_secrets(settings: Settings) -> None:
    """Check the secrets that the worker needs. Raises ConfigError."""
    try:
        settings.tokens()
    except ConfigError as error:
        raise ConfigError(error.message, hint="export it in this shell, and start again: the worker gets it from here") from error
    settings.sentry_dsn()
    apprise_sinks(settings.notify_urls(), origin=settings.alerts.notify_env)


def _start_embedded_servers(stack: ExitStack, state: Path, env: dict[str, str]) -> EmbeddedSqs | None:
    """Start Redis and SQS unless they are configured, and put their addresses into `env`. Return the embedded SQS."""
    settings = load(environ=env)
    if not settings.monitor.url:
        env["REDRIVE_MONITOR__URL"] = stack.enter_context(EmbeddedRedis(state)).url
    if settings.is_set("broker", "url") or settings.broker.predefined_queues:
        return None
    sqs = stack.enter_context(EmbeddedSqs(state))
    env["REDRIVE_BROKER__URL"] = f"sqs://embedded:embedded@127.0.0.1:{sqs.port}"
    env["REDRIVE_BROKER__TLS"] = "false"
    return sqs


def _prepare(settings: Settings) -> None:
    """Upgrade the ledger and create the queues, before several processes try to do so at once."""
    upgrade_ledger(settings)
    with closing(Runtime(settings, _NoWakeups())) as runtime:
        runtime.ensure_queues()


class _NoWakeups:
    """Sends no wake-up: the runtime here runs no job."""

    def send(self, job_id: int, *, delay: float) -> None:
        """Do nothing."""
