"""What Maven fetches and builds for this tier. Jars stay in Maven's own repository; `.cache/real` has the rest."""

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

from waiting import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "real"
SERVERS = Path(__file__).parent / "pom.xml"
CONSUMER = ROOT / "examples" / "spring-consumer"

OLDEST_JAVA = 17
#: Seconds for Maven: the first time it fetches a hundred megabytes.


class Missing(Exception):  # noqa: N818 - what it says is a reason, not an error
    """Something of this tier is not on this machine, and cannot be fetched."""


def check_tools() -> None:
    """Raise Missing unless Java and Maven are there."""
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not on the PATH: this tier takes a JDK of Java {OLDEST_JAVA} or newer, and Maven")
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise Missing(f"this tier takes Java {OLDEST_JAVA} or newer; `java -version` says {said.splitlines()[:1]}")


def server_classpath(profile: str) -> str:
    """Return the class path of a server of pom.xml, fetched if need be. Raises Missing."""
    check_tools()
    file = CACHE / f"{profile}-{_digest(SERVERS)}.classpath"
    with _one_at_a_time():
        if not (file.exists() and all(Path(jar).exists() for jar in file.read_text().split(os.pathsep))):
            _maven(SERVERS, f"--activate-profiles={profile}", "dependency:build-classpath", f"-Dmdep.outputFile={file}")
    return file.read_text()


def spring_consumer() -> str:
    """Return the class path of examples/spring-consumer with its rehearsal, built unless that has been done. Raises Missing."""
    check_tools()
    built = CACHE / f"spring-consumer-{_digest(*_sources(CONSUMER))}"
    with _one_at_a_time():
        if not built.exists():
            for older in CACHE.glob("spring-consumer-*"):
                shutil.rmtree(older)
            _maven(CONSUMER / "pom.xml", "-DskipTests", "clean", "package")
            half = CACHE / "spring-consumer-half"
            # Out of the jar with its jars: so it starts in two thirds of the time.
            extract = ["java", "-Djarmode=tools", "-jar", "spring-consumer.jar", "extract", "--destination", str(half)]
            subprocess.run(extract, cwd=CONSUMER / "target", timeout=TEST_TIMEOUT, check=True, stdout=subprocess.DEVNULL)
            shutil.copytree(CONSUMER / "target" / "test-classes", half / "rehearsal")
            half.rename(built)
    return os.pathsep.join(str(built / part) for part in ("spring-consumer.jar", "rehearsal"))


def _sources(project: Path) -> list[Path]:
    return [project / "pom.xml", *sorted(file for file in (project / "src").rglob("*") if file.is_file())]


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size} ".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _maven(pom: Path, *arguments: str) -> None:
    command = ["mvn", "--batch-mode", "--quiet", "--no-transfer-progress", f"--file={pom}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False)
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
