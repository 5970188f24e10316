"""The end of a run: has the system finished its work?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from harness.ledger import UnreadableError
from harness.rows import place
from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.kafka import Cluster
    from harness.ledger import TorturedLedger
    from harness.operators import Operators
    from harness.sender import Sender
    from harness.sqs import Sqs

#: Seconds that a message may be in a process's hands, and neither where it was sent to nor in the ledger.
_IN_HAND = 6.0
_OUT_OF_REACH = (UnreadableError, OutOfReach, BotoCoreError, ClientError)


@dataclass(kw_only=True)
class Completion:
    """Waits until every message is out of its source and in the ledger, and no job waits.

    `unread` counts the messages that were still in a source at the last look.
    """

    ledger: TorturedLedger
    senders: Sequence[Sender]
    sqs: Sqs
    kafka: Cluster
    operators: Operators
    say: Callable[[str], None]
    unread: int = 0

    def wait(self, *, until: float, meanwhile: Callable[[], None]) -> bool:
        """Wait for it until that moment (monotonic); return whether it came."""
        since = None
        left = {"unsent": 1}
        while time.monotonic() < until:
            try:
                left = self.left()
            except _OUT_OF_REACH as error:
                self.say(f"cannot be looked at just now: {error}")
            if not any(left.values()):
                return True
            only_missing = not any(count for name, count in left.items() if name != "missing")
            since = (since or time.monotonic()) if only_missing else None
            if since and time.monotonic() > since + _IN_HAND:
                return True  # nobody has them any more: the checker says so
            time.sleep(0.5)
            meanwhile()
        self.say(f"not at rest: {left}")
        return False

    def left(self) -> dict[str, int]:
        """Return how many messages are not sent, in SQS, in Kafka, not in the ledger; how many jobs, pauses, acts are open."""
        unsent = sum(not sender.flush() for sender in self.senders)
        sources = {"in SQS": self.sqs.messages(), "in Kafka": self.kafka.unread()}
        ((jobs,),) = self.ledger.query("SELECT count(*) FROM jobs WHERE state IN ('scheduled', 'retryable', 'executing')")
        paused = [name for (name,) in self.ledger.query("SELECT name FROM routes WHERE paused_at IS NOT NULL")]
        here = {place(*letter) for letter in self.ledger.query("SELECT source, identity, origin FROM dead_letters")}
        missing = sum(len(sender.confirmed() - here) for sender in self.senders)
        self.unread = sum(sources.values())
        acts = self.operators.at_work()
        for route in paused if not acts else ():
            self.operators.resume(route)
        return {"unsent": unsent, **sources, "jobs": jobs, "paused": len(paused), "acts": acts, "missing": missing}
