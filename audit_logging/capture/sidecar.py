"""A shipper of what others have written, which tells the trail of what it meets as a writer of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from audit_logging.capture.trail import Trail
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory, require_trusted_spool

if TYPE_CHECKING:
    from audit_logging.settings import Settings
    from audit_logging.shipping.dead_letters import DeadLetter


def sidecar(settings: Settings) -> Shipper:
    """Return the shipper, which is yet to be started.

    Raises:
        SettingsError: The spool directory cannot be used.
    """
    require_trusted_spool(settings)
    directory = SpoolDirectory(settings.spool_path, settings.stream)
    teller = _Teller(settings)
    return Shipper(
        settings,
        directory,
        None,
        on_dead_letter=teller.tell_of_dead_letter,
        on_closed=teller.tell_of_closed_writer,
        on_through=teller.close,
    )


class _Teller:
    """The one writer by which a sidecar tells the trail something; the sidecar itself ships it.

    One for each thing to tell would be a new chain each, which another sidecar has to adopt in its turn.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.model_copy(update={"ship": False, "console": False})
        self._lock = threading.Lock()
        self._trail: Trail | None = None

    def tell_of_dead_letter(self, letter: DeadLetter) -> None:
        """See :meth:`Trail.tell_of_dead_letter`."""
        self._get().tell_of_dead_letter(letter)

    def tell_of_closed_writer(self, last: bytes) -> None:
        """See :meth:`Trail.tell_of_closed_writer`."""
        self._get().tell_of_closed_writer(last)

    def _get(self) -> Trail:
        """Return the trail, made with the first thing to tell."""
        with self._lock:
            if self._trail is None:
                self._trail = Trail(self._settings)
            return self._trail

    def close(self) -> None:
        """End the chain, when everything else is shipped."""
        with self._lock:
            trail, self._trail = self._trail, None
        if trail is not None:
            trail.shutdown(0)
