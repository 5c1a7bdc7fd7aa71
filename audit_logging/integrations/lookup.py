"""Which events the stream holds already, by their id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_logging.errors import OpenSearchError
from audit_logging.query.exchange import checked, explained, search_request

if TYPE_CHECKING:
    from collections.abc import Collection

    from audit_logging.opensearch.client import Client
    from audit_logging.settings import Settings


class Lookup:
    """Asks one stream for events by their id.

    Args:
        client: The cluster.
        settings: Which stream.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._stream = settings.stream

    def require_stream(self) -> None:
        """Return when the stream is there to be asked.

        Raises:
            NotFoundError: It is not set up.
            OpenSearchError: OpenSearch cannot be reached, or refuses.
        """
        self.refresh()
        self.held([""])

    def refresh(self) -> None:
        """Make everything that the stream has acknowledged visible to searches."""
        self._ask("POST", f"/{self._stream}/_refresh")

    def held(self, ids: Collection[str]) -> set[str]:
        """Return which of *ids* the stream holds.

        Args:
            ids: At most some thousands: an OpenSearch takes 65,536 terms by default.

        Raises:
            IncompleteResultError: A shard failed or time ran out, so that an event might be taken for missing.
        """
        # Buckets and not hits: an event of which two copies exist must not push another one off the page. "map" looks
        # at what matches alone, instead of building ordinals of every id in the stream.
        terms = {"field": "event.id", "size": len(ids), "execution_hint": "map"}
        body = {
            "size": 0,
            "query": {"bool": {"filter": [{"terms": {"event.id": list(ids)}}]}},
            "aggs": {"ids": {"terms": terms}},
        }
        request = search_request(self._stream, body)
        answer = self._ask(request.method, request.path, request.params, request.body)
        return {bucket["key"] for bucket in answer["aggregations"]["ids"]["buckets"]}

    def _ask(self, method: str, path: str, params: Any = None, body: Any = None) -> Any:
        try:
            return checked(self._client.request(method, path, params=params, body=body))
        except OpenSearchError as error:
            raise explained(error, self._settings) from error
