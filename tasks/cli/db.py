"""`redrive db`: the ledger's schema."""

import typer

from tasks.cli.output import Json, Output

app = typer.Typer(help="Look after the ledger's schema.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def _db(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


@app.command()
def upgrade(*, json: Json = False) -> None:
    """Make the ledger, or bring it to the schema that this version writes. Does nothing when it is there already."""
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
