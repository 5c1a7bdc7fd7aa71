"""Events as one readable line each, for a developer's terminal."""

from __future__ import annotations

import sys
from typing import Any


def print_event(document: dict[str, Any]) -> None:
    """Print one event to stderr; what it contains may be hostile, so nothing in it can steer the terminal."""
    user, source = document.get("user", {}), document.get("source", {})
    words = [
        document["@timestamp"][11:23],
        f"{document['log']['level']:<8}",
        f"{document['event']['action']:<28}",
        document["message"],
        *(f"{name}={value}" for name, value in (("user", user.get("id")), ("ip", source.get("ip"))) if value),
    ]
    line = "".join(character if character.isprintable() else "�" for character in " ".join(words))
    encoding = sys.stderr.encoding or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding), file=sys.stderr)  # noqa: T201 - that is its purpose
