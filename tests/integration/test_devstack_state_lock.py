import os
from pathlib import Path

import pytest

from tasks.devstack.state_lock import lock_state_directory
from tasks.dlq.errors import Refused


def test_a_directory_is_locked_once_at_a_time(tmp_path: Path):
    directory = tmp_path / "state"
    message = f"another `redrive up` runs in {directory}: process {os.getpid()}"
    with lock_state_directory(directory), pytest.raises(Refused, match=message):
        lock_state_directory(directory).__enter__()
    with lock_state_directory(directory):
        pass


def test_a_new_directory_is_for_this_user_only(tmp_path: Path):
    with lock_state_directory(tmp_path / "state"):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
