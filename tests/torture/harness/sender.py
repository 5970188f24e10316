"""Senders: put failures where producers put them, and keep what was confirmed there."""

from __future__ import annotations

import json
import random
import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.log import Log

_BATCH = 10
_POISON = 0.03
#: Entities that fail once: nothing that comes later opens their jobs again.
FIRST_RARE = 10_000
_RARE = 0.04
_POISONS = ("n={n} is no JSON", '{{"n": {n}}}', '{{"n": {n}, "id": -4, "employees": [{{"id": true}}]}}')


@dataclass(frozen=True, kw_only=True)
class Message:
    """One failure about some entities. `poison` is a number from 0 to 1 for what cannot be read; None: it can."""

    number: int
    ids: Sequence[int]
    poison: float | None = None

    def body(self, *, each: bool = False) -> str:
        """Return plain JSON, with all entities or the first of them; or none at all."""
        if self.poison is not None:
            return _POISONS[int(self.poison * len(_POISONS))].format(n=self.number)
        facts: dict[str, Any] = {"employees": [{"id": entity} for entity in self.ids]} if each else {"id": self.ids[0]}
        return json.dumps({"n": self.number, **facts})


class Sender(ABC):
    """Sends `rate` messages a second about `keys` entities until it is told to stop, each until it is confirmed.

    While it is held it writes no new ones: a slow machine gets as many as it can bear.

    Senders differ in `place`; the messages of the n-th begin with the number n * 10,000,000.
    """

    def __init__(self, log: Log, *, place: str, nth: int, seed: int, keys: int, rate: float) -> None:
        self.place = place
        self.log = log
        self.is_held = False
        self._rng = random.Random(f"{seed}/{place}")
        self._keys = keys
        self._rate = rate
        self._numbers = nth * 10_000_000
        self._waiting: deque[Message] = deque()
        self._confirmed: dict[str, Message] = {}
        self._at_work = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sender-{place}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write no new messages. What is not confirmed is still sent by `flush`."""
        self._stop.set()
        if self._thread.ident:
            self._thread.join()

    @abstractmethod
    def close(self) -> None:
        """Leave nothing open."""

    @abstractmethod
    def send(self, batch: Sequence[Message]) -> Sequence[Message]:
        """Send a batch; return what was not confirmed. What came of that is unsure: it may be there all the same."""

    def confirm(self, identity: str, message: Message) -> None:
        self._confirmed[identity] = message
        poison = message.poison is not None
        self.log.write(event="confirmed", place=self.place, identity=identity, number=message.number, poison=poison)

    def unsure(self, batch: Sequence[Message]) -> None:
        for message in batch:
            self.log.write(event="unsure", number=message.number)

    def confirmed(self) -> set[str]:
        return set(self._confirmed.copy())  # in one step: another thread may confirm meanwhile

    def forgotten(self, gone: set[str]) -> None:
        """Take note that these identities were lost where they were sent to: they are sent again."""
        with self._at_work:
            self.log.write(event="wiped", identities=sorted(gone))
            self._waiting += [self._confirmed.pop(identity) for identity in sorted(gone)]

    def flush(self) -> bool:
        """Send what waits; return whether all is confirmed."""
        while self._waiting:
            with self._at_work:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                left = self.send(batch)
                self._waiting.extendleft(reversed(left))
            if left:
                return False
        return True

    def _run(self) -> None:
        while not self._stop.wait(_BATCH / 2 / self._rate):
            if self.is_held:
                continue
            self._waiting += [self._message() for _ in range(_BATCH // 2)]
            self.flush()

    def _message(self) -> Message:
        self._numbers += 1
        rare = [FIRST_RARE + self._numbers % 10_000_000] if self._rng.random() < _RARE else []
        ids = rare or [self._rng.randint(1, self._keys) for _ in range(self._rng.choice((1, 1, 2, 3)))]
        poison = self._rng.random() if self._rng.random() < _POISON else None
        return Message(number=self._numbers, ids=ids, poison=poison)


class SqsSender(Sender):
    """Puts plain JSON on one queue, past the proxy."""

    def __init__(self, log: Log, *, port: int, **rest: Any) -> None:
        super().__init__(log, **rest)
        self._client = client_of(port)
        self._url = f"http://127.0.0.1:{port}/000000000000/{self.place}"

    def close(self) -> None:
        self._client.close()

    def send(self, batch: Sequence[Message]) -> Sequence[Message]:
        bodies = [message.body(each=self.place.startswith("employees")) for message in batch]
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
        try:
            got = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
        except (BotoCoreError, ClientError):
            self.unsure(batch)
            return batch
        left = dict(enumerate(batch))
        for each in got.get("Successful", []):
            self.confirm(each["MessageId"], left.pop(int(each["Id"])))
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
