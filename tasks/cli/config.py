"""`redrive config`: what is in force, and where it came from."""

from json import dumps

from tasks.cli.options import Json
from tasks.cli.output import Column, Output


def config(*, json: Json = False) -> None:
    """Show every setting with its value and where it came from. Secrets are masked."""
    from tasks.settings import settings

    out = Output(json=json)
    described = settings().describe()
    if json:
        out.record(described)
        return
    where = settings().source_file
    out.note(f"read from {where}" if settings().file else f"read from the environment, for the rest defaults: {where}")
    columns = [Column("Setting"), Column("Value", fold=True), Column("From", fold=True)]
    out.table(columns, [(name, _plain(each["value"]), each["from"]) for name, each in described["settings"].items()])


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(_plain(each) for each in value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {dumps(each, ensure_ascii=False)}" for name, each in value.items()) + " }"
    return "" if value is None else str(value)
