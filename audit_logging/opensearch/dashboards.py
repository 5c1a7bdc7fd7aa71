"""The saved objects of OpenSearch Dashboards: index pattern, searches, panels and one dashboard for a stream.

They are made of ``index_templates/dashboards/audit.yaml``; objects of other ids, such as copies that analysts saved,
are left alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from audit_logging.errors import OpenSearchError
from audit_logging.opensearch.dashboards_client import DashboardsClient
from audit_logging.opensearch.steps import SetupReport, Step
from audit_logging.opensearch.templates import template_text
from audit_logging.settings import DEFAULT_STREAM

if TYPE_CHECKING:
    from audit_logging.opensearch.dashboards_client import SavedObject
    from audit_logging.settings import Settings

KINDS = {
    "index-pattern": "index pattern",
    "search": "saved search",
    "visualization": "visualization",
    "dashboard": "dashboard",
}
"""Types of saved objects, for people."""


def saved_objects(stream: str = DEFAULT_STREAM) -> list[SavedObject]:
    """Return the saved objects of *stream*, each after those it refers to.

    Their ids follow from the stream's name: a second set-up replaces them, and another stream has others.

    Example:
        >>> pattern, *others = saved_objects("audit-shop")
        >>> pattern["type"], pattern["id"], others[-1]["id"]
        ('index-pattern', 'audit-shop', 'audit-shop--overview')
    """
    return [orjson.loads(line) for line in template_text("dashboards/audit.ndjson", stream).splitlines()]


def set_up_dashboards(settings: Settings, *, dry_run: bool = False) -> SetupReport:
    """Put the saved objects of the stream into Dashboards, unless all are there as they should be.

    Args:
        settings: ``stream`` and ``dashboards_url`` are used, and the credentials and TLS files of OpenSearch.
        dry_run: Return what would be done, and change nothing.

    Raises:
        SettingsError: No ``dashboards_url`` is set.
        UnreachableError: There was no answer.
        OpenSearchError: Dashboards refused, or does not hold what it said it had stored.
    """
    wanted = saved_objects(settings.stream)
    with DashboardsClient(settings) as client:
        before = client.read(wanted)
        steps = tuple(_step(item, found) for item, found in zip(wanted, before, strict=True))
        _insist_on_the_workspace(client, before)
        report = SetupReport(
            settings.stream, dry_run=True, steps=steps, notes=_notes(client, settings, wanted[-1]["id"])
        )
        if dry_run:
            return replace(report, notes=())
        if report.changed:
            client.put(wanted)
            _insist_on_all_stored(client, wanted, before)
        return replace(report, dry_run=False)


def _step(wanted: SavedObject, found: SavedObject | None) -> Step:
    what = KINDS[wanted["type"]]
    if found is None:
        return Step(what, wanted["id"], "created")
    if _content(found) == _content(wanted):
        return Step(what, wanted["id"], "unchanged")
    return Step(what, wanted["id"], "updated", "it differed from what it should be")


def _content(item: SavedObject) -> tuple[object, object]:
    references = {(each["name"], each["type"], each["id"]) for each in item.get("references", ())}
    return _meaning(item.get("attributes")), references


def _meaning(value: Any) -> Any:
    """Return an attribute as it is compared: JSON parsed, without nulls and without counts of use.

    Dashboards writes both into the fields of an index pattern while it is merely used.
    """
    if isinstance(value, dict):
        return {name: _meaning(each) for name, each in value.items() if each is not None and name != "count"}
    if isinstance(value, list):
        return [_meaning(each) for each in value]
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return _meaning(orjson.loads(value))
        except orjson.JSONDecodeError:
            return value
    return value


def _insist_on_the_workspace(client: DashboardsClient, found: list[SavedObject | None]) -> None:
    """Refuse where an object exists outside the workspace that the URL names.

    Dashboards shows no such object there, and an import makes a copy under a random id, with every run.
    """
    workspace = client.workspace
    elsewhere = [item for item in found if item and workspace and workspace not in (item.get("workspaces") or ())]
    if elsewhere:
        first = elsewhere[0]
        others = ", ".join(first.get("workspaces") or ()) or "none"
        raise OpenSearchError(
            f"{len(elsewhere)} of {len(found)} objects exist in OpenSearch Dashboards at {client.url} outside the"
            f" workspace {workspace!r}, for example the {KINDS[first['type']]} {first['id']!r} (in: {others})."
            " Assign them to this workspace or delete them, then run the set-up again; nothing was changed."
        )


def _notes(client: DashboardsClient, settings: Settings, dashboard: str) -> tuple[str, ...]:
    tenant = quote(settings.dashboards_tenant)
    notes = [f"The dashboard is at {client.url}/app/dashboards?security_tenant={tenant}#/view/{dashboard}"]
    if client.workspace is None and client.has_workspaces():
        notes.append(
            "Workspaces are enabled in this OpenSearch Dashboards: objects outside a workspace cannot be opened. Set"
            f" dashboards_url (AUDIT_DASHBOARDS_URL) to the workspace's URL, such as {client.url}/w/<id>."
        )
    return tuple(notes)


def _insist_on_all_stored(
    client: DashboardsClient, wanted: list[SavedObject], before: list[SavedObject | None]
) -> None:
    """Read every object back: an import may list successes and have stored nothing.

    Stored is what was written anew, not what is equal: a newer Dashboards brings objects to its own shape.

    Source: OpenSearch-Dashboards, issue 12657.
    """
    after = client.read(wanted)
    lost = [
        f"{KINDS[item['type']]} {item['id']!r}"
        for item, then, now in zip(wanted, before, after, strict=True)
        if now is None or (_content(now) != _content(item) and now.get("version") == (then or {}).get("version"))
    ]
    if lost:
        raise OpenSearchError(
            f"OpenSearch Dashboards at {client.url} said it had stored everything, but {len(lost)} of {len(wanted)}"
            f" objects are not there, the first being the {lost[0]}: see its log, and run the set-up again."
        )
