"""How a command ends when it did not do all that it was asked for, beside the errors in tasks.dlq.errors."""

from tasks.dlq.errors import RedriveError


class Partly(RedriveError):  # noqa: N818 - as its siblings
    """Some of it was done, and some was not."""

    exit_code = 3


class NotBalanced(RedriveError):  # noqa: N818
    """The audit's sums differ."""


class Unwritable(RedriveError):  # noqa: N818
    """Standard output takes no more: a full disk."""


class ReaderGone(Exception):  # noqa: N818 - not an error: the reader (head, less) has had enough
    """Nobody reads what the command prints any more."""
