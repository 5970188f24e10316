"""A command of Celery that cannot start ends with a message for people."""

import pytest

from tasks.dlq.errors import ConfigError
from tasks.worker.startup import exit_on_error


def test_an_error_ends_the_process_with_its_message(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught, exit_on_error():
        raise ConfigError("redrive.toml: worker.concurrency is 0", hint="see the documentation")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "redrive: redrive.toml: worker.concurrency is 0\nsee the documentation\n"


def test_without_an_error_it_goes_on(capsys: pytest.CaptureFixture[str]):
    with exit_on_error():
        pass
    assert not any(capsys.readouterr())


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), exit_on_error():
        1 / 0  # noqa: B018
