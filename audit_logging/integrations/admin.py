"""The public entry for those who run the trail: everything an administrator does, recorded in the trail itself."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from audit_logging.capture.trail import Trail
from audit_logging.errors import HoldError, OpenSearchError
from audit_logging.events.imitations import escape
from audit_logging.events.values import each_text
from audit_logging.integrations.erasure import Erasure, erase
from audit_logging.opensearch import admin
from audit_logging.opensearch.archive import Archive
from audit_logging.opensearch.holds import (
    EVERYTHING,
    PLACED,
    QUARANTINED,
    RELEASED,
    new_hold,
    placing,
    releasing,
    search,
)
from audit_logging.opensearch.retention_apply import DEFAULT_WAIT_SECONDS
from audit_logging.opensearch.retention_seal import read_seals
from audit_logging.privacy.policy import privacy_policy
from audit_logging.privacy.redaction import SecretKeys
from audit_logging.privacy.secrets import SecretText
from audit_logging.query.dsl import all_of, any_of, query_of
from audit_logging.query.filter import Filter
from audit_logging.query.protected import ProtectedFields
from audit_logging.query.reader import AuditReader

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from audit_logging.opensearch.holds import Hold
    from audit_logging.opensearch.retention_apply import RetentionReport
    from audit_logging.settings import Settings

_TIMES = ("since", "until")

_AS_GIVEN: Final[dict[str, Any]] = {
    "console": False,
    "ship": True,
    "audit_searches": False,
    "audit_exports": False,
    "redact_keys": frozenset(),
    "allowed_metadata": {},
    "erasable_fields": frozenset(),
    "pseudonym_fields": frozenset(),
}
"""What seals and holds say is recorded and archived to the letter: a hash or a query is wrong with one value redacted
or protected. What people write in it is looked through before. This process waits for it, and so ships it."""


@dataclass(frozen=True)
class HoldReport:
    """What became of a hold.

    Attributes:
        hold: The hold.
        indices: The backing indices that are under it now; none once it is released.
        report: What had to be done for it.
    """

    hold: Hold
    indices: tuple[str, ...]
    report: RetentionReport


class AuditAdmin(admin.AuditAdmin):
    """Administers one stream, and records what it does in the trail. Close it, or use it in a ``with`` block.

    What changes the trail's fate is an event of the trail first, acknowledged by OpenSearch, and done then. These
    events wait in the spool of the settings where OpenSearch does not answer, like any.

    Args:
        settings: Ready settings; or give any of them as keywords.
        given: Settings by keyword, over the environment's.

    Raises:
        SettingsError: A setting is wrong, or no ``opensearch_url`` is set.

    Example:
        >>> with AuditAdmin(opensearch_url="http://127.0.0.1:9200") as admin:  # doctest: +SKIP
        ...     admin.setup()
        ...     print(admin.apply_retention(retention_days=90).deleted)
    """

    _trail: Trail | None = None

    def apply_retention(
        self,
        retention_days: int | None = None,
        *,
        archive: str | os.PathLike[str] | None = None,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
    ) -> RetentionReport:
        """Let everything leave whose time has come, and see to it that the rest will. Run it daily, anywhere.

        With Index State Management the server rolls over and deletes by its policy, which is put, brought to every
        backing index and checked; otherwise this rolls over and deletes by the same rules. An index is sealed by an
        event before it may leave, and one on hold stays.

        Args:
            retention_days: Days every event is kept at least; None: the setting, else the period in force.
            archive: Directory in which each sealed index is kept before it may leave; None: nowhere.
            wait_seconds: How long Index State Management may take to take over what it was given.

        Raises:
            DurabilityError: The trail did not take an event that must come first. Nothing was deleted.
            ArchiveError: An index could not be archived, and stays.
            OpenSearchError: There was no answer, or the server refused. Run it again to go on.
        """
        # A retention period that makes no sense shall be refused before anything is done.
        days = None if retention_days is None else self.settings.load(retention_days=retention_days).retention_days
        kept = None if archive is None else self._archive(Path(archive))
        return self._retention(days=days, archive=kept).apply(self._record, wait_seconds)

    def place_hold(self, *, reason: str, person: str, **conditions: Any) -> HoldReport:
        """Keep what matches from leaving, whatever its age, until the hold is released.

        Whole backing indices are kept: those that hold a matching event now or will later. A quarantined event, whose
        fields cannot be searched, counts as matching within the time range.

        Args:
            reason: Why, for the record.
            person: Who places it, for the record.
            conditions: What to keep, as in :meth:`AuditReader.search`; none: all of the stream.

        Raises:
            FilterError: A condition is malformed.
            HoldError: There is no reason or no person.
            DurabilityError: The trail did not take the record, so there is no hold.
            OpenSearchError: The hold is recorded and could not be enforced at once: run `apply_retention`.

        Example:
            >>> with AuditAdmin() as admin:  # doctest: +SKIP
            ...     admin.place_hold(reason="Case 12/2026", person="jane.doe", user_id="u-42", until="2026-03-01")
        """
        where = Filter.of(**conditions)
        query, covers = hold_query(
            where, self.settings, mask=self._without_secrets, also_plain=self._holds_plain(where)
        )
        hold = new_hold(self._without_secrets(reason), person, query, covers)
        retention = self._retention()
        retention.plan()  # what cannot be looked at cannot be held: nothing is recorded then
        self._record(PLACED, placing(hold))
        with _said_of(hold.id, "is placed, and what it covers could not be protected at once"):
            report = retention.protect(self._record, hold.id)
        assert report.plan is not None
        held = tuple(outlook.index.name for outlook in report.plan.outlooks if hold.id in outlook.index.holds)
        return HoldReport(hold, held, report)

    def readable(self, hold: Hold) -> Hold:
        """Return *hold* with what it covers readable, where the key store is here; erased values stay so."""
        fields = ProtectedFields.of(self.settings)
        return hold if fields is None else replace(hold, covers=fields.open(hold.covers))

    def release_hold(self, hold_id: str, *, reason: str, person: str) -> HoldReport:
        """Release a hold. What no other hold keeps leaves when retention is applied next.

        Args:
            hold_id: Its id, as :meth:`list_holds` tells it.
            reason: Why, for the record.
            person: Who releases it, for the record.

        Raises:
            HoldError: No hold with that id is in force, or there is no reason or no person.
            DurabilityError: The trail did not take the record, so the hold is still in force.
            OpenSearchError: The release is recorded; locks are taken off by the next `apply_retention`.
        """
        holds = {hold.id: hold for hold in self.list_holds() if hold.active}
        if hold_id not in holds:
            known = ", ".join(holds) or "there is none"
            raise HoldError(
                f"No hold {hold_id!r} is in force (in force: {known}). `audit-logging hold list` shows all."
            )
        self._record(RELEASED, releasing(holds[hold_id], self._without_secrets(reason), person))
        with _said_of(hold_id, "is released, and what it covered could not be unlocked at once"):
            return HoldReport(holds[hold_id], (), self._retention().protect(self._record))

    def erase(self, subject: str, *, reason: str | None = None, by: str | None = None) -> Erasure:
        """Make the protected values of *subject* unreadable for ever, and record that.

        See :func:`audit_logging.integrations.erasure.erase`.
        """
        return erase(self.settings, subject, reason=reason, by=by)

    def close(self) -> None:
        """Ship what was recorded, and close the connections."""
        trail, self._trail = self._trail, None
        if trail is not None:
            trail.shutdown(self.settings.shutdown_timeout_seconds)
        super().close()

    def _record(self, event_type: str, facts: Mapping[str, Any]) -> str:
        """Put an event into the trail and return its id once OpenSearch has acknowledged it."""
        if self._trail is None:
            self._trail = Trail(self.settings.model_copy(update=_AS_GIVEN))
        return self._trail.emit(event_type, facts, "indexed")

    def _archive(self, directory: Path) -> Archive:
        return Archive(directory, self.settings.stream, self._export, self._sealed_writers)

    def _export(self, index: str, path: Path) -> None:
        # As it is stored: what is protected stays so in the archive, and only so do the hashes agree.
        with AuditReader(settings=self.settings.model_copy(update={**_AS_GIVEN, "stream": index})) as reader:
            reader.export(path)
        Path(f"{path}.manifest.json").unlink(missing_ok=True)  # the archive's own says more, and says it last

    def _without_secrets(self, text: str) -> str:
        if not self.settings.detect_secrets:
            return text
        return SecretText(SecretKeys(self.settings.redact_keys), self.settings.redact_patterns).mask(text)

    def _holds_plain(self, where: Filter) -> bool:
        """Whether values that *where* names are stored as they are: from before they were protected."""
        body = {"query": query_of(where.at(self._now())), "size": 0, "track_total_hits": 1}
        return bool(search(self._client, self.settings.stream, body)["hits"]["total"]["value"])

    def _sealed_writers(self, uuid: str) -> list[dict[str, Any]] | None:
        self._client.request("POST", f"/{self.settings.stream}/_refresh")
        seal = read_seals(self._client, self.settings.stream, [uuid]).get(uuid)
        if seal is None:
            return None
        return [{name: told for name, told in each.items() if name != "before"} for each in seal["writers"]]


@contextmanager
def _said_of(hold_id: str, what: str) -> Iterator[None]:
    """Say in an error which hold it is about: what is recorded stands, and its id is needed to go on."""
    try:
        yield
    except OpenSearchError as error:
        raise OpenSearchError(f"The hold {hold_id} {what}: {error} Run `audit-logging retention apply`.") from error


def hold_query(
    where: Filter, settings: Settings, *, mask: Callable[[str], str] = str, also_plain: bool = True
) -> tuple[dict[str, Any], str]:
    """Return what a hold covers, as query and for people. Both are recorded.

    Args:
        where: What to keep.
        settings: Which fields are protected, and the keys.
        mask: Returns a text without the secrets in it.
        also_plain: Whether values of protected fields are stored as they are, too. Else the query does not hold them.

    Raises:
        HoldError: Fields of the events are protected, and their keys are not here: the hold would miss events.

    Example:
        >>> from audit_logging.settings import Settings
        >>> hold_query(Filter.of(), Settings.load())
        ({'match_all': {}}, 'everything')
        >>> hold_query(Filter.of(user_id="u-42"), Settings.load())[1]
        'user_id u-42'
    """
    fixed = where.at(dt.datetime.now(dt.timezone.utc))  # a hold says which events, whenever it is asked
    given = {name: value for name, value in fixed if value is not None}
    if not given:
        return dict(EVERYTHING), "everything"
    times = query_of(fixed.model_copy(update={name: None for name in given if name not in _TIMES}))
    others = query_of(fixed.model_copy(update=dict.fromkeys(_TIMES)))
    clauses = [times] if any(name in given for name in _TIMES) else []
    if others != EVERYTHING:
        others = _protected(others, settings, also_plain=also_plain)
        clauses.append(any_of([others, {"term": {"event.action": QUARANTINED}}]))
    told, policy = escape(each_text(fixed.given(), mask)), privacy_policy(settings)
    told = told if policy is None else policy.protect_filter(told)
    return all_of(clauses), ", ".join(f"{name} {_shown(value)}" for name, value in told.items())


def _protected(query: dict[str, Any], settings: Settings, *, also_plain: bool) -> dict[str, Any]:
    """Return *query* such that it finds values that are protected in the stream."""
    if not settings.erasable_fields | settings.pseudonym_fields:
        return query
    fields = ProtectedFields.of(settings)
    if fields is None:
        raise HoldError(
            f"Fields of the events are protected, and their keys are not here ({settings.subject_keys_path}), so that a"
            " hold with filters would miss events: place it where they are, or hold a time range or the whole stream."
        )
    asked: dict[str, Any] = dict(fields.asked({"query": query}, also_plain=also_plain)["query"])
    return asked


def _shown(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)
