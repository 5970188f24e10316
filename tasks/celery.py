"""The Celery application: `celery -A tasks worker`, `celery -A tasks beat`, `celery -A tasks flower`."""

from celery import Celery

from tasks.dlq.secrets.redactor import Redactor
from tasks.monitoring import attach
from tasks.settings import settings_or_exit
from tasks.worker.health import MainPulse

app = Celery("redrive", config_source="celeryconfig", task_cls="tasks.worker.delivery:RedriveTask")
attach(app, settings_or_exit().monitor.url, redact=Redactor(settings_or_exit().secrets()))
app.steps["consumer"].add(MainPulse)
