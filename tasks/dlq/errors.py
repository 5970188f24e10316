"""Every error that Redrive raises on purpose.

::

    RedriveError
    ├── Refused            the input is wrong: nothing was done, the sender can mend it       (exit 2)
    │   ├── ConfigError        redrive.toml or the environment
    │   ├── UnknownRoute       no such route
    │   ├── InvalidParameter   a template variable is missing or not of its type
    │   └── UnreadableBody     a dead letter that is not JSON, too deep, too large or maps to nothing
    ├── NotFound           no such job, dead letter or operation                               (exit 4)
    ├── OutOfReach         a part that Redrive needs does not answer                           (exit 5)
    │   ├── LedgerUnavailable  the database does not answer
    │   │   └── LedgerLocked       another process holds SQLite's write lock
    │   ├── LedgerOutdated     no ledger, an empty one or an older schema: `redrive db upgrade`
    │   ├── LedgerNewer        a newer Redrive wrote the schema
    │   └── BrokerUnavailable
    └── Retryable          control flow: this job is due again later
"""

from __future__ import annotations


class RedriveError(Exception):
    """Something went wrong. `hint` tells what to do next; both are for people and never hold a secret."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Refused(RedriveError):  # noqa: N818 - the field's word, as in "connection refused"
    """The input is wrong; nothing was done."""

    exit_code = 2


class ConfigError(Refused):
    """redrive.toml or the environment is wrong."""


class UnknownRoute(Refused):
    """No route has this name."""


class InvalidParameter(Refused):
    """A template variable is missing, unknown or not of its declared type."""


class UnreadableBody(Refused):
    """A dead letter's body cannot become needs. `reason` is the short, stable word that `redrive rejects` groups by."""

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class NotFound(RedriveError):  # noqa: N818
    """No job, dead letter or operation has this id."""

    exit_code = 4


class OutOfReach(RedriveError):  # noqa: N818
    """A part that Redrive needs does not answer. Nothing is lost: what was not acknowledged comes again."""

    exit_code = 5


class LedgerUnavailable(OutOfReach):
    """The ledger's database does not answer."""


class LedgerLocked(LedgerUnavailable):
    """Another process holds the write lock of a ledger on SQLite."""


class LedgerOutdated(OutOfReach):
    """There is no ledger, it is empty, or its schema is older than this version's: run `redrive db upgrade`."""


class LedgerNewer(OutOfReach):
    """A newer version of Redrive wrote the ledger's schema: install that version."""


class BrokerUnavailable(OutOfReach):
    """SQS does not answer."""


class Retryable(RedriveError):  # noqa: N818 - raised to make Celery's autoretry ring again, not to report a fault
    """The named job is due again in `delay` seconds. The ledger has decided; Celery only carries the wake-up."""

    def __init__(self, message: str, *, delay: float) -> None:
        super().__init__(message)
        self.delay = delay

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip from a pool process (exceptions with keyword-only arguments do not pickle by themselves)."""
        return (_retryable, (self.message, self.delay))


def _retryable(message: str, delay: float) -> Retryable:
    return Retryable(message, delay=delay)
