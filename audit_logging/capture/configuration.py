"""The trail of this process: configured once, found from everywhere."""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING, Any

from audit_logging.capture.health import Health
from audit_logging.capture.trail import Trail
from audit_logging.errors import SettingsError
from audit_logging.forks import in_children, undivided
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_logging.capture.trail import Processor
    from audit_logging.shipping.accounts import Accounts

_log = logging.getLogger("audit_logging")
_lock = threading.RLock()  # since the handler of a signal may emit, and so ask for the trail, while it is made
_trail: Trail | None = None


@in_children
def _begin_anew() -> None:
    global _lock
    _lock = threading.RLock()  # a thread of the parent may have held it


def configure(*, replace: bool = False, processors: Sequence[Processor] = (), **settings: Any) -> None:
    """Configure the trail of this process.

    What is not given comes from ``AUDIT_*`` variables, then from the defaults (``docs/settings.md``). Calling it again
    with the same settings changes nothing.

    Args:
        replace: Ship and close the trail there is, and begin another.
        processors: Further structlog processors to enrich every event with; keys are those of the typed calls.
        **settings: Keywords of :class:`~audit_logging.Settings`.

    Raises:
        SettingsError: A setting is wrong, or the trail is configured already with others; the message names them.

    Example:
        >>> import audit_logging as audit
        >>> audit.configure(service="shop", spool_dir="/tmp/shop-audit", replace=True)  # doctest: +SKIP
    """
    global _trail
    wanted = Settings.load(**settings)
    with _lock:
        if _trail is not None and not replace:
            _refuse_difference(_trail.settings, wanted)
            return
        made = Trail(wanted, processors)
        before, _trail = _trail, made
        if before is not None:  # if only since a moment ago, when the handler of a signal emitted
            _close(before, before.settings.shutdown_timeout_seconds)


def _refuse_difference(present: Settings, wanted: Settings) -> None:
    different = [name for name in Settings.model_fields if getattr(present, name) != getattr(wanted, name)]
    if different:
        raise SettingsError(
            f"The trail is configured already, with another {', '.join(different)}."
            " Configure once, or pass replace=True to begin another trail."
        )


def current_trail() -> Trail:
    """Return the trail of this process; unless configured, it is made from the environment."""
    global _trail
    trail = _trail
    if trail is None:
        with _lock, undivided():  # making one imports much
            made = Trail(Settings.load()) if _trail is None else _trail
            trail = _trail = _trail or made  # the handler of a signal may have been quicker
    return trail


def configured_trail() -> Trail | None:
    """Return the trail of this process, if it has one already."""
    return _trail


def swap_trail(trail: Trail | None) -> Trail | None:
    """Put another trail in place and return the one there was, which stays open. For tests."""
    global _trail
    with _lock:
        before, _trail = _trail, trail
    return before


def flush(timeout: float = 10.0) -> bool:
    """Wait until all that this process emitted so far is acknowledged by OpenSearch.

    Args:
        timeout: Seconds to wait.

    Returns:
        True when it is; False when time ran out, and the events stay in the spool.
    """
    return _trail is None or _trail.flush(timeout)


def health() -> Health:
    """Return how this process's end of the trail is, for a readiness probe.

    It asks nobody and takes well under a millisecond: what the shipper knows already, and a few looks at the disk.
    Before anything was configured or emitted it is ``ok``.

    Example:
        >>> import audit_logging as audit
        >>> audit.health().is_ready
        True
    """
    return Health("ok") if _trail is None else _trail.health()


def accounts(*, quick: bool = False) -> Accounts:
    """Return what became of every event of this host's spool: ``emitted = indexed + in_spool + quarantined + dead``.

    They are derived from what stands on the disk, for every process that writes or wrote there, living or dead, and
    hold up none of them. OpenSearch is not asked; ``audit-logging doctor`` compares.

    Args:
        quick: Read no more than two segments of each writer, for looks at short intervals: damage in the others stays
            unknown. Without it everything that waits is read, which takes some seconds a gigabyte.

    Raises:
        SettingsError: This user may not read the spool.

    Example:
        >>> import audit_logging as audit
        >>> audit.accounts().total.in_spool  # doctest: +SKIP
        0
    """
    from audit_logging.shipping.accounts import take_accounts

    settings = Settings.load() if _trail is None else _trail.settings
    return take_accounts(settings.spool_path, quick=quick)


def shutdown(timeout: float | None = None) -> int:
    """Ship what can be shipped, stop the shipper and return how many events remain in the spool.

    Runs at exit by itself. What remains is shipped by the next process with the same spool directory. Emitting
    afterwards begins anew.

    Args:
        timeout: Seconds to take at most; None: the setting ``shutdown_timeout_seconds``.
    """
    if _trail is None:
        return 0
    return _close(_trail, _trail.settings.shutdown_timeout_seconds if timeout is None else timeout)


def _close(trail: Trail, timeout: float) -> int:
    remaining = trail.shutdown(timeout)
    if remaining and trail.settings.opensearch_url:
        _log.warning(
            "%d audit events remain in the spool %s; the next process with this spool directory ships them.",
            remaining,
            trail.settings.spool_path,
        )
    return remaining


atexit.register(shutdown)
