"""What a server can do: asked once, then everything that sets up or reads adapts to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_logging.errors import CredentialsError, NotFoundError, OpenSearchError, RefusedError

if TYPE_CHECKING:
    from audit_logging.opensearch.client import Client

Version = tuple[int, int, int]

APPEND_ONLY_SINCE: Version = (2, 19, 0)
"""First release that knows ``index.append_only.enabled``."""
LOCK_SINCE: Version = (3, 8, 0)
"""First release seen to roll a stream over while one of its backing indices is locked; 2.19.4 and 3.6.0 refuse."""
PIT_SINCE: Version = (2, 4, 0)
"""First release that knows points in time."""
OLDEST_SUPPORTED: Version = (2, 19, 0)
"""First release that can hold a trail which nobody can rewrite."""

ISM_POLICIES = "/_plugins/_ism/policies"


@dataclass(frozen=True)
class Capabilities:
    """What one server can do. Build it with :meth:`probe`.

    Attributes:
        version: The release, or None where the server does not tell (Amazon OpenSearch Serverless).
        distribution: ``"opensearch"``, another product's name, or ``"serverless"``.
        plugins: Names of the installed plugins, or None where the server or the role does not tell.
        data_nodes: How many nodes hold data, or None where the server or the role does not tell.
        ism: Whether Index State Management answers.

    Example:
        >>> able = Capabilities((2, 11, 0), "opensearch", frozenset({"opensearch-security"}), 3, ism=True)
        >>> able.security, able.append_only, able.point_in_time
        (True, False, True)
    """

    version: Version | None
    distribution: str
    plugins: frozenset[str] | None
    data_nodes: int | None
    ism: bool

    @classmethod
    def probe(cls, client: Client) -> Capabilities:
        """Ask the server behind *client*; what it does not tell is None or absent.

        Raises:
            UnreachableError: There was no answer.
            CredentialsError: The server does not accept the credentials (401).
        """
        distribution, version = _identity(client)
        return cls(
            version=version,
            distribution=distribution,
            plugins=_plugins(client),
            data_nodes=_data_nodes(client),
            ism=_answers_ism(client),
        )

    @property
    def serverless(self) -> bool:
        """Whether this is Amazon OpenSearch Serverless, which has no ``GET /``, no plugins and no client ids."""
        return self.distribution == "serverless"

    @property
    def append_only(self) -> bool:
        """Whether a backing index can refuse every change."""
        return self._at_least(APPEND_ONLY_SINCE)

    @property
    def lock(self) -> bool:
        """Whether a backing index can be locked against deletion while the stream goes on."""
        return self._at_least(LOCK_SINCE)

    @property
    def point_in_time(self) -> bool:
        """Whether a reader can hold a frozen view without a scroll."""
        return self._at_least(PIT_SINCE)

    @property
    def security(self) -> bool | None:
        """Whether the security plugin is installed; None where the server does not tell."""
        return None if self.plugins is None else "opensearch-security" in self.plugins

    @property
    def single_node(self) -> bool:
        """Whether a replica could never be placed."""
        return self.data_nodes == 1

    @property
    def release(self) -> str:
        """Product and version for people.

        Example:
            >>> Capabilities((3, 8, 0), "opensearch", None, None, ism=False).release
            'OpenSearch 3.8.0'
        """
        if self.serverless:
            return "Amazon OpenSearch Serverless"
        name = "OpenSearch" if self.distribution == "opensearch" else self.distribution
        return name if self.version is None else f"{name} {'.'.join(map(str, self.version))}"

    def _at_least(self, version: Version) -> bool:
        return self.distribution == "opensearch" and self.version is not None and self.version >= version


def parse_version(text: str) -> Version | None:
    """Return the three numbers of a release, or None.

    Example:
        >>> parse_version("3.9.0-SNAPSHOT"), parse_version("unknown")
        ((3, 9, 0), None)
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def server_time(client: Client) -> float | None:
    """Return the server's clock, in seconds since 1970; None where it does not tell, or not this role.

    OpenSearch sends no Date header; a node tells its time with its statistics.
    """
    try:
        answer = client.request("GET", "/_nodes/_local/stats/process", params={"filter_path": "nodes.*.timestamp"})
    except RefusedError:
        return None
    return next((node["timestamp"] / 1000 for node in answer.get("nodes", {}).values()), None)


def _identity(client: Client) -> tuple[str, Version | None]:
    try:
        answer = client.request("GET", "/")
    except NotFoundError:
        return "serverless", None
    except CredentialsError as error:
        if error.status == 401:  # noqa: PLR2004
            raise
        return "opensearch", None  # a role need not hold cluster:monitor/main
    about: dict[str, Any] = answer.get("version", {}) if isinstance(answer, dict) else {}
    if not about:
        raise OpenSearchError(f"What answers at {', '.join(client.urls)} is not OpenSearch: check the URL.")
    # Elasticsearch names no distribution.
    return str(about.get("distribution", "Elasticsearch")), parse_version(str(about.get("number", "")))


def _plugins(client: Client) -> frozenset[str] | None:
    try:
        listed = client.request("GET", "/_cat/plugins", params={"format": "json", "h": "component"})
    except RefusedError:
        return None
    return frozenset(row["component"] for row in listed)


def _data_nodes(client: Client) -> int | None:
    try:
        health = client.request("GET", "/_cluster/health", params={"filter_path": "number_of_data_nodes"})
    except RefusedError:
        return None
    count = health.get("number_of_data_nodes")
    return count if isinstance(count, int) else None


def _answers_ism(client: Client) -> bool:
    # Asked of the handler itself: the list of plugins may be hidden from this role.
    try:
        client.request("GET", ISM_POLICIES, params={"size": 1})
    except CredentialsError:
        return True
    except RefusedError:
        return False
    return True
