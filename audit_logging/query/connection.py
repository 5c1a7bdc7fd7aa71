"""What reads a stream: settings, and requests to the server with errors that speak to a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_logging.errors import OpenSearchError
from audit_logging.opensearch.connected import Connected
from audit_logging.opensearch.settling import settled
from audit_logging.query.exchange import checked, explained
from audit_logging.query.protected import ProtectedFields
from audit_logging.query.questions import Questions

if TYPE_CHECKING:
    from audit_logging.query.exchange import Answer, Request
    from audit_logging.settings import Settings


class Connection(Connected):
    """The base of the readers; arguments and errors are those of its own base."""

    def __init__(self, *, settings: Settings | None = None, **given: Any) -> None:
        super().__init__(settings=settings, **given)
        self._stream = self.settings.stream
        self._questions = Questions(self._stream)
        self._protected = ProtectedFields.of(self.settings)

    def _send(self, request: Request) -> Answer:
        body = request.body if self._protected is None else self._protected.asked(request.body)
        try:
            answer = settled(
                lambda: self._client.request(
                    request.method, request.path, params=request.params, body=body, most_bytes=request.most_bytes
                )
            )
        except OpenSearchError as error:
            better = explained(error, self.settings)
            if better is error:
                raise
            raise better from error
        checked(answer)
        return answer if self._protected is None else self._protected.answered(answer)
