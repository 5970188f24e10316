"""The composition root: a process has one runtime, which creates each part on first use."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, closing
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from tasks.adapters import logs, sentry
from tasks.adapters.celery_messages import MessageReader
from tasks.adapters.http import RequestsSyncApi
from tasks.adapters.jsonl import LineReader
from tasks.adapters.notify import apprise_sinks
from tasks.celery_queues import CeleryQueues
from tasks.dlq.alerts.delivery import Notifier
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.routes import ensure_routes
from tasks.dlq.reading.reader import SubmissionReader
from tasks.dlq.services.intake import Intake
from tasks.dlq.services.maintenance import Maintenance
from tasks.dlq.services.recovery import Recovery
from tasks.dlq.services.repair import SubmittedReader
from tasks.ledger_setup import create_ledger
from tasks.names import CELERY_SOURCE, SENT_SOURCE, WAKEUPS
from tasks.sources import kinds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasks.adapters.sentry import SentrySink
    from tasks.dlq.alerts.alert import AlertSink
    from tasks.dlq.ports import Source, WakeupSender
    from tasks.dlq.reading.reader import Reader
    from tasks.settings import Settings
    from tasks.sources import SourceKind

log = structlog.get_logger("redrive.runtime")


class Runtime:
    """The parts of a process of Redrive."""

    def __init__(self, settings: Settings, sender: WakeupSender, *, stopping: Callable[[], bool] = lambda: False) -> None:
        self.settings = settings
        self._sender = sender
        self._stopping = stopping
        self._closing = ExitStack()

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, after a check of its schema.

        Raises:
            LedgerOutdated, LedgerNewer: its schema is not this version's.
            LedgerUnavailable: the database does not answer.
        """
        ledger = Ledger(self.settings.ledger.url)
        migrations.check(ledger)
        ledger.transact(lambda tx: ensure_routes(tx, self.settings.routes))
        self._closing.callback(ledger.close)
        return ledger

    @cached_property
    def intake(self) -> Intake:
        return Intake(self.ledger, self.settings.routes, self._sender)

    @cached_property
    def recovery(self) -> Recovery:
        """The recovery service. Raises ConfigError when a route's token is missing."""
        return Recovery(
            self.ledger,
            self.settings.routes,
            self.api,
            self._sender,
            slice_seconds=self.settings.worker.slice,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            stopping=self._stopping,
        )

    @cached_property
    def api(self) -> RequestsSyncApi:
        """The routes' APIs over HTTP. Raises ConfigError when a route's token is missing."""
        api = RequestsSyncApi(self.settings.tokens(), ca_bundle=self.settings.worker.ca_bundle)
        self._closing.callback(api.close)
        return api

    @cached_property
    def maintenance(self) -> Maintenance:
        """The sweeps."""
        return Maintenance(self.ledger, self.settings.routes, self._sender, count_queued=self.celery_queues.count_wakeups)

    @cached_property
    def submissions(self) -> SubmissionReader:
        """Reads submissions, which name their route."""
        return SubmissionReader(routes=self.settings.routes)

    @cached_property
    def messages(self) -> MessageReader:
        """Reads Celery messages that no worker has taken."""
        return MessageReader(self.submissions, WAKEUPS)

    @cached_property
    def readers(self) -> Mapping[str, Reader]:
        """The reader of each source's records, by the source's name."""
        own: dict[str, Reader] = {
            CELERY_SOURCE: SubmittedReader(self.submissions, self.messages),
            SENT_SOURCE: LineReader(self.submissions),
        }
        return own | {name: table.reader(self.settings.routes) for name, table in self.settings.sources.items()}

    @cached_property
    def notifier(self) -> Notifier:
        """Delivers alerts in the background."""
        notifier = Notifier(self.ledger, self._sinks)
        self._closing.callback(notifier.close)
        return notifier

    @cached_property
    def _sinks(self) -> Sequence[AlertSink]:
        services = apprise_sinks(self.settings.notify_urls(), origin=self.settings.alerts.notify_env)
        return [logs.LogSink(), *([self.sentry] if self.sentry else []), *services]

    @cached_property
    def sentry(self) -> SentrySink | None:
        """Sentry in this process, started on first use; None without a DSN in the environment."""
        dsn = self.settings.sentry_dsn()
        environment = self.settings.alerts.sentry_environment
        return sentry.init(dsn, environment=environment, release=f"redrive@{version('redrive')}") if dsn else None

    def start_sentry(self) -> None:
        """Report unhandled errors of this process to Sentry, if there is a DSN."""
        if self.sentry is None:
            log.debug("sentry_off", hint="there is no DSN in the environment")

    @property
    def sources(self) -> Sequence[tuple[Source, Reader]]:
        """Every source with its reader."""
        return [*self.swept_sources, *self._other_sources]

    @cached_property
    def swept_sources(self) -> Sequence[tuple[Source, Reader]]:
        """The sources that a sweep drains: also the dead-letter queues of Redrive's own queues."""
        own = [(self._closing.enter_context(closing(source)), self.messages) for source in self.celery_queues.open_dead_letters()]
        return [*self._open_sources(sweepable=True), *own]

    @cached_property
    def _other_sources(self) -> Sequence[tuple[Source, Reader]]:
        return self._open_sources(sweepable=False)

    def _open_sources(self, *, sweepable: bool) -> Sequence[tuple[Source, Reader]]:
        kinds = {name: kind for name, kind in kinds_of(self.settings).items() if kind.sweepable is sweepable}
        return [(self._open(name, kind), self.readers[name]) for name, kind in kinds.items()]

    def _open(self, name: str, kind: SourceKind[Any]) -> Source:
        return self._closing.enter_context(closing(kind.open(kind.specify(self.settings, name))))

    @cached_property
    def celery_queues(self) -> CeleryQueues:
        """The queues of the Celery application."""
        return CeleryQueues(self.settings)

    def ensure_queues(self) -> None:
        """Create the queues that are missing, each with its dead-letter queue, unless other tools manage queues.

        Raises:
            BrokerUnavailable: SQS does not answer or refuses.
        """
        self.celery_queues.ensure()
        for name, kind in kinds_of(self.settings).items():
            kind.create(self.settings, name)

    def ensure_ledger(self) -> None:
        """Create the ledger if it is missing. A person upgrades an older one (`redrive db upgrade`).

        Raises:
            LedgerOutdated: its schema is not the one that this version writes.
            LedgerUnavailable: the database does not answer.
        """
        with create_ledger(self.settings):
            pass

    def check(self) -> None:
        """Check the secrets that a worker needs from the environment. Raises ConfigError."""
        self.settings.tokens()
        self.settings.sentry_dsn()
        apprise_sinks(self.settings.notify_urls(), origin=self.settings.alerts.notify_env)

    def close(self) -> None:
        """Close everything that is open. The runtime is not used after that."""
        self._closing.close()
