"""All errors that Redrive raises.

::

    RedriveError
    ├── Refused            the input is wrong: nothing was done, the sender can fix it       (exit 2)
    │   ├── ConfigError        redrive.toml or the environment
    │   ├── UnknownRoute       no such route
    │   ├── InvalidParameter   a template variable is missing or not of its type
    │   └── UnreadableBody     a dead letter that is not JSON, too deep, too large or maps to nothing
    ├── NotFound           no such job, dead letter or operation                               (exit 4)
    ├── OutOfReach         something that Redrive needs does not answer                       (exit 5)
    │   ├── LedgerUnavailable  the database does not answer
    │   │   └── LedgerLocked       another process holds SQLite's write lock
    │   ├── LedgerOutdated     no ledger, an empty one or an older schema: `redrive db upgrade`
    │   ├── LedgerNewer        a newer Redrive wrote the schema
    │   └── BrokerUnavailable
    └── Retryable          control flow: this job is due again later
"""

from __future__ import annotations


class RedriveError(Exception):
    """Something went wrong. `message` and `hint` (what to do next) are for people, and never contain a secret."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Refused(RedriveError):  # noqa: N818 - as in "connection refused"
    """The input is wrong; nothing was done."""

    exit_code = 2


class ConfigError(Refused):
    """redrive.toml or the environment is wrong."""


class UnknownRoute(Refused):
    """No route has this name."""


class InvalidParameter(Refused):
    """A template variable is missing, unknown or not of its declared type."""


class UnreadableBody(Refused):
    """A dead letter's body cannot be mapped to needs. `redrive rejects` groups by `reason`, a short, stable word."""

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class NotFound(RedriveError):  # noqa: N818
    """No job, dead letter or operation has this id."""

    exit_code = 4


class OutOfReach(RedriveError):  # noqa: N818
    """Something that Redrive needs does not answer. Nothing is lost: what was not acknowledged is delivered again."""

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


class Retryable(RedriveError):  # noqa: N818 - it makes Celery's autoretry send a wake-up, and reports no fault
    """The named job is due again in `delay` seconds. The ledger has decided this; Celery only sends the wake-up."""

    def __init__(self, message: str, *, delay: float) -> None:
        super().__init__(message)
        self.delay = delay

    def __reduce__(self) -> tuple[object, ...]:
        """Let a pool process send the error to its parent: exceptions with keyword-only arguments need this to be pickled."""
        return (_retryable, (self.message, self.delay))


def _retryable(message: str, delay: float) -> Retryable:
    return Retryable(message, delay=delay)
