"""The JSON of ``index_templates/``, fitted to one stream.

The files describe the default stream and may be sent with curl as they are. Here the stream's name, the retention
period and what the server cannot do are put in.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import orjson

from audit_logging.settings import DEFAULT_STREAM

MANAGER = "audit-logging"
"""Value of ``_meta.managed_by`` in everything that the set-up creates."""

ROLLOVERS_PER_RETENTION = 12
"""A dozen backing indices hold one retention period: few enough for the cluster, and what expires waits at most a
twelfth of the period longer for the rest of its index."""
LONGEST_ROLLOVER_DAYS = 30
"""Upper bound of one backing index's age, so that a retention of years still expires month by month."""


@dataclass(frozen=True)
class Blueprint:
    """Everything OpenSearch must be given to hold one stream. Build it with :func:`blueprint`."""

    stream: str
    mappings: dict[str, Any]
    settings: dict[str, Any]
    index_template: dict[str, Any]
    policy: dict[str, Any]

    @property
    def mappings_name(self) -> str:
        """Name of the component template that holds the fields."""
        return f"{self.stream}-mappings"

    @property
    def settings_name(self) -> str:
        """Name of the component template that holds the settings."""
        return f"{self.stream}-settings"

    @property
    def policy_name(self) -> str:
        """Name of the ISM policy."""
        return policy_name(self.stream)


RESTORED: Final = "-restored-"
"""Stands in the name of a stream that an archive was restored into, behind that of the stream it came from."""


def policy_name(stream: str) -> str:
    """Return the name of the ISM policy of *stream*.

    Example:
        >>> policy_name("audit-shop")
        'audit-shop-retention'
    """
    return f"{stream}-retention"


def blueprint(stream: str = DEFAULT_STREAM, *, retention_days: int = 90, append_only: bool = True) -> Blueprint:
    """Return what *stream* needs.

    Args:
        stream: Name of the data stream.
        retention_days: Days every event is kept at least.
        append_only: Whether backing indices refuse every change. The server must know how (2.19 or newer).

    Example:
        >>> blueprint("audit-shop").index_template["index_patterns"]
        ['audit-shop']
    """
    settings = _load("component-settings", stream)
    if not append_only:
        del settings["template"]["settings"]["index"]["append_only"]
    return Blueprint(
        stream=stream,
        mappings=_load("component-mappings", stream),
        settings=settings,
        index_template=_load("index-template", stream),
        policy=_policy(stream, retention_days),
    )


def matches(pattern: str, name: str) -> bool:
    """Return whether an index pattern matches *name*, as OpenSearch reads it: ``*`` is the only special character.

    Example:
        >>> matches("audit-*", "audit-events"), matches("audit-event?", "audit-events")
        (True, False)
    """
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def rollover_days(retention_days: int) -> int:
    """Return the greatest age of a write index, in days, for a retention period.

    Example:
        >>> [rollover_days(days) for days in (1, 30, 90, 3650)]
        [1, 2, 7, 30]
    """
    return min(max(retention_days // ROLLOVERS_PER_RETENTION, 1), LONGEST_ROLLOVER_DAYS)


def rollover_bytes() -> int:
    """Return the size of a primary shard from which on a write index is rolled over: what the policy says.

    Example:
        >>> rollover_bytes() >> 30
        30
    """
    size = _load("ism-policy", DEFAULT_STREAM)["policy"]["states"][0]["actions"][0]["rollover"]
    return int(size["min_primary_shard_size"].removesuffix("gb")) << 30


def _policy(stream: str, retention_days: int) -> dict[str, Any]:
    """Put the periods into the policy.

    The retention counts from the rollover (``min_rollover_age``): from its creation (``min_index_age``) it would cut
    the life of an index's last events by the age at which the index was rolled over. The rollover always has an age,
    or a quiet stream would never roll over and never expire.

    Source: OpenSearch documentation, "Index State Management, Policies", sections "rollover" and "Transitions".
    """
    policy = _load("ism-policy", stream)
    collecting = policy["policy"]["states"][0]
    collecting["actions"][0]["rollover"]["min_index_age"] = f"{rollover_days(retention_days)}d"
    collecting["transitions"][0]["conditions"]["min_rollover_age"] = f"{retention_days}d"
    return policy


def _load(name: str, stream: str) -> dict[str, Any]:
    loaded: dict[str, Any] = orjson.loads(template_text(f"{name}.json", stream))
    return loaded


def template_text(file: str, stream: str) -> str:
    """Return the text of one of the files, fitted to *stream*.

    A stream's name holds no character that JSON would escape, so renaming the text renames every mention.
    """
    return _text(file).replace(DEFAULT_STREAM, stream)


@functools.cache
def _text(file: str) -> str:
    """Read one file: in the installed package, or beside it in a source checkout."""
    package = resources.files("audit_logging")
    installed = package / "index_templates"
    directory = installed if installed.is_dir() else Path(str(package)).parent / "index_templates"
    return (directory / file).read_text("utf-8")
