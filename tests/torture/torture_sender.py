"""The sender: puts failures on SQS as any producer would, and keeps what SQS confirmed."""

from __future__ import annotations

import json
import random
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from torture_settings import QUEUES

if TYPE_CHECKING:
    from torture_log import Log

_BATCH = 10
_POISON = 0.03
_POISONS = ("n={n} is no JSON", '{{"n": {n}}}', '{{"n": {n}, "id": -4, "employees": [{{"id": true}}]}}')


class Sender:
    """Sends `rate` messages a second about `keys` entities of each route until it is told to stop."""

    def __init__(self, log: Log, *, seed: int, keys: int, rate: float) -> None:
        self._log = log
        self._rng = random.Random(f"{seed}/sender")
        self._keys = keys
        self._rate = rate
        self._numbers = 0
        self._waiting: dict[str, deque[tuple[int, str, bool]]] = {source: deque() for source in QUEUES}
        self._confirmed: dict[str, tuple[str, tuple[int, str, bool]]] = {}
        self._at_work = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self.port = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write no new messages. What SQS has not confirmed is still sent by `flush`."""
        self._stop.set()
        self._thread.join()

    def confirmed(self) -> set[str]:
        with self._at_work:
            return set(self._confirmed)

    def sqs_was_wiped(self, gone: set[str]) -> None:
        """Take note that SQS lost these identities: a sender that keeps its messages sends them again."""
        with self._at_work:
            self._log.write(event="wiped", identities=sorted(gone))
            for identity in sorted(gone):
                source, message = self._confirmed.pop(identity)
                self._waiting[source].append(message)

    def flush(self) -> bool:
        """Send what waits; return whether SQS has confirmed all."""
        for source, waiting in self._waiting.items():
            while waiting:
                with self._at_work:
                    batch = [waiting.popleft() for _ in range(min(_BATCH, len(waiting)))]
                    left = self._send(source, batch)
                    waiting.extendleft(reversed(left))
                if left:
                    break
        return not any(self._waiting.values())

    def _run(self) -> None:
        while not self._stop.wait(_BATCH / 2 / self._rate):
            for _ in range(_BATCH // 2):
                source = self._rng.choice(list(QUEUES))
                self._waiting[source].append(self._message(source))
            self.flush()

    def _message(self, source: str) -> tuple[int, str, bool]:
        """Return a number, a body with it, and whether the body is poison."""
        self._numbers += 1
        if self._rng.random() < _POISON:
            return self._numbers, self._rng.choice(_POISONS).format(n=self._numbers), True
        ids = [self._rng.randint(1, self._keys) for _ in range(self._rng.choice((1, 1, 2, 3)))]
        facts: dict[str, Any] = {"employees": [{"id": each} for each in ids]} if source == "employees_dlq" else {"id": ids[0]}
        return self._numbers, json.dumps({"n": self._numbers, **facts}), False

    def _send(self, source: str, batch: list[tuple[int, str, bool]]) -> list[tuple[int, str, bool]]:
        """Send a batch; return what SQS did not confirm. What came of that is unsure: it may be there all the same."""
        client = client_of(self.port)
        entries = [{"Id": str(place), "MessageBody": body} for place, (_, body, _) in enumerate(batch)]
        try:
            url = f"http://127.0.0.1:{self.port}/000000000000/{QUEUES[source]}"
            got = client.send_message_batch(QueueUrl=url, Entries=entries)
        except (BotoCoreError, ClientError):
            for number, _, _ in batch:
                self._log.write(event="unsure", number=number)
            return batch
        finally:
            client.close()
        left = dict(enumerate(batch))
        for each in got.get("Successful", []):
            message = left.pop(int(each["Id"]))
            self._confirmed[each["MessageId"]] = source, message
            self._log.write(event="confirmed", identity=each["MessageId"], number=message[0], poison=message[2])
        return list(left.values())


def client_of(port: int) -> Any:
    """Return a client that tells at once how it went."""
    return boto3.client(
        "sqs",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="only-here",
        config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
    )
