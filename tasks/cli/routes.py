"""`redrive pause` and `redrive resume`: hold all calls of a route, and let them go on."""

from typing import Annotated

import typer

from tasks.cli.completion import route_names
from tasks.cli.output import Json, Output

RouteName = Annotated[str, typer.Argument(metavar="ROUTE", help="A route of redrive.toml.", autocompletion=route_names)]
Reason = Annotated[
    str, typer.Option(metavar="TEXT", help="Why, for the audit log and for whoever looks next.", show_default=False)
]


def pause(route: RouteName, *, reason: Reason = "", json: Json = False) -> None:
    """Let no further call of a route begin; those that run may end. Intake goes on, and jobs wait."""
    from tasks.cli.session import actor
    from tasks.dlq.ledger import Transaction, operations
    from tasks.dlq.ledger.routes import lock_route
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    target, who = settings().route(route), actor()

    def work(tx: Transaction) -> bool:
        changed = lock_route(tx, target).pause(by=who, reason=reason)
        if changed:
            operations.log(tx, actor=who, action="pause", subject=f"route {target.name}", reason=reason)
        return changed

    with open_ledger(settings()) as ledger:
        changed = ledger.transact(work)
    _tell(Output(json=json), target.name, paused=True, changed=changed)


def resume(route: RouteName, *, reason: Reason = "", json: Json = False) -> None:
    """Let the calls of a paused route go on, with a closed breaker."""
    from tasks.cli.session import actor, ringing
    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Transaction, operations
    from tasks.dlq.ledger.routes import lock_route
    from tasks.dlq.ledger.wakeups import promote_due_jobs, reset_timeouts
    from tasks.settings import settings

    out = Output(json=json)
    target, who = settings().route(route), actor()

    def work(tx: Transaction) -> bool:
        changed = lock_route(tx, target).resume()
        if changed:
            operations.log(tx, actor=who, action="resume", subject=f"route {target.name}", reason=reason)
        return changed

    def due(tx: Transaction) -> list[Wakeup]:
        reset_timeouts(tx)
        return promote_due_jobs(lock_route(tx, target))

    with ringing(out) as session:
        changed = session.runtime.ledger.transact(work)
        session.send(due)
        _tell(out, target.name, paused=False, changed=changed)


def _tell(out: Output, name: str, *, paused: bool, changed: bool) -> None:
    if out.json:
        out.record({"route": name, "paused": paused, "changed": changed})
    elif changed:
        out.line(f"route {name} is {'paused' if paused else 'resumed'}")
    else:
        out.line(f"route {name} was {'paused already' if paused else 'not paused'}")
