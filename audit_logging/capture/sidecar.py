"""A shipper of what others have written, which tells the trail of what it meets as a writer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit_logging.capture.trail import Trail
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.settings import Settings


def sidecar(settings: Settings) -> Shipper:
    """Return the shipper, which is yet to be started.

    Raises:
        SettingsError: The spool directory cannot be used.
    """
    directory = SpoolDirectory(settings.spool_path, settings.stream)
    directory.check()
    return Shipper(
        settings,
        directory,
        None,
        on_dead_letter=lambda letter: _as_a_writer(settings, lambda trail: trail.tell_of_dead_letter(letter)),
        on_closed=lambda last: _as_a_writer(settings, lambda trail: trail.tell_of_closed_writer(last)),
    )


def _as_a_writer(settings: Settings, tell: Callable[[Trail], None]) -> None:
    """Tell the trail something, and leave the shipping of that to the sidecar."""
    trail = Trail(settings.model_copy(update={"ship": False, "console": False}))
    tell(trail)
    trail.shutdown(0)
