"""The `redrive` command."""


def main() -> None:
    """Run the command line."""
