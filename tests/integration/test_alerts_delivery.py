"""The delivery of alerts: once per sink when one begins and once when it is over, and no sink delays another or a job."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alerts_bench import KINDS, AlertBench, RecordingSink, open_bench
from ledger_bench import SQLITE, URLS
from structlog.testing import capture_logs
from waiting import TEST_TIMEOUT

from tasks.dlq.alerts.alert import Alert
from tasks.dlq.alerts.delivery import LEASE, RETRY, Notifier, TimeLimitedSink, deliver
from tasks.dlq.alerts.state import update_alerts
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.ledger import Ledger


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlertBench]:
    yield from open_bench(request.param, tmp_path)


# --- delivering ------------------------------------------------------------------------------------------------------


def test_only_a_sink_that_failed_gets_an_alert_again(bench: AlertBench):
    good, bad = RecordingSink("good"), RecordingSink("bad")
    bad.down = True
    bench.add_job()
    bench.sweep(good, bad)
    bench.sweep(good, bad)
    assert (len(good.alerts), bad.calls, bench.undelivered) == (1, 2, 1)

    bad.down = False
    bench.sweep(good, bad)
    bench.sweep(good, bad)
    assert (len(good.alerts), len(bad.alerts), bench.undelivered) == (1, 1, 0)


def test_a_sink_that_failed_is_tried_again_after_a_while(bench: AlertBench):
    bench.sink.down = True
    bench.add_job()
    bench.update_alerts()
    with capture_logs() as logs:
        deliver(bench.ledger, [bench.sink])
        deliver(bench.ledger, [bench.sink])
    assert bench.sink.calls == 1
    assert [(line["event"], line["sink"]) for line in logs] == [("alert_delivery_failed", "recording")]

    bench.clock.advance(RETRY / 1000)
    deliver(bench.ledger, [bench.sink])
    assert bench.sink.calls == 2


def test_a_sink_that_is_down_is_tried_once_for_many_alerts(bench: AlertBench):
    good, bad = RecordingSink("good"), RecordingSink("bad")
    bad.down = True
    for n in range(6):
        bench.add_job(group=f"g{n}")
    bench.sweep(good, bad)

    assert (len(good.alerts), bad.calls, bench.undelivered) == (6, 1, 6)


def test_a_sink_that_raises_has_failed_and_its_message_is_not_logged(bench: AlertBench):
    class Broken(RecordingSink):
        def send(self, alert: Alert) -> bool:
            raise OSError(f"slack://T0K3N/{alert.subject}")

    bench.add_job()
    with capture_logs() as logs:
        bench.sweep(Broken("broken"), bench.sink)
    assert len(bench.sink.alerts) == 1
    assert bench.undelivered == 1
    assert logs[0] == {"event": "alert_sink_failed", "log_level": "warning", "sink": "broken", "error": "OSError"}
    assert "T0K3N" not in repr(logs)


def test_without_sinks_every_alert_is_delivered(bench: AlertBench):
    bench.add_job()
    bench.update_alerts()
    deliver(bench.ledger, [])

    assert bench.undelivered == 0


def test_an_alert_that_is_over_before_its_delivery_is_sent_as_over(bench: AlertBench):
    bench.sink.down = True
    bench.add_job()
    bench.sweep()
    bench.change_jobs("completed")
    bench.sink.down = False
    bench.sweep()
    bench.sweep()

    assert bench.sink.over == [True]


def test_a_change_during_a_delivery_is_delivered_afterwards(bench: AlertBench):
    class Slow(RecordingSink):
        def send(self, alert: Alert) -> bool:
            if not self.alerts:
                bench.change_jobs("completed")
                bench.update_alerts()
                deliver(bench.ledger, [other])
            return super().send(alert)

    other, slow = RecordingSink("slow"), Slow("slow")
    bench.add_job()
    bench.update_alerts()
    deliver(bench.ledger, [slow])

    assert slow.over == [False, True]
    assert not other.calls, "one process at a time delivers an alert"


def test_another_process_delivers_after_one_has_died(bench: AlertBench):
    class Killed(BaseException):
        """Nothing is recorded, as after a kill."""

    class Deadly(RecordingSink):
        def send(self, alert: Alert) -> bool:
            raise Killed(alert.title)

    bench.add_job()
    bench.update_alerts()
    with pytest.raises(Killed):
        deliver(bench.ledger, [Deadly()])
    deliver(bench.ledger, [bench.sink])
    assert not bench.sink.calls

    bench.clock.advance(LEASE / 1000)
    deliver(bench.ledger, [bench.sink])
    assert len(bench.sink.alerts) == 1
    assert bench.undelivered == 0


def test_many_workers_deliver_each_alert_once(bench: AlertBench):
    for n in range(8):
        bench.add_job(group=f"g{n}")
    ready = threading.Barrier(4)

    def work() -> None:
        ledger = bench.connect()
        ready.wait()
        update_alerts(ledger, KINDS)
        deliver(ledger, [bench.sink])
        ledger.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(alert.fingerprint for alert in bench.sink.alerts) == [f"group:g{n}" for n in range(8)]


# --- in the background -----------------------------------------------------------------------------------------------


class HangingSink(RecordingSink):
    """Hangs until it is released."""

    def __init__(self) -> None:
        super().__init__("hanging")
        self.entered = threading.Event()
        self.release = threading.Event()

    def send(self, alert: Alert) -> bool:
        self.entered.set()
        self.release.wait()
        return super().send(alert)


def test_the_notifier_waits_for_no_sink(bench: AlertBench):
    sink = HangingSink()
    notifier = Notifier(bench.ledger, [sink])
    bench.add_job()
    bench.update_alerts()
    notifier.wake()
    assert sink.entered.wait(TEST_TIMEOUT)

    bench.add_job(group="g500", status=500)  # the ledger is free meanwhile
    bench.update_alerts()
    notifier.wake()  # and returns at once
    sink.release.set()
    notifier.close(timeout=TEST_TIMEOUT)
    assert len(sink.alerts) in {1, 2}  # closing may come between the two
    assert sum(row["delivered"] for row in bench.alert_rows()) == len(sink.alerts)


def test_the_notifier_goes_on_after_a_ledger_that_did_not_answer(bench: AlertBench):
    failed, delivered = threading.Event(), threading.Event()

    class Signalling(RecordingSink):
        def send(self, alert: Alert) -> bool:
            delivered.set()
            return super().send(alert)

    class Away(Ledger):
        def transact(self, work: Any) -> Any:
            if not failed.is_set():
                failed.set()
                raise LedgerUnavailable("away")
            return super().transact(work)

    ledger = Away(bench.url, clock=bench.clock)
    bench.add_job()
    bench.update_alerts()
    with capture_logs() as logs:
        notifier = Notifier(ledger, [Signalling()])
        notifier.wake()
        assert failed.wait(TEST_TIMEOUT)
        notifier.wake()
        assert delivered.wait(TEST_TIMEOUT)
        notifier.close(timeout=TEST_TIMEOUT)
    ledger.close()
    assert [(line["event"], line["error"]) for line in logs] == [("alert_delivery_postponed", "away")]


@pytest.mark.parametrize("bench", [SQLITE], indirect=True)
def test_a_sink_that_hangs_holds_one_thread_and_no_other_sink(bench: AlertBench):
    hanging = HangingSink()
    limited = TimeLimitedSink(hanging, timeout=0.1)
    bench.add_job()
    with capture_logs() as logs:
        bench.sweep(limited, bench.sink)
    thread = limited._thread
    assert len(bench.sink.alerts) == 1
    assert [line["event"] for line in logs] == ["alert_sink_hung", "alert_delivery_failed"]

    bench.sweep(limited, bench.sink)
    assert limited._thread is thread
    assert thread is not None

    hanging.release.set()
    thread.join(TEST_TIMEOUT)
    limited._timeout = 10.0
    bench.sweep(limited, bench.sink)
    assert len(hanging.alerts) == 2
    assert len(bench.sink.alerts) == 1
    assert bench.undelivered == 0
