"""Celery's settings, made from redrive.toml and the environment (see tasks/settings).

Every public name here becomes a Celery setting, so imports and helpers begin with an underscore.
"""

from kombu import Exchange as _Exchange  # type: ignore[attr-defined]
from kombu import Queue as _Queue  # type: ignore[attr-defined]

from beat_schedule import schedule as _schedule
from tasks import names as _names
from tasks.settings import settings as _read_settings
from tasks.worker.startup import exit_on_error as _exit_on_error
from tasks.worker.transport import install as _install_transport

_install_transport()
with _exit_on_error():
    _settings = _read_settings()
_broker = _settings.broker

imports = ("tasks.intake", "tasks.recovery", "tasks.sweeps", "tasks.worker.lifecycle")

# --- the broker: SQS -------------------------------------------------------------------------------------------------
broker_url = _broker.url
broker_connection_retry_on_startup = True
broker_transport_options = {
    "region": _broker.region,
    "is_secure": _broker.is_secure,
    "queue_name_prefix": _broker.queue_prefix,
    "visibility_timeout": _settings.limits.visibility_timeout,
    # kombu pauses so long after each task: at its default of 1 s a worker would run one task per second.
    "polling_interval": _broker.polling_interval,
    "wait_time_seconds": _broker.wait_time,
    # By default botocore tries for minutes. A wake-up that is not sent costs only a sweep.
    "client-config": {"connect_timeout": 3, "read_timeout": 10, "retries": {"total_max_attempts": 2, "mode": "standard"}},
}
if _broker.predefined_queues:
    broker_transport_options["predefined_queues"] = {name: {"url": url} for name, url in _broker.predefined_queues.items()}

# --- the queues ------------------------------------------------------------------------------------------------------
task_default_queue = _names.MAINTENANCE_QUEUE
task_create_missing_queues = False
task_queues = tuple(
    # Each has its own exchange: a kombu.Queue without one uses the exchange of the default queue.
    _Queue(_name, _Exchange(_name), routing_key=_name)
    for _name in _names.CELERY_QUEUES
)
task_routes = {
    _names.RECOVER: {"queue": _names.RECOVERY_QUEUE},
    _names.SUBMIT: {"queue": _names.SUBMIT_QUEUE},
    "redrive.*": {"queue": _names.MAINTENANCE_QUEUE},
}

# --- the worker ------------------------------------------------------------------------------------------------------
worker_concurrency = _settings.worker.concurrency
worker_prefetch_multiplier = 1
worker_proc_alive_timeout = 30.0  # seconds; with Celery's 4, a busy machine would kill every new process of the pool
worker_enable_remote_control = False  # SQS has no remote control; with [monitor] url, Redis carries it (tasks/monitoring)
worker_send_task_events = bool(_settings.monitor.url)
worker_cancel_long_running_tasks_on_connection_loss = False
worker_hijack_root_logger = False

# --- tasks: a wake-up may come late, twice or never; the ledger is the truth -----------------------------------------
task_acks_late = True
task_reject_on_worker_lost = False  # the rescue counts calls that kill their worker; SQS must not repeat them
task_ignore_result = True
task_store_errors_even_if_ignored = False
# For tasks that no deadline ends (tasks/dlq/calls/limits.py). A sweep has no soft limit: after one, it would begin again at its
# first source.
task_time_limit = _settings.limits.hard
task_annotations = {_names.RECOVER: {"soft_time_limit": _settings.limits.soft}}
task_publish_retry_policy = {"max_retries": 2, "interval_start": 0.2, "interval_step": 0.3, "interval_max": 0.5}

# --- JSON only -------------------------------------------------------------------------------------------------------
accept_content = ("json",)
task_serializer = "json"
result_serializer = "json"
event_serializer = "json"

timezone = "UTC"
enable_utc = True
beat_schedule = _schedule(_settings.sweeps)
beat_scheduler = "tasks.worker.lifecycle:SweepScheduler"
beat_max_loop_interval = 5  # seconds; otherwise beat would not notice for minutes that the clock was set back
beat_schedule_filename = str(_settings.state_path / "beat-schedule")
