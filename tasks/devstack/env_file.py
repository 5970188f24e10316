"""Writes the file that sets up another terminal for commands about the system that `redrive up` runs."""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.settings import Settings


def write_env_file(file: Path, settings: Settings, env: Mapping[str, str]) -> None:
    """Write a shell file with the variables of the system. Only this user may read it, because it may hold credentials.

    Args:
        file: the file to write.
        settings: the configuration of the system.
        env: the environment of its processes.
    """
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(_choose_variables(settings, env).items())]
    if folder := _find_redrive():
        lines.append(f'export PATH={shlex.quote(str(folder))}:"$PATH"\n')
    file.touch(mode=0o600)
    file.write_text("".join(lines))


def _choose_variables(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables. Paths are absolute, because the other terminal may be in another directory."""
    variables = {name: value for name, value in env.items() if name.startswith("REDRIVE_")}
    ledger = make_url(settings.ledger.url)
    if ledger.get_backend_name() == "sqlite" and ledger.database:
        ledger = ledger.set(database=str(Path(ledger.database).absolute()))
        variables["REDRIVE_LEDGER__URL"] = ledger.render_as_string(hide_password=False)
    broker = settings.broker
    variables["AWS_DEFAULT_REGION"] = broker.region
    if broker.endpoint_url:
        variables["AWS_ENDPOINT_URL_SQS"] = broker.endpoint_url
    if broker.access_key_id and broker.secret_access_key:
        variables |= {"AWS_ACCESS_KEY_ID": broker.access_key_id, "AWS_SECRET_ACCESS_KEY": broker.secret_access_key}
    return variables


def _find_redrive() -> Path | None:
    """Return the directory of the `redrive` executable: next to this Python, or on the PATH."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    found = shutil.which("redrive", path=path)
    return Path(found).parent.absolute() if found else None
