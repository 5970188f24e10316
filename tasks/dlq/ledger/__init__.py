"""The ledger: the truth about every dead letter, need, job and attempt.

One module an act: `letters` (intake), `claims`, `settling`, `bells`, `leases` (rescue), `pruning`, `operations`, `audit`,
`queries`. Each is functions over an open `Transaction`, so that a caller can join two acts in one commit.
"""

from tasks.dlq.ledger.clock import Clock, DatabaseClock, ManualClock
from tasks.dlq.ledger.engine import Ledger, Transaction

__all__ = ["Clock", "DatabaseClock", "Ledger", "ManualClock", "Transaction"]
