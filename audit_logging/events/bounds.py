"""The upper bound of a document's size, and what gives way when an application sends more."""

from __future__ import annotations

from typing import Any, Final

import orjson

MAX_DOCUMENT_BYTES: Final = 1 << 20
"""1 MiB, the sealed document."""

_SEAL_BYTES: Final = 512
_SLACK: Final = 256


def fit(document: dict[str, Any]) -> bytes:
    """Return *document* as canonical JSON within the bound.

    A larger one gives up members of its largest list or object of application data, the largest members first; what
    stays in their place says how many went and how many bytes they had. *document* is changed accordingly.
    """
    encoded = _canonical(document)
    while len(encoded) > MAX_DOCUMENT_BYTES - _SEAL_BYTES:
        excess = len(encoded) - MAX_DOCUMENT_BYTES + _SEAL_BYTES + _SLACK
        holder, name = max(_bags(document), key=lambda place: len(_canonical(place[0][place[1]])))
        holder[name] = _reduce(holder[name], excess)
        encoded = _canonical(document)
    return encoded


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _bags(document: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Return the places that an application can fill without end; everything else has a bound of its own."""
    audit = document["audit"]
    places = [(audit, "metadata"), (audit, "changes"), (document, "labels"), (document, "tags")]
    places.append((document.get("user", {}), "roles"))
    return [(holder, name) for holder, name in places if name in holder]


def _reduce(bag: dict[str, Any] | list[Any], excess: int) -> dict[str, Any] | list[Any]:
    members: list[tuple[Any, Any]] = list(bag.items()) if isinstance(bag, dict) else list(enumerate(bag))
    sizes = [len(_canonical(member)) for member in members]
    gone: set[int] = set()
    for index in sorted(range(len(members)), key=lambda index: -sizes[index]):
        if excess <= 0:
            break
        gone.add(index)
        excess -= sizes[index]
    bytes_gone = sum(sizes[index] for index in gone)
    mark = f"[cut, {len(gone)} of {len(members)} entries, {bytes_gone} bytes]"
    kept = [member for index, member in enumerate(members) if index not in gone]
    if isinstance(bag, dict):
        return dict(kept) | {"[cut]": mark}
    is_changes = bool(bag) and isinstance(bag[0], dict)
    return [value for _, value in kept] + [{"field": "[cut]", "after": mark} if is_changes else mark]
