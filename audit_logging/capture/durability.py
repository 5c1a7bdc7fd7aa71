"""Which durability an event has: what the call asks for, what the settings say of its type, or the default."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, get_args

from audit_logging.errors import SettingsError
from audit_logging.settings import Durability

if TYPE_CHECKING:
    from audit_logging.settings import Settings

DURABILITIES = frozenset(get_args(Durability))
_MOST_REMEMBERED = 1000


class Durabilities:
    """Resolves durabilities: the call wins over the type, the type over a pattern, a longer pattern over a shorter.

    Example:
        >>> from audit_logging.settings import Settings
        >>> settings = Settings.load(durability_overrides={"admin.*": "disk", "admin.user_create": "indexed"})
        >>> durabilities = Durabilities(settings)
        >>> [durabilities.of(name) for name in ("admin.user_create", "admin.user_delete", "user.login")]
        ['indexed', 'disk', 'process']
    """

    def __init__(self, settings: Settings) -> None:
        self._default: str = settings.durability
        self._patterns = sorted(settings.durability_overrides.items(), key=lambda item: -len(item[0]))
        self._known: dict[str, str] = dict(settings.durability_overrides)

    def of(self, event_type: str, asked: str | None = None) -> str:
        """Return the durability of an event.

        Args:
            event_type: Its type.
            asked: What the call asks for, if it does.

        Raises:
            SettingsError: There is no such durability.
        """
        if asked is not None:
            if asked not in DURABILITIES:
                raise SettingsError(f"There is no durability {asked!r}: choose process, disk or indexed.")
            return asked
        if not self._patterns or type(event_type) is not str:
            return self._default
        return self._known.get(event_type) or self._match(event_type)

    def _match(self, event_type: str) -> str:
        matching = (durability for pattern, durability in self._patterns if fnmatchcase(event_type, pattern))
        found = next(matching, self._default)
        if len(self._known) < _MOST_REMEMBERED:  # an application that makes up types must not fill the memory
            self._known[event_type] = found
        return found
