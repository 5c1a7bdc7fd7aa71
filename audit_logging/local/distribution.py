"""The unpacked distribution: one for all servers of a version, complete or not there, and never written again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit_logging.errors import LocalServerError
from audit_logging.local.download import PINNED_SHA256, Package, Progress, fetch
from audit_logging.local.java import VECTOR_MODULE
from audit_logging.local.places import locked

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.local.java import Java

DEFAULT_VERSION = "3.8.0"
DEFAULT_SECURE_VERSION = "2.19.4"
"""The newest whose security plugin the registry holds and whose parts are known to work."""

LAYOUT = "1"
"""Part of the directory's name; raise it when what is done after unpacking changes."""

# Sized per server (heap, temporary directory), slow (touching all memory at start) or of no use here (dumps, GC logs).
_UNWANTED_OPTION = re.compile(
    r"-Xm[sx]|-Xlog:gc|-Xloggc|-XX:(\+AlwaysPreTouch|[+]HeapDump|HeapDumpPath|ErrorFile|MaxDirectMemorySize"
    r"|\+Use\w+GC$|G1|InitiatingHeapOccupancyPercent)"
)


@dataclass(frozen=True)
class Distribution:
    """An unpacked OpenSearch, fit for one Java runtime.

    Attributes:
        jvm_options: What this version's own launcher passes to Java; ``${OPENSEARCH_TMPDIR}`` stands in it.
    """

    version: str
    home: Path
    jvm_options: tuple[str, ...]

    @property
    def class_path(self) -> str:
        """The value of Java's ``-cp``."""
        return f"{self.home}/lib/*"


def core_package(version: str) -> Package:
    """Return the package of the server itself."""
    return Package("org.opensearch.distribution.integ-test-zip", "opensearch", version)


def security_package(version: str) -> Package:
    """Return the package of the security plugin for the server's *version*."""
    return Package("org.opensearch.plugin", "opensearch-security", f"{version}.0")


def prepare(
    version: str, *, java: Java, home: Path, shared: Path, secure: bool, progress: Progress = None
) -> Distribution:
    """Return the distribution of *version* below *shared*, fetched and unpacked if need be.

    Raises:
        LocalServerError: It cannot be fetched, verified or unpacked.
    """
    core = core_package(version)
    thai = java.breaks_thai_words
    traits = [LAYOUT, str(java.release)] + ["thai"] * thai + ["vector"] * java.has_vector_module + ["secure"] * secure
    pin = PINNED_SHA256.get(core.file_name, "")[:8]
    directory = shared / "-".join(filter(None, ["opensearch", version, pin, *traits]))
    with locked(shared / ".lock"):
        if not directory.exists():
            # The plugin first: few versions have one, and the server itself is the large download.
            plugins = [fetch(security_package(version), home, progress=progress)] if secure else []
            _build(directory, fetch(core, home, progress=progress), plugins, java)
    options = json.loads((directory / "jvm-options.json").read_text())
    return Distribution(version, directory, tuple(options))


def _build(directory: Path, core: Path, plugins: list[Path], java: Java) -> None:
    """Unpack into a directory beside the final one and rename it at the end: it exists complete or not at all."""
    unfinished = directory.with_name(f".{directory.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _unpack(core, unfinished, strip=True)
        for plugin in plugins:
            _unpack(plugin, unfinished / "plugins" / "opensearch-security", strip=False)
        _adapt(unfinished, java)
        unfinished.rename(directory)
    except (OSError, zipfile.BadZipFile) as error:
        raise LocalServerError(f"{core.name} cannot be unpacked into {directory.parent} ({error}).") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unpack(archive: Path, target: Path, *, strip: bool) -> None:
    """Unpack *archive* readable by everyone; *strip* removes the single directory that holds all."""
    target.mkdir(parents=True)
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            name = member.filename.partition("/")[2] if strip else member.filename
            path = target / name
            if ".." in path.parts or name.startswith("/"):
                raise zipfile.BadZipFile(f"{member.filename} would leave the directory")
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with content.open(member) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            # zipfile forgets the mode, and the zip of 2.19.4 holds none.
            path.chmod(0o755 if path.parent.name == "bin" else 0o644)
    for path in (target, *target.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _adapt(home: Path, java: Java) -> None:
    """Make what was unpacked fit the Java runtime, and note the options of its own launcher."""
    if not java.breaks_thai_words:
        # Its Thai analyzer would fail every creation of an index; the standard analyzer is in the core.
        shutil.rmtree(home / "modules" / "analysis-common", ignore_errors=True)
    configuration = home / "config" / "jvm.options"
    lines = configuration.read_text().splitlines()
    if not java.has_vector_module:
        lines = [line for line in lines if VECTOR_MODULE not in line]
    configuration.write_text("\n".join(lines) + "\n")
    (home / "logs").mkdir(mode=0o755, exist_ok=True)  # the launcher's trial run opens a log there
    options = _launcher_options(home, java)
    (home / "jvm-options.json").write_text(json.dumps(options))


def _launcher_options(home: Path, java: Java) -> list[str]:
    """Ask the version's own launcher once, instead of at every start (it starts Java two times to answer)."""
    command = [str(java.program), "-cp", f"{home}/lib/*", "org.opensearch.tools.launchers.JvmOptionsParser", "config"]
    environment = {"PATH": os.defpath, "OPENSEARCH_TMPDIR": "${OPENSEARCH_TMPDIR}", "OPENSEARCH_PATH_CONF": "config"}
    answer = subprocess.run(  # noqa: S603
        command, cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["no output"])[0]
        raise LocalServerError(f"Java {java.version} cannot run OpenSearch's launcher: {last}")
    return [option for option in answer.stdout.split() if not _UNWANTED_OPTION.match(option)]
