"""Servers that run on after the command that started them: what is written down, and whether it is still true."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_logging.errors import LocalServerOptionError
from audit_logging.files import write_durably
from audit_logging.local.places import state_directory
from audit_logging.private import check_private_directory

if TYPE_CHECKING:
    from pydantic import SecretStr

DEFAULT_NAME = "default"

_log = logging.getLogger("audit_logging")


@dataclass(frozen=True)
class RunningServer:
    """A server that answers, and how to reach it.

    Example:
        >>> server = find_running(Settings.load().home)  # doctest: +SKIP
        >>> Settings.load().model_copy(update=server.settings())  # doctest: +SKIP
    """

    url: str
    version: str
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None

    def settings(self) -> dict[str, Any]:
        """Return the settings that lead to this server, for ``Settings.load(**…)`` or ``model_copy(update=…)``."""
        settings: dict[str, Any] = {"opensearch_url": (self.url,)}
        if self.username is not None:
            settings["opensearch_username"] = self.username
            settings["opensearch_password"] = self.password
            settings["opensearch_ca_file"] = self.ca_file
        return settings


@dataclass(frozen=True)
class State:
    """A detached server, as it is written down in a private file.

    Attributes:
        supervisor: Process id of its supervisor.
        began: When that process began; a process id alone may have been given to another one since.
    """

    version: str
    http_port: int
    transport_port: int
    heap: str
    directory: str
    supervisor: int
    server_pid: int
    began: str
    password: str | None = None

    @property
    def is_alive(self) -> bool:
        """Whether its supervisor, and so the server, runs."""
        return process_began(self.supervisor) == self.began

    @property
    def log(self) -> Path:
        """The server's log."""
        return log_file(Path(self.directory))

    def running(self) -> RunningServer:
        """Return how to reach it."""
        return describe(self.version, self.http_port, Path(self.directory), self.password)

    def write(self, path: Path) -> None:
        """Write it down, readable by us alone, whole or not at all."""
        write_durably(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> State | None:
        """Return what *path* says; nothing when it is missing or not ours to understand."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def describe(version: str, http_port: int, directory: Path, password: str | None) -> RunningServer:
    """Return how to reach the server in *directory*; one with a *password* speaks TLS."""
    if password is None:
        return RunningServer(f"http://127.0.0.1:{http_port}", version)
    from pydantic import SecretStr

    from audit_logging.local.security import ADMIN

    url = f"https://127.0.0.1:{http_port}"
    return RunningServer(url, version, ADMIN, SecretStr(password), directory / "config" / "ca.pem")


def log_file(directory: Path) -> Path:
    """Return the log of the server in *directory*."""
    return directory / "logs" / "server.log"


def state_file(home: Path, name: str = DEFAULT_NAME) -> Path:
    """Return the path of the state of the server called *name*.

    Raises:
        LocalServerOptionError: The name will not do as a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", name):
        raise LocalServerOptionError(f"{name!r} is no name for a server: use letters, digits, '-' and '_'.")
    return state_directory(home) / f"{name}.json"


def find_running(home: Path, name: str = DEFAULT_NAME) -> RunningServer | None:
    """Return the server that `audit-logging server up` started under *home* and that still runs."""
    path = home / "servers" / f"{name}.json"
    try:  # else events would go wherever the one who wrote the file wants them
        check_private_directory(path.parent, within=home)
    except OSError as error:
        _log.warning("The local server is not used: %s.", error.strerror)
        return None
    state = State.read(path)
    return state.running() if state is not None and state.is_alive else None


def process_began(pid: int) -> str | None:
    """Return when the process began, in a form that is good for comparison only; nothing when there is none."""
    with contextlib.suppress(OSError):
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if facts[0] in "ZX" else facts[19]
    if Path("/proc/self/stat").exists():
        return None
    answer = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
