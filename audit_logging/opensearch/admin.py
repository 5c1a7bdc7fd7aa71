"""The entry for those who run the trail, as far as nothing has to be recorded in it: set it up, look at retention.

What is recorded in the trail itself is added in :mod:`audit_logging.integrations.admin`.
"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging.errors import RefusedError
from audit_logging.opensearch.archive_restore import restore
from audit_logging.opensearch.capabilities import Capabilities, server_time
from audit_logging.opensearch.connected import Closing
from audit_logging.opensearch.holds import read_holds
from audit_logging.opensearch.ism import read_policy
from audit_logging.opensearch.retention_apply import Retention
from audit_logging.opensearch.retention_period import days_in_force, keys_here
from audit_logging.opensearch.retention_verify import verify_plan
from audit_logging.opensearch.setup import carry_out, insist_on_a_fit_server, plan_setup
from audit_logging.opensearch.templates import policy_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from audit_logging.opensearch.archive import Archive
    from audit_logging.opensearch.archive_restore import RestoreReport
    from audit_logging.opensearch.holds import Hold
    from audit_logging.opensearch.retention import RetentionPlan
    from audit_logging.opensearch.retention_verify import RetentionVerification
    from audit_logging.opensearch.steps import SetupReport


class AuditAdmin(Closing):
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

    def retention_plan(self, *, at: dt.datetime | None = None) -> RetentionPlan:
        """Return what will leave when, and what :meth:`apply_retention` would do. Changes nothing.

        Args:
            at: The time to plan for; None: now.

        Raises:
            NotFoundError: There is no such stream.
            OpenSearchError: There was no answer, the server refused, or its answer would be partial.

        Example:
            >>> with AuditAdmin(opensearch_url="http://127.0.0.1:9200") as admin:  # doctest: +SKIP
            ...     for outlook in admin.retention_plan().outlooks:
            ...         print(outlook.index.name, outlook.leaves, outlook.kept, outlook.actions)
        """
        return self._retention(at=at).plan()

    def verify_retention(self) -> RetentionVerification:
        """Look at the policy and every backing index, and name what is not as it should be. Changes nothing.

        Raises:
            NotFoundError: There is no such stream.
            OpenSearchError: There was no answer, the server refused, or its answer would be partial.
        """
        retention = self._retention()
        policy = read_policy(self._client, policy_name(retention.stream)) if retention.ism else None
        return verify_plan(retention.plan(), policy)

    def list_holds(self) -> tuple[Hold, ...]:
        """Return every legal hold that the trail knows, released ones included, the oldest first.

        Raises:
            OpenSearchError: There was no answer, the server refused, or its answer would be partial.
        """
        self._client.request("POST", f"/{self.settings.stream}/_refresh")
        return read_holds(self._client, self.settings.stream)

    def restore_archive(
        self,
        manifests: Sequence[str | os.PathLike[str]],
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> RestoreReport:
        """Restore archived backing indices into a read-only stream of their own, ``<stream>-restored-<name>``.

        Args:
            manifests: Paths of the manifests; all are checked before anything is written.
            name: End of the restored stream's name; None: the number of the first backing index.
            progress: Called after each batch with (events done, events in all).

        Raises:
            ArchiveError: An archive is damaged. Nothing was written.
            OpenSearchError: There was no answer, or the server refused. Run it again to go on.
        """
        paths = [Path(manifest) for manifest in manifests]
        able = Capabilities.probe(self._client)
        return restore(self._client, self.settings, able, paths, name=name, progress=progress)

    def _retention(
        self, *, days: int | None = None, at: dt.datetime | None = None, archive: Archive | None = None
    ) -> Retention:
        able = Capabilities.probe(self._client)
        insist_on_a_fit_server(able)
        clock = self._now if at is None else lambda: at
        return Retention(
            self._client,
            self.settings.stream,
            days=days or days_in_force(self._client, self.settings, ism=able.ism),
            ism=able.ism,
            lock=able.lock,
            clock=clock,
            archive=archive,
            keys=keys_here(self.settings),
        )

    def _now(self) -> dt.datetime:
        """Return the time by the slower of two clocks: where one is ahead by months, nothing must leave for that."""
        here, there = time.time(), server_time(self._client)
        return dt.datetime.fromtimestamp(here if there is None else min(here, there), dt.timezone.utc)


def _somebody_was_faster(error: RefusedError) -> bool:
    return error.status == 409 or error.error_type == "resource_already_exists_exception"  # noqa: PLR2004
