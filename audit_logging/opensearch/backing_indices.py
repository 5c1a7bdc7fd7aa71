"""The backing indices of a stream, and their state: also of those that are closed or blocked."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from audit_logging.errors import NotFoundError, OpenSearchError

if TYPE_CHECKING:
    from audit_logging.opensearch.client import Client

_FACTS: Final = "state,rollover_info,settings.index.uuid,settings.index.creation_date,settings.index.blocks"


class IndexState(NamedTuple):
    """The state of one backing index.

    Attributes:
        uuid: What tells it from a later index of the same name.
        created: When it was made.
        rolled_over: When the stream rolled it over; None where that is not told.
        locked: Whether OpenSearch refuses to change or delete it (``index.blocks.read_only``).
        closed: Whether it is closed: nothing in it can be read.
        blocked: Whether its settings and mapping cannot be read, nor it be deleted (``index.blocks.metadata``).
    """

    uuid: str
    created: dt.datetime
    rolled_over: dt.datetime | None
    locked: bool
    closed: bool
    blocked: bool


def find_stream(client: Client, name: str) -> dict[str, Any] | None:
    """Return what the server says of the data stream *name*, or None.

    Raises:
        OpenSearchError: The name belongs to an ordinary index or an alias.
    """
    try:
        found = client.request("GET", f"/_data_stream/{name}")["data_streams"]
    except NotFoundError:
        return None
    if not found:
        raise OpenSearchError(
            f"{name!r} is an ordinary index or alias, not a data stream (events may have been written before the"
            " set-up): keep what it holds by reindexing it into another index, delete it, and set up again."
        )
    stream: dict[str, Any] = found[0]
    return stream


def names_of_backing_indices(found: dict[str, Any]) -> tuple[str, ...]:
    """Return the names in what :func:`find_stream` returned, the oldest first."""
    return tuple(index["index_name"] for index in found["indices"])


def read_index_states(client: Client, stream: str) -> dict[str, IndexState]:
    """Return the state of every backing index of *stream* by name; nothing where there is no such stream.

    The API of index settings refuses to answer for all of them when one has a block on its metadata.

    Source: OpenSearch documentation, "Cluster state"; seen on 3.8.0.
    """
    wanted = ",".join(f"metadata.indices.*.{fact}" for fact in _FACTS.split(","))
    try:
        answer = client.request("GET", f"/_cluster/state/metadata/{stream}", params={"filter_path": wanted})
    except NotFoundError:
        return {}
    found = answer.get("metadata", {}).get("indices", {})
    return {name: _state(about, stream) for name, about in found.items()}


def _state(about: dict[str, Any], stream: str) -> IndexState:
    settings = about["settings"]["index"]
    blocks = settings.get("blocks", {})
    told = about.get("rollover_info", {}).get(stream)
    return IndexState(
        uuid=settings["uuid"],
        created=moment(int(settings["creation_date"])),
        rolled_over=moment(told["time"]) if told else None,
        locked=blocks.get("read_only") == "true",
        closed=about.get("state") == "close",
        blocked=blocks.get("metadata") == "true",
    )


def moment(milliseconds: int) -> dt.datetime:
    """Return the moment that many milliseconds after the epoch.

    Example:
        >>> moment(1_767_225_600_000).isoformat()
        '2026-01-01T00:00:00+00:00'
    """
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc)
