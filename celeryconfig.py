"""Celery's settings, made from redrive.toml and the environment (see tasks/settings).

Every public name here becomes a Celery setting: what is imported or only used on the way begins with an underscore.
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
    # A full prefetch counts as an empty poll: at kombu's default of 1 s a worker would do one task a second.
    "polling_interval": _broker.polling_interval,
    "wait_time_seconds": _broker.wait_time,
    # botocore's own patience is minutes: a wake-up that is not sent costs only a sweep.
    "client-config": {"connect_timeout": 3, "read_timeout": 10, "retries": {"total_max_attempts": 2, "mode": "standard"}},
}
if _broker.predefined_queues:
    broker_transport_options["predefined_queues"] = {name: {"url": url} for name, url in _broker.predefined_queues.items()}

# --- the queues ------------------------------------------------------------------------------------------------------
task_default_queue = _names.MAINTENANCE_QUEUE
task_create_missing_queues = False
task_queues = tuple(
    # An exchange of its own each: a kombu.Queue without one is bound to the default queue's.
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
worker_proc_alive_timeout = 30.0  # seconds; after Celery's 4 a busy machine would kill each new process of the pool, for ever
worker_enable_remote_control = False  # SQS carries none; with [monitor] url it goes over Redis (tasks/monitoring)
worker_send_task_events = bool(_settings.monitor.url)
worker_cancel_long_running_tasks_on_connection_loss = False
worker_hijack_root_logger = False

# --- tasks: a wake-up may come late, twice or never; the ledger is the truth -----------------------------------------
task_acks_late = True
task_reject_on_worker_lost = False  # a call that kills its worker must not come back by itself: the rescue counts it
task_ignore_result = True
task_store_errors_even_if_ignored = False
# For what no deadline can end (tasks/dlq/calls/limits.py). A sweep has no soft limit: broken off, it would begin at its first
# source again.
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
beat_max_loop_interval = 5  # seconds; beat would sleep through a clock that is put back and forward again
beat_schedule_filename = str(_settings.state_path / "beat-schedule")
