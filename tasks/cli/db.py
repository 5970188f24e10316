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
    from alembic.util import CommandError

    from tasks.cli.session import ensure_state_dir
    from tasks.dlq import migrations
    from tasks.dlq.errors import LedgerOutdated
    from tasks.dlq.ledger import Ledger
    from tasks.settings import settings

    out = Output(json=json)
    ensure_state_dir(create=True)
    ledger = Ledger(settings().ledger.url)
    where = ledger.engine.url.render_as_string(hide_password=True)
    try:
        before, after = migrations.upgrade(ledger)
    except CommandError as error:
        raise LedgerOutdated(
            f"the ledger at {where} has a schema that this version does not know: {error}",
            hint="a newer Redrive wrote it: install that version",
        ) from error
    finally:
        ledger.close()
    if json:
        out.record({"ledger": where, "before": before, "after": after})
    elif before == after:
        out.line(f"the ledger at {where} is up to date: {after}")
    else:
        out.line(f"the ledger at {where} is now {after}; it was {before or 'empty'}")
