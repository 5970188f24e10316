"""Another team's Celery application: submits failures by the task's name, through the proxy before SQS.

`send_task` tells no message id: what SQS has taken is known from its answer, which the proxy has seen whatever became of it.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from celery import Celery

from harness.sender import Message, Sender
from harness.settings import SUBMIT, SUBMIT_ROUTE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.log import Log

_POISONS: tuple[dict[str, Any], ...] = (
    {"route": SUBMIT_ROUTE, "parameters": {"id": -4}},
    {"route": "nowhere", "parameters": {"id": 4}},
    {"route": SUBMIT_ROUTE, "parameters": {"name": "no id"}},
)


class CelerySender(Sender):
    """Calls `send_task("redrive.submit")`; sends again what it had no answer to, as a producer does."""

    def __init__(self, log: Log, *, port: int, **rest: Any) -> None:
        super().__init__(log, **rest)
        self._open: dict[int, Message] = {}
        self._app = Celery("shop", broker=f"sqs://local:only-here@127.0.0.1:{port}", set_as_current=False)
        url = f"http://127.0.0.1:{port}/000000000000/{SUBMIT}"
        # A queue that is there is Redrive's to make: a producer that made it would choose its attributes.
        self._app.conf.broker_transport_options = {"region": "us-east-1", "predefined_queues": {SUBMIT: {"url": url}}}
        self._app.conf.broker_connection_timeout = 2

    def close(self) -> None:
        self._app.close()

    def send(self, batch: Sequence[Message]) -> Sequence[Message]:
        for place, message in enumerate(batch):
            self._open[message.number] = message
            try:
                self._app.send_task("redrive.submit", kwargs=_arguments(message), queue=SUBMIT, retry=False)
            except Exception:  # noqa: BLE001 - kombu hands on what boto3, botocore and urllib3 raise
                self.unsure([message])
                return batch[place:]
        return []

    def taken(self, identity: str, body: str) -> None:
        """Take note that SQS has taken a message: it is in SQS' answer, whether or not that gets here."""
        self.confirm(identity, self._open[number_of(body)])


def number_of(body: str) -> int:
    """Return the number in a message as kombu sends it: base64 of JSON, whose body is base64 of [args, kwargs, embed]."""
    number: int = json.loads(base64.b64decode(json.loads(base64.b64decode(body))["body"]))[1]["origin"]["n"]
    return number


def _arguments(message: Message) -> dict[str, Any]:
    if message.poison is not None:
        asked = _POISONS[int(message.poison * len(_POISONS))]
    else:
        asked = {"route": SUBMIT_ROUTE, "parameters": {"id": message.ids[0]}}
    return {**asked, "origin": {"n": message.number}}
