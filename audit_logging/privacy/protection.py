"""Personal data as text that only its person's key opens: ``enc:1:<person>:<value>:<sealed>``.

==========  ===============================================================================================
part        what it is
==========  ===============================================================================================
person      keyed token of the person whose key it is; says which key opens it, and not who that is
value       keyed token of the value: equal values have equal ones, so that an exact search finds them
sealed      nonce (12 bytes) and AES-256-GCM of the value, in URL-safe base64 without padding (NIST SP 800-38D)
==========  ===============================================================================================

The nonce is derived from key and value (keyed BLAKE2b, RFC 7693), so that the same value of the same person is always
the same text and can be counted and grouped. It does not repeat for different values. The first two parts are
authenticated with the third.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from audit_logging._version import install_command
from audit_logging.errors import SettingsError
from audit_logging.events.values import each_text

if TYPE_CHECKING:
    from audit_logging.privacy.subjects import SubjectKeys

PREFIX: Final = "enc:1:"
ERASED: Final = "[erased]"
"""What a protected value is read as when its key was destroyed."""

_NONCE_BYTES: Final = 12
_PROTECTED: Final = re.compile(r"enc:1:([0-9a-f]{24}):([0-9a-f]{24}):([A-Za-z0-9_-]{38,})")


class Protection:
    """Seals and opens personal data.

    Args:
        keys: The key store.

    Raises:
        SettingsError: The package `cryptography` is missing.

    Example:
        >>> import tempfile, pathlib
        >>> from audit_logging.privacy.subjects import SubjectKeys
        >>> folder = tempfile.TemporaryDirectory()
        >>> protection = Protection(SubjectKeys(pathlib.Path(folder.name) / "keys.sqlite"))
        >>> sealed = protection.seal("bob@example.com", subject="u-42")
        >>> protection.open(f"Mail to {sealed}.")
        'Mail to bob@example.com.'
        >>> protection.erase("u-42")
        True
        >>> protection.open(f"Mail to {sealed}.")
        'Mail to [erased].'
        >>> folder.cleanup()
    """

    def __init__(self, keys: SubjectKeys) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise SettingsError(
                f"Protected fields need the package `cryptography`: {install_command('privacy')}."
            ) from error
        self._keys = keys
        self._aead_of = lru_cache(maxsize=1000)(AESGCM)

    def seal(self, value: str, *, subject: str) -> str:
        """Return *value* so that only the key of *subject* opens it, whatever it looks like."""
        person = self.person_token(subject)
        key = self._keys.key(person)
        plain = value.encode()
        head = f"{PREFIX}{person}:{self.value_token(value)}:".encode()
        nonce = blake2b(plain, key=key, person=b"nonce", digest_size=_NONCE_BYTES).digest()
        sealed = nonce + self._aead_of(key).encrypt(nonce, plain, head)
        return (head + base64.urlsafe_b64encode(sealed).rstrip(b"=")).decode()

    def pseudonym(self, value: str) -> str:
        """Return a name for *value* that is always the same, and that only the key store could lead back to it."""
        return f"p-{self._keys.token(f'pseudonym {value}')}"

    def open(self, text: str) -> str:
        """Return *text* with every protected value in it readable, or ``[erased]`` where the key is gone."""
        return _PROTECTED.sub(self._opened, text) if PREFIX in text else text

    def open_all(self, value: Any) -> Any:
        """Do the same for every text in a document."""
        return each_text(value, self.open)

    def value_token(self, value: str) -> str:
        """Return the token by which an exact search finds *value*."""
        return self._keys.token(f"value {value}")

    def erase(self, subject: str) -> bool:
        """Destroy the key of *subject*; true when there was one."""
        return self._keys.destroy(self.person_token(subject))

    def person_token(self, subject: str) -> str:
        """Return the token of *subject*, as it stands in the values sealed under that person's key."""
        return self._keys.token(f"subject {subject}")

    def _opened(self, match: re.Match[str]) -> str:
        from cryptography.exceptions import InvalidTag

        key = self._keys.existing_key(match[1])
        if key is None:
            return ERASED
        sealed = base64.urlsafe_b64decode(match[3] + "=" * (-len(match[3]) % 4))
        head = f"{PREFIX}{match[1]}:{match[2]}:".encode()
        try:
            return self._aead_of(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], head).decode()
        except (InvalidTag, UnicodeDecodeError):
            return ERASED  # sealed with a key from before an erasure; whether it was altered, verification tells
