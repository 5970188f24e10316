"""The `redrive` command. Each module parses the options of some commands, calls a service and prints the result."""

import sys

from tasks.cli.app import run

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))
