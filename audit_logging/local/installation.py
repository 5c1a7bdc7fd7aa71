"""Everything that must be in place before a server can start: an account, a Java runtime, a distribution."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit_logging.local.account import Account, server_account
from audit_logging.local.distribution import Distribution, prepare
from audit_logging.local.java import Java, find_java, readable_java
from audit_logging.local.launch import Plan
from audit_logging.local.places import shared_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from audit_logging.local.instance import Instance


@dataclass(frozen=True)
class Installation:
    """What servers of one version share."""

    account: Account
    shared: Path
    java: Java
    distribution: Distribution

    @classmethod
    def find(
        cls,
        version: str,
        *,
        home: Path,
        secure: bool = False,
        user: str | None = None,
        java_home: Path | None = None,
        progress: bool | None = None,
    ) -> Installation:
        """Return what is in place, fetched and unpacked first if need be.

        Raises:
            LocalServerError: Something is missing and cannot be had; the message says what to do.
        """
        account = server_account(user)
        shared = shared_directory(home, account)
        java = readable_java(find_java(version, given=java_home), account, shared)
        unpacked = prepare(version, java=java, home=home, shared=shared, secure=secure, progress=progress)
        return cls(account, shared, java, unpacked)

    def plan(self, instance: Instance, *, heap: str, jvm_options: Sequence[str]) -> Plan:
        """Return how to start the server in *instance*: as the distribution's script would, without its detours."""
        unpacked = self.distribution
        own = (option.replace("${OPENSEARCH_TMPDIR}", str(instance.temporary)) for option in unpacked.jvm_options)
        command = [
            str(self.java.program),
            "-Xshare:auto",
            *own,
            f"-Xms{heap}",
            f"-Xmx{heap}",
            *jvm_options,
            "-XX:+ExitOnOutOfMemoryError",
            f"-XX:ErrorFile={instance.logs}/hs_err_pid%p.log",
            f"-Dopensearch.path.home={unpacked.home}",
            f"-Dopensearch.path.conf={instance.config}",
            "-Dopensearch.distribution.type=zip",
            "-Dopensearch.bundled_jdk=false",
            "-cp",
            unpacked.class_path,
            "org.opensearch.bootstrap.OpenSearch",
        ]
        # Nothing of our environment: JAVA_TOOL_OPTIONS and its kin would change the server.
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(instance.temporary)}
        return Plan(command, unpacked.home, environment, instance.log, instance.directories, self.account)
