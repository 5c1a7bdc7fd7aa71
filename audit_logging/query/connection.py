"""What reads a stream: settings, and requests to the server with errors that speak to a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_logging.errors import OpenSearchError, SettingsError
from audit_logging.opensearch.client import Client
from audit_logging.opensearch.settling import settled
from audit_logging.query.exchange import checked, explained
from audit_logging.query.protected import ProtectedFields
from audit_logging.query.questions import Questions
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from audit_logging.query.exchange import Answer, Request


class Connection:
    """The base of the readers.

    Args:
        settings: Ready settings; or give any of them as keywords.
        keywords: Settings by keyword, over the environment's.

    Raises:
        SettingsError: A setting is wrong, or no ``opensearch_url`` is set.
    """

    def __init__(self, *, settings: Settings | None = None, **keywords: Any) -> None:
        if settings is not None and keywords:
            raise SettingsError(f"Give {type(self).__name__} either settings= or single settings, not both.")
        self.settings = settings if settings is not None else Settings.load(**keywords)
        self._stream = self.settings.stream
        self._questions = Questions(self._stream)
        self._client = Client(self.settings)
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
