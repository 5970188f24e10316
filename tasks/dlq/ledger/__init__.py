"""The ledger: the truth about every dead letter, need, job and attempt.

Functions over an open `Transaction`, so that a caller can join several in one commit:

- The path of a failure: `dead_letters` (intake: letters, needs, coalescing), `wakeups`, `claims`, `settlement`, `rescue`.
- `routes`: the lock that all of these but intake take first.
- Maintenance and people: `pruning`, `operations` (replay, discard), `repairs`, `audit`, `queries`, `standings`, `processes`.
- The database: `schema`, `migrations`, `engine`, `sqlite`, `postgresql`, `clock`, `savepoints`.
"""

from tasks.dlq.ledger.clock import Clock, DatabaseClock
from tasks.dlq.ledger.engine import Ledger, Transaction

__all__ = ["Clock", "DatabaseClock", "Ledger", "Transaction"]
