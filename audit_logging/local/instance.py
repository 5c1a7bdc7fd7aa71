"""One server's own directory: configuration, data, logs and temporary files, private to the server's account."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from audit_logging.errors import LocalServerError
from audit_logging.local.guarded import make_guarded, remove_guarded
from audit_logging.local.state import log_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from audit_logging.local.account import Account

HOST = "127.0.0.1"

MEMORY = Path("/dev/shm")  # noqa: S108 - directories are made there under names that nobody can guess
"""A file system without a disk, where there is one."""

ROOM_BYTES = 1 << 30
"""As much must be free there for a server to keep its data in it: a container often has 64 MiB."""

LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""
"""Everything to standard output, which the supervisor sends into one file."""


@dataclass(frozen=True)
class Instance:
    """The directory of one server, and that of its data where it is kept in memory.

    Attributes:
        guards: Keep others from taking the directories for left over, as long as they are open.
    """

    directory: Path
    memory: Path | None = None
    guards: tuple[IO[bytes], ...] = ()

    @classmethod
    def create(cls, shared: Path, account: Account, *, in_memory: bool = False) -> Instance:
        """Make a new one below *shared* that only *account* can read, its data in memory if asked and there is room.

        What killed processes left in the same places is removed.
        """
        parent = shared / "instances"
        parent.mkdir(mode=0o755, exist_ok=True)
        parent.chmod(0o755)
        directory, guard = make_guarded(parent, "server-")
        memory, memory_guard = (_memory() if in_memory else None) or (None, None)
        instance = cls(directory, memory, (guard,) if memory_guard is None else (guard, memory_guard))
        parts = [instance.config, instance.data, instance.logs, instance.temporary]
        for part in parts:
            part.mkdir(mode=0o700, exist_ok=part == memory)
        instance.log.touch(mode=0o600)
        account.own(instance.directory, *parts, instance.log)
        return instance

    @property
    def directories(self) -> tuple[Path, ...]:
        """All that is to be removed with it."""
        return (self.directory,) if self.memory is None else (self.directory, self.memory)

    @property
    def config(self) -> Path:
        """OpenSearch's configuration directory."""
        return self.directory / "config"

    @property
    def data(self) -> Path:
        """OpenSearch's data directory."""
        return self.memory or self.directory / "data"

    @property
    def logs(self) -> Path:
        """The directory of the log, and of Java's report if it should crash."""
        return self.directory / "logs"

    @property
    def temporary(self) -> Path:
        """The server's temporary directory."""
        return self.directory / "tmp"

    @property
    def log(self) -> Path:
        """What the server wrote to its outputs, all starts together."""
        return log_file(self.directory)

    def configure(self, account: Account, *, http_port: int, transport_port: int, given: Mapping[str, Any]) -> None:
        """Write ``opensearch.yml`` and the logging configuration; *given* wins, ``None`` removes a default."""
        settings: dict[str, Any] = {
            "cluster.name": "audit-logging-local",
            "node.name": "local",
            "network.host": HOST,
            "http.port": http_port,
            "transport.port": transport_port,
            "path.data": str(self.data),
            "path.logs": str(self.logs),
            "discovery.type": "single-node",
            # A laptop's disk is often nearly full, which would make every index read-only.
            "cluster.routing.allocation.disk.threshold_enabled": False,
            # Garbage that the serial collector has not yet collected would count as used, and requests be refused.
            "indices.breaker.total.use_real_memory": False,
            **given,
        }
        # JSON values are YAML values.
        lines = [f"{name}: {json.dumps(value)}\n" for name, value in settings.items() if value is not None]
        for name, text in (("opensearch.yml", "".join(lines)), ("log4j2.properties", LOG4J)):
            path = self.config / name
            path.write_text(text)
            path.chmod(0o600)
            account.own(path)

    def read_log(self, *, since: int = 0) -> str:
        """Return the log from byte *since* on."""
        try:
            return self.log.read_bytes()[since:].decode(errors="replace")
        except OSError:
            return ""

    def remove(self) -> None:
        """Remove its directories and all that is in them."""
        for directory in self.directories:
            remove_guarded(directory)
        self.let_go()

    def let_go(self) -> None:
        """Leave the directories to the server's supervisor, which holds them too."""
        for guard in self.guards:
            guard.close()


def _memory() -> tuple[Path, IO[bytes]] | None:
    """Make a directory in memory; return nothing where there is no room for one."""
    try:
        if shutil.disk_usage(MEMORY).free < ROOM_BYTES:
            return None
        return make_guarded(MEMORY, "audit-logging-")
    except OSError:
        return None


def free_port() -> int:
    """Return a TCP port that is free on the loopback address right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(port: int) -> None:
    """Raise unless *port* is free.

    Raises:
        LocalServerError: Something listens there, or it is not a port that we may use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise LocalServerError(
                f"Port {port} on {HOST} cannot be used ({getattr(error, 'strerror', None) or error}): name another,"
                " or none to get a free one."
            ) from error
