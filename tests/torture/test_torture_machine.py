"""The run's own disk: full to the last byte, seen by nobody else, and gone with the process."""

import subprocess
import sys
from pathlib import Path

import pytest

# A process of its own: it leaves the mount namespace that the tests are in.
SCRIPT = """
import sys
from pathlib import Path
from harness.machine import fill, small_disk, take_off
folder = Path(sys.argv[1])
if why := small_disk(folder, megabytes=2):
    sys.exit(f"not here: {why}")
filler = fill(folder)
try:
    (folder / "more").write_bytes(b"x")
    print("there was room")
except OSError as error:
    print(error.strerror)
filler.unlink()
print((folder / "more").write_bytes(b"x"))
take_off(folder)
print(list(folder.iterdir()))
"""


def test_a_full_disk_takes_not_a_byte_more(tmp_path: Path):
    asked = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60, check=False)
    if done.stderr.startswith("not here"):
        pytest.skip(done.stderr.strip())
    assert done.stdout.splitlines() == ["No space left on device", "1", "[]"], done.stderr
    assert list(tmp_path.iterdir()) == []
