"""The Celery task of recovery: a wake-up for one job."""

from __future__ import annotations

from celery import shared_task

from tasks.dlq.clock import boottime
from tasks.dlq.errors import OutOfReach, Retryable
from tasks.names import RECOVER, WATCH
from tasks.worker.delivery import RedriveTask, send_if_possible


@shared_task(name=RECOVER, bind=True, autoretry_for=(Retryable, OutOfReach), max_retries=None)
def recover(self: RedriveTask, job_id: int) -> None:
    """Call the due jobs of the job's route, longest due first, for one slice.

    Celery's autoretry sends the job's next wake-up. The ledger alone decides whether and when (tasks/worker/delivery.py).
    """
    done = self.runtime.recovery.run_slice(job_id)
    if done.parked or done.paused:
        send_if_possible(self.app, WATCH)
    if done.retry_at is not None:
        delay = max(done.retry_at - boottime(), 1.0)
        raise Retryable(f"job {job_id} is due again in {delay:.0f} s", delay=delay)
