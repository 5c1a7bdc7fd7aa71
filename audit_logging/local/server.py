"""A real OpenSearch on this machine, for as long as it is wanted.

Measured on two shared cores with a 512 MiB heap, from the unpacked distribution to a healthy cluster (seconds of wall
clock; of processor): the distribution's own script 15-20; Java started directly, with the options that the script
would find, 10 (20); with :data:`QUICK` 8 (9).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_logging.errors import LocalServerError, LocalServerOptionError
from audit_logging.local import diagnosis, security
from audit_logging.local.distribution import DEFAULT_SECURE_VERSION, DEFAULT_VERSION, core_package
from audit_logging.local.health import is_ready
from audit_logging.local.installation import Installation
from audit_logging.local.instance import Instance, check_port, free_port
from audit_logging.local.launch import GRACE_SECONDS, Supervision
from audit_logging.local.state import RunningServer, State, describe, process_began
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Java options that halve the processor time of a start and cost peak speed: right for laptops and tests."""

PEAK = ("-XX:+UseG1GC",)
"""Java options for measuring: all compilers."""

START_SECONDS = 120.0
POLL_SECONDS = 0.05

ATTEMPTS = 3
"""How often free ports are chosen, should other programs be quicker to take them."""


class LocalServer:
    """A server of its own, with its own data and ports, that ends with this process at the latest.

    It is fetched when first used, listens on 127.0.0.1 alone, and runs as an unprivileged account when root starts
    it. However this process ends (``kill -9`` included), the server is stopped and its data removed.

    Args:
        version: Any version that the registry holds; default 3.8.0, with *secure* 2.19.4.
        home: Where downloads and servers lie; default: the setting ``home`` (``AUDIT_HOME``).
        port: Port for HTTP; default: a free one.
        heap: Java's heap, such as ``"512m"`` or ``"1g"``.
        secure: TLS, a password and roles, by the security plugin; :meth:`settings` gives the credentials.
        settings: Further entries of ``opensearch.yml``; they win over ours, and ``None`` removes one of ours.
        jvm_options: :data:`QUICK`, :data:`PEAK`, or options of your own.
        user: The account to run as when root starts it; default: ``nobody``.
        java_home: A Java runtime to use instead of looking for one.
        progress: Show a progress bar for the download; default: on a terminal.
        in_memory: Keep the data in memory (`/dev/shm`), where there is a gigabyte of room: nothing that changes an
            index waits for a disk, which makes tests faster. It outlives :meth:`kill`, and not the machine.
        start_seconds: Longest wait for a start, in seconds.

    Raises:
        LocalServerOptionError: The version or the heap is malformed.
        LocalServerError: :meth:`start` raises it when the server cannot be fetched or started.

    Example:
        >>> with LocalServer() as server:  # doctest: +SKIP
        ...     settings = Settings.load(**server.settings())
    """

    def __init__(
        self,
        version: str | None = None,
        home: Path | None = None,
        port: int | None = None,
        heap: str = "512m",
        *,
        secure: bool = False,
        settings: Mapping[str, Any] | None = None,
        jvm_options: Sequence[str] = QUICK,
        user: str | None = None,
        java_home: Path | None = None,
        progress: bool | None = None,
        in_memory: bool = False,
        start_seconds: float = START_SECONDS,
    ) -> None:
        if not re.fullmatch(r"[1-9]\d*[mMgG]", heap):
            raise LocalServerOptionError(f"{heap!r} is no size of a heap: write it like 512m or 1g.")
        self.version = core_package(version or (DEFAULT_SECURE_VERSION if secure else DEFAULT_VERSION)).version
        self.home = home if home is not None else Settings.load().home
        self.heap = heap
        self.secure = secure
        self._given_port = port
        self._given_settings = dict(settings or {})
        self._jvm_options = tuple(jvm_options)
        self._find: dict[str, Any] = {"user": user, "java_home": java_home, "progress": progress}
        self._in_memory = in_memory
        self._start_seconds = start_seconds
        self._ports: tuple[int, int] | None = None
        self._instance: Instance | None = None
        self._password: str | None = None
        self._supervision: Supervision | None = None
        self._log_offset = 0
        self._adopted = False

    @property
    def running(self) -> RunningServer:
        """How to reach it."""
        return describe(self.version, self._known_ports[0], self.directory, self._password)

    @property
    def url(self) -> str:
        """Its URL, such as ``http://127.0.0.1:41873``."""
        return self.running.url

    def settings(self) -> dict[str, Any]:
        """Return the library's settings that lead to it, for ``Settings.load(**server.settings())``."""
        return self.running.settings()

    @property
    def pid(self) -> int:
        """Process id of the server itself (Java)."""
        return self._supervised.server_pid

    @property
    def transport_port(self) -> int:
        """The port on which it speaks with other nodes, for ``discovery.seed_hosts`` of a cluster."""
        return self._known_ports[1]

    @property
    def directory(self) -> Path:
        """Its own directory: configuration, data, logs."""
        return self._existing.directory

    @property
    def directory_or_none(self) -> Path | None:
        """Its own directory, if it has one."""
        return self._instance.directory if self._instance is not None else None

    @property
    def log(self) -> Path:
        """Its log file."""
        return self._existing.log

    def start(self, *, wait: bool = True) -> Self:
        """Start it; after :meth:`kill`, again on the same data and ports. Harmless while it runs.

        Args:
            wait: Return once it answers. Without, call :meth:`wait_until_ready` (nodes of one cluster wait for each
                other).

        Raises:
            LocalServerError: It cannot be fetched or started. A first start leaves nothing behind then.
        """
        if self._supervision is not None and not self._supervision.has_exited():
            return self
        first = self._instance is None
        try:
            self._launch()
            if wait:
                self._wait(retries=ATTEMPTS - 1 if first and self._given_port is None else 0)
        except BaseException:
            if first:
                self.stop()
            raise
        return self

    def wait_until_ready(self) -> None:
        """Return once it answers, has recovered its indices and accepts our credentials.

        Raises:
            LocalServerError: It ended instead, or the time ran out.
        """
        self._wait(retries=0)

    def kill(self) -> None:
        """Kill it (SIGKILL) as a crash would. Its data stays until :meth:`start` or :meth:`stop`."""
        self._end_process(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop it in order, and start it again on the same data and ports."""
        self._end_process(signal.SIGTERM)
        return self.start()

    def stop(self) -> None:
        """Stop it and remove its data. Twice is harmless."""
        supervision, instance = self._supervision, self._instance
        self._supervision = self._instance = self._ports = self._password = None
        if supervision is not None:
            supervision.end()
        if instance is not None:
            instance.remove()

    @property
    def state(self) -> State:
        """What is needed to find and stop it once it is detached (see ``detached.py``)."""
        supervision, (http_port, transport_port) = self._supervised, self._known_ports
        return State(
            version=self.version,
            http_port=http_port,
            transport_port=transport_port,
            heap=self.heap,
            directory=str(self.directory),
            supervisor=supervision.pid,
            server_pid=supervision.server_pid,
            began=process_began(supervision.pid) or "",
            password=self._password,
        )

    def detach(self, *, owner: int | None = None) -> State:
        """Let it run on after this process; return what is needed to find and stop it.

        Args:
            owner: A process with whose end the server ends.
        """
        state = self.state
        self._supervised.detach(owner)
        self._existing.let_go()
        self._supervision = self._instance = None
        return state

    def adopt(self, state: State) -> Self:
        """Take over what a detached server left that ended by itself; :meth:`start` goes on there."""
        self.version, self.secure, self._password = state.version, state.password is not None, state.password
        self._ports = (state.http_port, state.transport_port)
        self._instance, self._adopted = Instance(Path(state.directory)), True
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _supervised(self) -> Supervision:
        if self._supervision is None:
            raise LocalServerError("This server does not run: call start() first.")
        return self._supervision

    @property
    def _existing(self) -> Instance:
        if self._instance is None:
            raise LocalServerError("This server does not run: call start() first.")
        return self._instance

    @property
    def _known_ports(self) -> tuple[int, int]:
        if self._ports is None:
            raise LocalServerError("This server does not run: call start() first.")
        return self._ports

    def _launch(self) -> None:
        """Start the processes."""
        installation = Installation.find(self.version, home=self.home, secure=self.secure, **self._find)
        if self._ports is None:
            self._ports = (self._choose_port(), free_port())
        if self._instance is None:
            self._instance = Instance.create(installation.shared, installation.account, in_memory=self._in_memory)
            if self.secure:
                self._password = security.secure_instance(self._instance.config, installation.account)
        given = {**(security.settings() if self.secure else {}), **self._given_settings}
        self._instance.configure(
            installation.account, http_port=self._ports[0], transport_port=self._ports[1], given=given
        )
        self._log_offset = self._instance.log.stat().st_size
        plan = installation.plan(self._instance, heap=self.heap, jvm_options=self._jvm_options)
        previous, self._supervision = self._supervision, Supervision(replace(plan, keep=self._adopted))
        if previous is not None:  # it guarded the directory until now
            previous.end(keep_directory=True)

    def _choose_port(self) -> int:
        if self._given_port is None:
            return free_port()
        check_port(self._given_port)
        return self._given_port

    def _wait(self, *, retries: int) -> None:
        deadline = time.monotonic() + self._start_seconds
        while not is_ready(self.running):
            ended = self._supervised.has_exited(within_seconds=POLL_SECONDS)
            if not ended and time.monotonic() < deadline:
                continue
            log = self._existing.read_log(since=self._log_offset)
            if ended and retries and diagnosis.is_port_clash(log):
                retries, self._ports = retries - 1, None
                self._launch()
                continue
            raise LocalServerError(diagnosis.explain(self.version, log, exit_code=self._supervised.exit_code))

    def _end_process(self, number: signal.Signals) -> None:
        supervision = self._supervised
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervision.server_pid, number)
        if not supervision.has_exited(within_seconds=GRACE_SECONDS):
            raise LocalServerError(f"OpenSearch (process {supervision.server_pid}) does not end on {number.name}.")
