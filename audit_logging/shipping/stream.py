"""The data stream as a shipper sees it: whether it is there, where it writes now, and which events it holds."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_logging.errors import CredentialsError, NotFoundError, OpenSearchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_logging.opensearch.client import Client
    from audit_logging.shipping.notices import Notices
    from audit_logging.spool.segment import Record

CHECK_SECONDS = 60.0
"""How long it is believed that the stream is still there and still writes to the same backing index."""

IDS_PER_REQUEST = 500
"""Ids that are looked up at once: each document is read, and the answer must come before the deadline."""

_UNAUTHORIZED = 401


class NoStreamError(OpenSearchError):
    """The data stream does not exist."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream!r} is not set up as a stream; run `audit-logging setup`. Events wait in the spool.")


class Stored(NamedTuple):
    """An event that the stream holds.

    Attributes:
        writer: Its writer.
        record: The event.
        write_index: The stream's write index when it was sent; None when that was not known.
    """

    writer: str
    record: Record
    write_index: str | None


class Stream:
    """One data stream. Thread-safe: what two threads may do at once is to look twice.

    Args:
        client: The cluster.
        name: The stream.
        notices: Where to say that the role may not look.
    """

    def __init__(self, client: Client, name: str, notices: Notices) -> None:
        self.name = name
        self._client = client
        self._notices = notices
        self._believed_until = float("-inf")
        self.write_index: str | None = None
        """The backing index that the stream wrote to when it was last looked at; None when the role may not look."""
        self.last_stored: Stored | None = None
        """An event that was stored by the latest request that stored any."""

    def require(self) -> None:
        """Return when the stream is there: without it OpenSearch would make an ordinary index of that name.

        Raises:
            NoStreamError: It is not.
            OpenSearchError: It cannot be asked.
        """
        if time.monotonic() >= self._believed_until:
            self._look()

    def doubt(self) -> None:
        """Believe nothing of what was seen before."""
        self._believed_until = float("-inf")

    def find(self, ids: Sequence[str], since: str | None) -> dict[str, str] | None:
        """Return what is stored under *ids*.

        Args:
            ids: Document ids, at most :data:`IDS_PER_REQUEST`.
            since: The oldest backing index that may hold them; None: any.

        Returns:
            The hash in the seal of each that is stored, by id; None where the role may not look. What is sent again
            then may be stored twice after a rollover, and readers take copies for one.

        Raises:
            OpenSearchError: It cannot be found out now.
        """
        indices = self._look()
        found: dict[str, str] = {}
        try:
            for index in indices[indices.index(since) :] if since in indices else indices:
                found |= self._find_in(index, ids)
        except CredentialsError as error:
            self._say_blind(error)
            return None
        return found if indices else None

    def _find_in(self, index: str, ids: Sequence[str]) -> dict[str, str]:
        # Real-time, and on the primary: a search or a replica may not see yet what was stored a moment ago.
        answer = self._client.request(
            "POST",
            f"/{index}/_mget",
            params={
                "_source": "audit.integrity.hash",
                "preference": "_primary",
                "filter_path": "docs._id,docs.found,docs._source",
            },
            body={"ids": list(ids)},
        )
        documents = answer.get("docs", []) if isinstance(answer, dict) else []
        known = [document for document in documents if "found" in document]
        if len(known) != len(ids):
            raise OpenSearchError(f"{index} cannot tell now which events it holds.")
        return {document["_id"]: _hash_in(document.get("_source")) for document in known if document["found"]}

    def _look(self) -> list[str]:
        """Return the backing indices, the oldest first; none when the role may not look."""
        try:
            answer = self._client.request("GET", f"/_data_stream/{self.name}")
            names = _backing_indices(answer, self.name)
        except NotFoundError as error:
            raise NoStreamError(self.name) from error
        except CredentialsError as error:
            if error.status == _UNAUTHORIZED:
                raise
            # A writer's role need not be allowed to look; what it may not write, the bulk request will say.
            self._say_blind(error)
            names = []
        self.write_index = names[-1] if names else None
        self._believed_until = time.monotonic() + CHECK_SECONDS
        return names

    def _say_blind(self, error: CredentialsError) -> None:
        if error.status == _UNAUTHORIZED:
            raise error
        self._notices.once(
            logging.INFO,
            "blind",
            f"The role may not look into {self.name}, so an event may be stored twice when a rollover falls between"
            f" two attempts; readers take copies for one. ({error})",
        )


def _hash_in(source: Any) -> str:
    """Return the hash in a stored seal; an empty text where there is none."""
    for name in ("audit", "integrity", "hash"):
        source = source.get(name) if isinstance(source, dict) else None
    return source if isinstance(source, str) else ""


def _backing_indices(answer: Any, stream: str) -> list[str]:
    try:
        (found,) = answer["data_streams"]  # an ordinary index of that name is no error there, and no stream either
        return [index["index_name"] for index in found["indices"]]
    except (KeyError, TypeError):
        raise OpenSearchError(f"What was said of the stream {stream!r} cannot be understood.") from None
    except ValueError:
        raise NoStreamError(stream) from None
