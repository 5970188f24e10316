"""`redrive db`: the ledger's schema."""

import typer

from tasks.cli.options import Json
from tasks.cli.output import Output

app = typer.Typer(help="Create or upgrade the ledger's schema.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def _db(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


@app.command()
def upgrade(*, json: Json = False) -> None:
    """Create the ledger, or upgrade it to this version's schema. Does nothing if it is up to date."""
    from tasks.ledger_setup import upgrade_ledger
    from tasks.settings import settings

    out = Output(json=json)
    where, before, after = upgrade_ledger(settings())
    if json:
        out.record({"ledger": where, "before": before, "after": after})
    elif before == after:
        out.line(f"the ledger at {where} is up to date: {after}")
    else:
        out.line(f"the ledger at {where} is now {after}; it was {before or 'empty'}")
