"""Arguments and options that several commands share."""

from typing import Annotated

import typer

#: Ids are 64 bits wide, in both databases.
MAX_ID = 2**63 - 1


def complete_route(incomplete: str) -> list[str]:
    """Return the routes of redrive.toml that begin with these characters; none if it cannot be read."""
    from tasks.dlq.errors import ConfigError
    from tasks.settings import settings

    try:
        return [name for name in sorted(settings().routes) if name.startswith(incomplete)]
    except ConfigError:
        return []


JobIds = Annotated[list[int], typer.Argument(metavar="ID", min=1, max=MAX_ID, help="Ids of jobs; redrive jobs lists them.")]
RouteName = Annotated[str, typer.Argument(metavar="ROUTE", help="A route of redrive.toml.", autocompletion=complete_route)]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one compact JSON object per line; errors too.")]
Csv = Annotated[bool, typer.Option("--csv", metavar="", help="Print comma-separated values with a header row.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; written into the audit log.", show_default=False)]
RejectedFor = Annotated[
    str | None, typer.Option("--rejected-for", metavar="REASON", help="Only dead letters that were rejected for this reason.")
]
Yes = Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask for a confirmation.")]
After = Annotated[int | None, typer.Option(metavar="ID", min=1, max=MAX_ID, help="Continue below this id.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="The most that are listed.")]
