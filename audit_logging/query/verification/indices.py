"""Whether the backing indices show their events by the fields and settings that the set-up gave them.

The seal covers what an event says, and not what OpenSearch makes of it for searches: with another mapping a search for
one user can find another's events, and a search pipeline can leave events out. So both are compared with the templates.

Source: OpenSearch documentation, "Mapping parameters", "Derived field type" and "Search pipelines".
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import CredentialsError
from audit_logging.integrity.finding import Finding, Note
from audit_logging.opensearch.templates import blueprint
from audit_logging.query.exchange import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from audit_logging.query.exchange import Answer

_SETTINGS: Final = ("search.default_pipeline", "default_pipeline", "final_pipeline", "analysis")
"""Settings of an index that change what is stored or found, and are in no template of ours."""

_MAPPING: Final = frozenset({"_meta", "_data_stream_timestamp", "dynamic", "properties"})
"""What the mapping of a backing index consists of."""

_COPIES: Final = "copy_to"


def read_differences(
    send: Callable[[Request], Answer], stream: str, template_of: str
) -> tuple[list[Finding], list[Note]]:
    """Return what is otherwise than the templates say, or a note that it could not be compared.

    Args:
        send: Sends a request.
        stream: The stream that is verified.
        template_of: The stream that its templates are named after.
    """
    try:
        settings = send(Request("GET", f"/{stream}/_settings", {}, {"flat_settings": True}))
        mappings = send(Request("GET", f"/{stream}/_mapping", {}, {}))
    except CredentialsError:
        why = "The role may not read mappings and settings, so they were not compared with the templates."
        return [], [Note("not_compared", 0, why)]
    wanted = blueprint(template_of).mappings["template"]["mappings"]["properties"]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for index, told in sorted(mappings.items()):
        for difference in _mapping_differences(told.get("mappings", {}), wanted):
            found[difference].append(index)
    for index, told in sorted(settings.items()):
        for difference in _setting_differences(told.get("settings", {})):
            found[difference].append(index)
    return [_finding(difference, indices) for difference, indices in found.items()], []


def _mapping_differences(mapping: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(mapping.keys() - _MAPPING):
        yield f"their mapping has {name!r}, which the template has not"
    properties = mapping.get("properties", {})
    yield from _field_differences(properties, wanted, "")
    yield from _copies(properties, "")


def _field_differences(found: Mapping[str, Any], wanted: Mapping[str, Any], before: str) -> Iterator[str]:
    # A missing field was not known to the version that set the index up; an added one finds nothing of ours.
    for name in sorted(found.keys() & wanted.keys()):
        one, other, path = found[name], wanted[name], f"{before}{name}"
        if "properties" in one and "properties" in other:
            yield from _field_differences(one["properties"], other["properties"], f"{path}.")
        elif one != other:
            yield f"the field {path} is not mapped as in the template"


def _copies(found: Mapping[str, Any], before: str) -> Iterator[str]:
    for name, field in sorted(found.items()):
        if _COPIES in field:
            yield f"the field {before}{name} is copied to another"
        yield from _copies(field.get("properties", {}), f"{before}{name}.")


def _setting_differences(settings: Mapping[str, Any]) -> Iterator[str]:
    for wanted in _SETTINGS:
        for name in sorted(settings):
            if (name == f"index.{wanted}" or name.startswith(f"index.{wanted}.")) and settings[name] != "_none":
                yield f"their setting {name} is {settings[name]!r}"


def _finding(difference: str, indices: list[str]) -> Finding:
    shown = ", ".join(indices[:3]) + (f" and {len(indices) - 3} more" if len(indices) > 3 else "")  # noqa: PLR2004
    sentence = f"Searches of {shown} may show other events than are stored: {difference}."
    return Finding("mapping_changed", "", 0, 0, sentence)
