"""A folder that a run of its own may take."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user may pass through, which pytest's own is not."""
    made = Path(tempfile.mkdtemp(prefix="torture-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)
