"""What the public entries to one OpenSearch share: how they begin, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_logging.errors import SettingsError
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Connected:
    """Settings, and a client for the OpenSearch that they name.

    Args:
        settings: Ready settings; or give any of them as keywords.
        given: Settings by keyword, over the environment's.

    Raises:
        SettingsError: A setting is wrong or given both ways, or no ``opensearch_url`` is set.
    """

    def __init__(self, *, settings: Settings | None = None, **given: Any) -> None:
        if settings is not None and given:
            raise SettingsError(f"Give {type(self).__name__} either settings= or single settings, not both.")
        self.settings = settings if settings is not None else Settings.load(**given)
        self._client = Client(self.settings)


class Closing(Connected):
    """One that is closed, or used in a ``with`` block."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
