"""Keys whose values are secrets, wherever they stand in an event."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

SECRET_KEYS = frozenset(
    "access_key api_key apikey authorization bearer cookie credential credentials csrf csrf_token cvc cvv jwt otp"
    " passcode password pin private_key pwd secret secret_key session_token set_cookie token x_api_key".split()
)
"""Keys that hold secrets, in lower case with underscores."""

_SECRET_PART = re.compile(
    r"passw(or)?d|passphrase|(^|_)secret($|_)|_(token|api_?key|private_key|cookie|credentials?|authorization)$"
)
"""Keys that end or are built like one: ``new_password``, ``clientSecret``, ``refresh-token``."""

_NAMES_A_SECRET = re.compile(r"_(id|arn|name|names|at|date|count|length|policy|required|stage|stages|version)$")
"""Keys that speak of a secret and do not hold it: ``secretId``, ``password_changed_at``, ``token_count``."""

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CACHED_KEYS = 10_000


class SecretKeys(dict[str, bool]):
    """Knows of each key whether its value is a secret: ``SecretKeys()["new-password"]`` is true.

    A mapping that fills itself, because it is asked for every key of every event.

    Args:
        additional: More keys that are secret in this application, in any spelling.

    Example:
        >>> keys = SecretKeys(additional=["iban"])
        >>> [key for key in ("IBAN", "clientSecret", "refresh-token", "secretId", "key_id") if keys[key]]
        ['IBAN', 'clientSecret', 'refresh-token']
    """

    def __init__(self, additional: Collection[str] = ()) -> None:
        super().__init__()
        self._secret = SECRET_KEYS | {_spelled(key) for key in additional}

    def __missing__(self, key: str) -> bool:
        name = _spelled(key)
        secret = name in self._secret or (
            _SECRET_PART.search(name) is not None and _NAMES_A_SECRET.search(name) is None
        )
        if len(self) < _CACHED_KEYS:  # an application that makes up keys must not fill the memory
            self[key] = secret
        return secret


def _spelled(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", _WORD_START.sub("_", key).lower()).strip("_")
