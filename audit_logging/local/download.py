"""Fetching packages from the registry, through its ordinary client, and believing them only when they verify."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_logging._version import install_command
from audit_logging.errors import LocalServerError, LocalServerOptionError
from audit_logging.local.places import cache_directory, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Progress = bool | None
"""Show a progress bar? ``None``: when stderr is a terminal."""

PINNED_SHA256 = {
    "opensearch-3.8.0.zip": "196c3cf4602c394f2e40e6174ccbf2a924eae37246f08fa6bbb6b75f9fd5ff1f",
    "opensearch-2.19.4.zip": "3902e642715210d1d9d7cbdcc8f5abd6f931d1d7a679cea3750937becf16c406",
    "opensearch-security-2.19.4.0.zip": "1f673622c462c4171a8c53f9b1ad20e5b839834cb79b0d3b388da180a0e514e8",
}
"""What the versions used by default must be. Others are held against the checksum that the registry publishes."""

PUBLISHED_CHECKSUMS = ("sha512", "sha1")
"""Strongest first; old packages have only the second."""

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Package:
    """One zip of the registry.

    Example:
        >>> Package("org.opensearch.distribution.integ-test-zip", "opensearch", "3.8.0").file_name
        'opensearch-3.8.0.zip'
    """

    group: str
    name: str
    version: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+(\.\d+){1,3}(-[A-Za-z0-9.]+)?", self.version):
            raise LocalServerOptionError(f"{self.version!r} is no version of OpenSearch: write it like 3.8.0.")

    @property
    def file_name(self) -> str:
        """The name of the zip."""
        return f"{self.name}-{self.version}.zip"


def fetch(package: Package, home: Path, *, progress: Progress = None) -> Path:
    """Return the verified zip of *package*, from the cache or else from the registry.

    A download becomes visible in the cache only once it is complete and verified.

    Raises:
        LocalServerError: No network, no such version, no room, or the file does not verify (then it is deleted).
    """
    cache = cache_directory(home)
    with locked(cache / ".lock"):
        target = cache / package.file_name
        if not target.exists():
            _download(package, target, progress)
        _verify(target)
    return target


def _download(package: Package, target: Path, progress: Progress) -> None:
    for leftover in target.parent.glob(".fetch-*"):  # of a process that was killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as staging, _our_errors(package):
        registry = _Registry(package, Path(staging), progress)
        archive = registry.get("zip")
        if package.file_name not in PINNED_SHA256:
            checksum = registry.checksum()
            checksum.replace(target.with_name(checksum.name))
        _verify(archive, checksums=target.parent)
        archive.replace(target)


def _verify(archive: Path, *, checksums: Path | None = None) -> None:
    """Delete *archive* and raise unless its checksum is the expected one."""
    algorithm, expected = _expected(archive.name, checksums or archive.parent)
    digest = hashlib.new(algorithm)
    with archive.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        archive.unlink()
        raise LocalServerError(
            f"{archive.name} does not match its {algorithm.upper()} checksum (truncated or tampered with) and was"
            " deleted: run this again to fetch it anew."
        )


def _expected(file_name: str, checksums: Path) -> tuple[str, str]:
    if file_name in PINNED_SHA256:
        return "sha256", PINNED_SHA256[file_name]
    for algorithm in PUBLISHED_CHECKSUMS:
        published = checksums / f"{file_name}.{algorithm}"
        if published.exists():
            return algorithm, (published.read_text().split() or [""])[0].lower()
    return "sha512", "unknown"  # the cached zip has lost its checksum: not to be believed


class _Registry:
    """The files of one package, fetched into a staging directory."""

    def __init__(self, package: Package, staging: Path, progress: Progress) -> None:
        try:
            from jgo.maven import MavenContext, PythonResolver
        except ImportError:
            raise LocalServerError(f"Fetching OpenSearch needs more packages: {install_command('local')}.") from None
        self._context = MavenContext(
            repo_cache=staging,
            resolver=PythonResolver(progress_callback=_progress_bar(progress)),
            timeout=TIMEOUT_SECONDS,
        )
        self._project = self._context.project(package.group, package.name)
        self._version = package.version

    def get(self, packaging: str) -> Path:
        artifact = self._project.at_version(self._version).artifact(packaging=packaging)
        with _quiet_client():
            try:
                return Path(artifact.resolve())
            except RuntimeError as error:  # the client's way to say 404
                raise LocalServerError(
                    f"The package registry has no {self._project.artifactId} {self._version}"
                    f"{self._listed()}; 3.8.0 and 2.19.4 are known to work."
                ) from error

    def checksum(self) -> Path:
        for algorithm in PUBLISHED_CHECKSUMS[:-1]:
            with contextlib.suppress(LocalServerError):
                return self.get(f"zip.{algorithm}")
        return self.get(f"zip.{PUBLISHED_CHECKSUMS[-1]}")

    def _listed(self) -> str:
        """Name the versions that the registry lists (its list is known to be incomplete), nearest last."""
        self._project.update()
        versions = [component.version for component in self._project.versions()]
        same_major = [version for version in versions if version.split(".")[0] == self._version.split(".")[0]]
        return f" (it lists {', '.join((same_major or versions)[-8:])})" if versions else ""


@contextlib.contextmanager
def _our_errors(package: Package) -> Iterator[None]:
    import requests

    try:
        yield
    except requests.RequestException as error:
        raise LocalServerError(
            f"{package.file_name} cannot be fetched: the package registry does not answer"
            f" ({type(error).__name__}). Check the network and the proxy variables, or set AUDIT_OPENSEARCH_URL to"
            " use a server that runs elsewhere."
        ) from error
    except OSError as error:
        raise LocalServerError(
            f"{package.file_name} cannot be stored ({error.strerror or error}): free some space or set AUDIT_HOME."
        ) from error


@contextlib.contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep the client's warnings (addresses, tracebacks) off the terminal: our errors say what matters."""
    logger = logging.getLogger("jgo")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _progress_bar(progress: Progress) -> Callable[[str, int], contextlib.AbstractContextManager[Any]] | None:
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None

    @contextlib.contextmanager
    def show(file_name: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("Fetching {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(file_name, total=size_bytes)
            yield lambda count: bar.advance(task, count)

    return show
