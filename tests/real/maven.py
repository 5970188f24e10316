"""What Maven fetches and builds for this tier. It is kept in Maven's own repository; `.cache/real` remembers where."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "real"
SERVERS = Path(__file__).parent / "pom.xml"
CONSUMER = ROOT / "examples" / "spring-consumer"

OLDEST_JAVA = 17
#: Seconds for Maven: the first time it fetches a hundred megabytes.
PATIENCE = 600


class Missing(Exception):  # noqa: N818 - what it says is a reason, not an error
    """Something of this tier is not on this machine, and cannot be fetched."""


def check_tools() -> None:
    """Raise Missing unless Java and Maven are there."""
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not on the PATH: this tier takes a JDK of Java {OLDEST_JAVA} or newer, and Maven")
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise Missing(f"this tier takes Java {OLDEST_JAVA} or newer; `java -version` says {said.splitlines()[:1]}")


def server_classpath(profile: str) -> str:
    """Return the class path of a server of pom.xml, fetched if need be. Raises Missing."""
    check_tools()
    pinned = hashlib.sha256(SERVERS.read_bytes()).hexdigest()[:16]
    file = CACHE / f"{profile}-{pinned}.classpath"
    with _one_at_a_time():
        if not (file.exists() and all(Path(jar).exists() for jar in file.read_text().split(os.pathsep))):
            _maven(SERVERS, f"--activate-profiles={profile}", "dependency:build-classpath", f"-Dmdep.outputFile={file}")
    return file.read_text()


def consumer_jar() -> tuple[Path, Path]:
    """Build examples/spring-consumer; return its jar, and the folder with the classes of its rehearsal. Raises Missing."""
    check_tools()
    with _one_at_a_time():
        _maven(CONSUMER / "pom.xml", "-DskipTests", "package")
    return CONSUMER / "target" / "spring-consumer.jar", CONSUMER / "target" / "test-classes"


def _maven(pom: Path, *arguments: str) -> None:
    command = ["mvn", "--batch-mode", "--quiet", "--no-transfer-progress", f"--file={pom}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    said = done.stdout + done.stderr
    if "Could not transfer" in said or "Could not resolve" in said or "could not be resolved" in said:
        raise Missing(f"Maven could not fetch what {pom} names: {said[-1000:]}")
    assert done.returncode == 0, f"{' '.join(command)}: {said[-4000:]}"


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep two test runs in one working tree from building into one folder."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
