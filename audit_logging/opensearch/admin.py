"""The public entry for those who run the trail: set it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from audit_logging.errors import RefusedError
from audit_logging.opensearch.capabilities import Capabilities
from audit_logging.opensearch.client import Client
from audit_logging.opensearch.setup import carry_out, plan_setup
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from audit_logging.opensearch.steps import SetupReport


class AuditAdmin:
    """Administers one stream. Thread-safe; close it, or use it in a ``with`` block.

    Args:
        settings: Ready settings; or give any of them as keywords.
        given: Settings by keyword, over the environment's.

    Raises:
        SettingsError: A setting is wrong, or no ``opensearch_url`` is set.

    Example:
        >>> with AuditAdmin(opensearch_url="http://127.0.0.1:9200") as admin:  # doctest: +SKIP
        ...     report = admin.setup()
        ...     print(report.changed, *report.notes)
    """

    def __init__(self, *, settings: Settings | None = None, **given: Any) -> None:
        if settings is not None and given:
            raise TypeError("AuditAdmin takes either settings= or single settings by keyword, not both")
        self.settings = settings if settings is not None else Settings.load(**given)
        self._client = Client(self.settings)

    def setup(self, *, dry_run: bool = False, append_only: bool = True) -> SetupReport:
        """Prepare the stream: retention policy, templates, data stream; do only what is missing or older.

        Args:
            dry_run: Return what would be done, and change nothing.
            append_only: Let backing indices refuse every change. It cannot be undone for an existing index.

        Raises:
            UnreachableError: There was no answer. What was done stays done; run it again.
            OpenSearchError: The server refused, or what is there is newer or belongs to somebody else.

        Source: OpenSearch documentation, "Data streams", "Index templates" and "Index State Management".
        """
        able = Capabilities.probe(self._client)
        report = plan_setup(self._client, self.settings, able, append_only=append_only)
        if dry_run:
            return report
        try:
            return carry_out(self._client, report)
        except RefusedError as error:
            if not _somebody_was_faster(error):
                raise
        # Several instances of an application may start, and set up, at once: look again at what is there now.
        return carry_out(self._client, plan_setup(self._client, self.settings, able, append_only=append_only))

    def setup_dashboards(self, *, dry_run: bool = False) -> SetupReport:
        """Put index pattern, searches, panels and a dashboard of the stream into OpenSearch Dashboards.

        Args:
            dry_run: Return what would be done, and change nothing.

        Raises:
            SettingsError: No ``dashboards_url`` is set.
            UnreachableError: There was no answer.
            OpenSearchError: Dashboards refused, or does not hold what it said it had stored.
        """
        from audit_logging.opensearch.dashboards import set_up_dashboards

        return set_up_dashboards(self.settings, dry_run=dry_run)

    def setup_security(self, *, dry_run: bool = False) -> SetupReport:
        """Give the server the roles of the stream: writer, analyst, tenant analyst, auditor, administrator.

        Args:
            dry_run: Return what would be done, and change nothing.

        Raises:
            UnreachableError: There was no answer.
            OpenSearchError: The server has no security plugin, or refused.
        """
        from audit_logging.opensearch.roles import plan_roles

        report = plan_roles(self._client, self.settings.stream, Capabilities.probe(self._client))
        return report if dry_run else carry_out(self._client, report)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _somebody_was_faster(error: RefusedError) -> bool:
    return error.status == 409 or error.error_type == "resource_already_exists_exception"  # noqa: PLR2004
