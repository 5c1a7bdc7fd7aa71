"""The set-up of one stream: an ordered list of steps, each of which compares first and then does only what is missing.

The order is OpenSearch's: an ISM policy attaches itself only to indices created after it, an index template applies
only to indices created after it, so policy → component templates → index template → stream. What an existing stream
already holds is brought up to date last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_logging.errors import NotFoundError, OpenSearchError
from audit_logging.opensearch.backing_indices import find_stream, names_of_backing_indices
from audit_logging.opensearch.holds import kept_indices
from audit_logging.opensearch.ism import attachment_step, explain, policy_step, read_policy, read_rivals
from audit_logging.opensearch.retention_period import days_in_force
from audit_logging.opensearch.steps import Request, SetupReport, Step, step_for
from audit_logging.opensearch.templates import blueprint, matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from audit_logging.opensearch.capabilities import Capabilities
    from audit_logging.opensearch.client import Client
    from audit_logging.opensearch.ism import ManagedIndex
    from audit_logging.opensearch.templates import Blueprint
    from audit_logging.settings import Settings

FLAT_OBJECT_SINCE = (2, 7, 0)
"""First release that knows the field type which holds metadata."""

NO_ISM = (
    "This server has no Index State Management, so nothing rolls over or expires by itself: run"
    " `audit-logging retention apply` regularly, from cron for example."
)
NOT_APPEND_ONLY = (
    "The stream is not append-only: whoever may write to its backing indices can change and delete events."
)


def plan_setup(client: Client, settings: Settings, able: Capabilities, *, append_only: bool = True) -> SetupReport:
    """Compare what *settings* ask for with what is there, and return the steps between. Changes nothing.

    Args:
        client: The server.
        settings: ``stream`` and ``retention_days`` are used. A retention that nobody set leaves the one in force.
        able: What the server can do.
        append_only: Whether backing indices shall refuse every change. It cannot be undone for an existing index.

    Raises:
        OpenSearchError: The server cannot hold a trail; or something of the same name is there that is newer than
            this library or does not belong to it.
    """
    insist_on_a_fit_server(able)
    days = days_in_force(client, settings, ism=able.ism)
    plan = blueprint(settings.stream, retention_days=days, append_only=append_only and able.append_only)
    stream = read_stream(client, plan.stream)
    notes = list(_notes(able, append_only=append_only))
    steps = [_policy(client, plan, able, notes), *_templates(client, plan, notes), _data_stream(plan, stream)]
    if stream is not None:
        kept = kept_indices(client, plan.stream, stream.backing_indices)
        steps.append(_write_index(stream, plan, notes, alone=bool(kept)))
        if able.ism:
            expiring = [name for name in stream.backing_indices if name not in kept]
            explained = list(explain(client, expiring))
            steps.append(attachment_step(plan, explained))
            notes += _led_by_others(plan, explained)
    return SetupReport(plan.stream, dry_run=True, steps=tuple(steps), notes=tuple(notes))


def carry_out(client: Client, report: SetupReport) -> SetupReport:
    """Do what *report* plans, in its order, and return it as done.

    Raises:
        OpenSearchError: A step was refused. The steps before it are done, and running the set-up again goes on there.
    """
    for step in report.steps:
        step.apply(client)
    return replace(report, dry_run=False)


@dataclass(frozen=True)
class Stream:
    """What an existing stream holds.

    Attributes:
        name: The data stream.
        template: The index template that its next backing index will be made from.
        backing_indices: Its backing indices, oldest first; the last is written to.
        mapping_version: Version of the mapping of the write index; 0 when it is not ours.
        append_only: Whether the write index refuses every change.
        health: ``"green"``, ``"yellow"`` or ``"red"``.
    """

    name: str
    template: str
    backing_indices: tuple[str, ...]
    mapping_version: int
    append_only: bool
    health: str

    @property
    def write_index(self) -> str:
        """The backing index that new events go to."""
        return self.backing_indices[-1]


def read_stream(client: Client, name: str) -> Stream | None:
    """Return the stream of that name, or None.

    Raises:
        OpenSearchError: The name belongs to an ordinary index or an alias.
    """
    found = find_stream(client, name)
    if found is None:
        return None
    indices = names_of_backing_indices(found)
    about = client.request("GET", f"/{indices[-1]}")[indices[-1]]
    return Stream(
        name=name,
        template=str(found.get("template", "")),
        backing_indices=indices,
        mapping_version=int(about["mappings"].get("_meta", {}).get("version", 0)),
        append_only=about["settings"]["index"].get("append_only", {}).get("enabled") == "true",
        health=str(found.get("status", "")).lower(),
    )


def insist_on_a_fit_server(able: Capabilities) -> None:
    """Return when the server can hold a trail.

    Raises:
        OpenSearchError: It cannot.
    """
    if able.serverless:
        raise OpenSearchError(
            "This looks like Amazon OpenSearch Serverless (it does not answer GET /), which takes no document ids and"
            " so could hold events twice: use an OpenSearch domain or your own cluster."
        )
    if able.distribution != "opensearch":
        raise OpenSearchError(f"This server is {able.release}, not OpenSearch: check the URL.")
    if able.version is not None and able.version < FLAT_OBJECT_SINCE:
        raise OpenSearchError(f"{able.release} is too old for the trail: 2.19 or newer is needed for all of it.")


def _notes(able: Capabilities, *, append_only: bool) -> Iterator[str]:
    if not able.ism:
        yield NO_ISM
    if not append_only:
        yield NOT_APPEND_ONLY
    elif not able.append_only:
        yield f"{NOT_APPEND_ONLY} {able.release} does not know how; 2.19 and newer do."


def _policy(client: Client, plan: Blueprint, able: Capabilities, notes: list[str]) -> Step:
    if not able.ism:
        return Step("ISM policy", plan.policy_name, "left out", "the server has no Index State Management")
    ours: int = plan.policy["policy"]["ism_template"][0]["priority"]
    priority = _priority("ISM policy", plan.stream, ours, read_rivals(client, plan.stream), notes)
    return policy_step(plan, read_policy(client, plan.policy_name), priority)


def _led_by_others(plan: Blueprint, explained: Iterable[ManagedIndex]) -> Iterator[str]:
    for managed in explained:
        if managed.policy not in {None, plan.policy_name}:
            yield (
                f"{managed.index} follows another policy, {managed.policy!r}, which may delete it early: POST"
                f" _plugins/_ism/remove/{managed.index}, then set up again."
            )


def _templates(client: Client, plan: Blueprint, notes: list[str]) -> Iterator[Step]:
    for name, wanted in ((plan.mappings_name, plan.mappings), (plan.settings_name, plan.settings)):
        yield _template_step(client, "component template", name, wanted)
    known = client.request("GET", "/_index_template")["index_templates"]
    rivals = {
        item["name"]: int(item["index_template"].get("priority", 0))
        for item in known
        if item["name"] != plan.stream
        and any(matches(pattern, plan.stream) for pattern in item["index_template"]["index_patterns"])
    }
    priority = _priority("index template", plan.stream, plan.index_template["priority"], rivals, notes)
    yield _template_step(client, "index template", plan.stream, {**plan.index_template, "priority": priority})


def _template_step(client: Client, what: str, name: str, wanted: dict[str, Any]) -> Step:
    kind = what.replace(" ", "_")
    path = f"/_{kind}/{name}"
    try:
        present = client.request("GET", path)[f"{kind}s"][0][kind]
    except NotFoundError:
        present = None
    return step_for(what, name, wanted=wanted, present=present, put=Request("PUT", path, wanted))


def _priority(what: str, stream: str, ours: int, rivals: Mapping[str, int], notes: list[str]) -> int:
    """Return a priority above every other template or policy that would also match the stream's name.

    Only the highest one applies to a new index, nothing of the others, and two of the same priority are refused. The
    set-up's names exactly one stream, so winning takes nothing from anyone.
    """
    if not rivals or max(rivals.values()) < ours:
        return ours
    strongest = max(rivals, key=lambda name: rivals[name])
    notes.append(f"The {what} {strongest!r} also matches {stream!r}: this one has been given a higher priority.")
    return rivals[strongest] + 1


def _data_stream(plan: Blueprint, stream: Stream | None) -> Step:
    if stream is not None:
        return Step("data stream", plan.stream, "unchanged")
    return Step("data stream", plan.stream, "created", requests=(Request("PUT", f"/_data_stream/{plan.stream}"),))


def _write_index(stream: Stream, plan: Blueprint, notes: list[str], *, alone: bool) -> Step:
    """Decide how what the templates say reaches a stream that already exists: they apply to new indices only.

    Args:
        stream: What is there.
        plan: What shall be.
        notes: Taken further sentences for the operator.
        alone: Whether other backing indices are locked, and cannot be given new fields.
    """
    rollover = Request("POST", f"/{stream.name}/_rollover")
    append_only = "append_only" in plan.settings["template"]["settings"]["index"]
    if append_only and not stream.append_only:
        detail = "rolled over, for the setting cannot be added: events before this stay changeable, new ones do not"
        return Step("write index", stream.write_index, "updated", detail, requests=(rollover,))
    if stream.append_only and not append_only:
        # Never weaken what exists sooner than the next rollover would.
        notes.append(f"{stream.write_index} stays append-only, and so does every index that already is.")
    if stream.mapping_version >= plan.mappings["version"]:
        return Step("write index", stream.write_index, "unchanged")
    return Step(
        "write index",
        stream.write_index,
        "updated",
        "new fields are searchable in events from now on; rolled over where a field's type had to change",
        requests=(
            Request(
                "PUT",
                f"/{stream.write_index if alone else stream.name}/_mapping",
                plan.mappings["template"]["mappings"],
            ),
        ),
        otherwise=(rollover,),
    )
