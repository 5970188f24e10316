import sys
from pathlib import Path

import pytest

from tasks.devstack.server import EmbeddedServer
from tasks.devstack.sqs import EmbeddedSqs
from tasks.dlq.errors import OutOfReach


class BrokenServer(EmbeddedServer):
    name = "broken"

    def _command(self) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such drive')"]

    def _environment(self) -> dict[str, str]:
        return {}

    def _answers(self) -> bool:
        raise ConnectionRefusedError


def test_a_server_that_ends_at_its_start_is_reported_with_its_output(tmp_path: Path):
    with pytest.raises(OutOfReach, match="broken ended with exit code 1 before it was ready") as raised, BrokenServer(tmp_path):
        pass
    assert raised.value.hint == "its last output: no such drive"


def test_two_servers_run_side_by_side_in_temporary_directories():
    with EmbeddedSqs() as first, EmbeddedSqs() as second:
        assert first.port != second.port
        directories = [first.directory, second.directory]
        assert all(directory.exists() for directory in directories)
        assert first.find_ended() is None
    assert not any(directory.exists() for directory in directories)
