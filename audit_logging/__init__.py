"""An audit trail its owners can rely on.

import audit_logging as audit

audit.configure(service="shop")
log = audit.get_logger()
log.user_login(user_id="u-42", outcome="failure", reason="bad password")

This is the public API, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_logging import errors
from audit_logging._version import __version__
from audit_logging.errors import AuditError

if TYPE_CHECKING:
    from audit_logging.capture.configuration import accounts, configure, flush, health, shutdown
    from audit_logging.capture.context import bind_context, carry_context, context, current_context, isolated_context
    from audit_logging.capture.handler import AuditHandler
    from audit_logging.capture.health import Health
    from audit_logging.capture.logger import AuditLogger, get_logger
    from audit_logging.capture.processors import RedactKeys, add_event_id, add_severity, add_timestamp, merge_context
    from audit_logging.capture.recording import RecordedEvents, record_events
    from audit_logging.capture.tap import AuditProcessor
    from audit_logging.events.catalogue import CATALOGUE, EventType
    from audit_logging.integrations.admin import AuditAdmin
    from audit_logging.query.async_reader import AsyncAuditReader
    from audit_logging.query.reader import AuditReader
    from audit_logging.settings import Settings
    from audit_logging.shipping.accounts import Accounts

    register_event_type = CATALOGUE.register

__all__ = [
    "Accounts",
    "AsyncAuditReader",
    "AuditAdmin",
    "AuditError",
    "AuditHandler",
    "AuditLogger",
    "AuditProcessor",
    "AuditReader",
    "EventType",
    "Health",
    "RecordedEvents",
    "RedactKeys",
    "Settings",
    "__version__",
    "accounts",
    "add_event_id",
    "add_severity",
    "add_timestamp",
    "bind_context",
    "carry_context",
    "configure",
    "context",
    "current_context",
    "errors",
    "flush",
    "get_logger",
    "health",
    "isolated_context",
    "merge_context",
    "record_events",
    "register_event_type",
    "shutdown",
]

_HOMES = {
    "capture.configuration": ("accounts", "configure", "flush", "health", "shutdown"),
    "capture.context": ("bind_context", "carry_context", "context", "current_context", "isolated_context"),
    "capture.handler": ("AuditHandler",),
    "capture.health": ("Health",),
    "capture.logger": ("AuditLogger", "get_logger"),
    "capture.processors": ("RedactKeys", "add_event_id", "add_severity", "add_timestamp", "merge_context"),
    "capture.recording": ("RecordedEvents", "record_events"),
    "capture.tap": ("AuditProcessor",),
    "events.catalogue": ("EventType", "register_event_type"),
    "integrations.admin": ("AuditAdmin",),
    "query.async_reader": ("AsyncAuditReader",),
    "query.reader": ("AuditReader",),
    "settings": ("Settings",),
    "shipping.accounts": ("Accounts",),
}
"""Module → the public names it holds. Imported when first used: who reads does not pay for emitting."""

_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"audit_logging.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
