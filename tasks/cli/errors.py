"""Errors that only commands raise; the others are in tasks.dlq.errors."""

from tasks.dlq.errors import RedriveError


class Partly(RedriveError):  # noqa: N818 - as its siblings
    """A part was done, and a part was not."""

    exit_code = 3


class NotBalanced(RedriveError):  # noqa: N818
    """The sums of the audit differ."""


class Unwritable(RedriveError):  # noqa: N818
    """Standard output cannot be written, for example because the disk is full."""


class ReaderGone(Exception):  # noqa: N818 - not an error: the reader has ended (head, less)
    """The reader of standard output has ended."""
