"""The `redrive` command: one module a noun. Data goes to stdout, messages to stderr (see `output`)."""

import sys

from tasks.cli.app import run

__all__ = ["main"]


def main() -> None:
    """Run the command line; the process ends with its exit code."""
    sys.exit(run(sys.argv[1:]))
