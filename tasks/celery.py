"""The Celery application: `celery -A tasks worker`, `celery -A tasks beat`, `celery -A tasks flower`."""

from celery import Celery

from tasks.dlq.secrets.redactor import Redactor
from tasks.monitoring import attach
from tasks.settings import settings
from tasks.worker.health import LivenessStep
from tasks.worker.startup import exit_on_error

app = Celery("redrive", config_source="celeryconfig", task_cls="tasks.worker.delivery:RedriveTask")
with exit_on_error():
    attach(app, settings().monitor.url, redact=Redactor(settings().secrets()))
app.steps["consumer"].add(LivenessStep)
