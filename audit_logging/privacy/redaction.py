"""Keys whose values are secrets, wherever they stand in an event."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

SECRET_KEYS = frozenset(
    "access_key account_key api_key apikey auth_code authorization backup_codes bearer connect_sid connection_string"
    " cookie credential credentials csrf csrf_token csrfmiddlewaretoken csrftoken cvc cvv encryption_key jsessionid jwt"
    " master_key mnemonic otp pass passcode passwd password phpsessid pin private_key pw pwd recovery_codes seed_phrase"
    " secret secret_answer secret_key security_answer session_token sessionid set_cookie shared_access_key"
    " shared_access_signature signing_key ssh_key token totp x_api_key x_csrftoken xsrf_token".split()
)
"""Keys that hold secrets, in lower case with underscores."""

_PASSWORDS = frozenset(
    "adgangskode contrasena contrasenya geslo haslo heslo jelszo kata_sandi katasandi kennwort losenord lozinka mdp"
    " mot_de_passe motdepasse parol parola parole passord passwort salasana senha sifre slaptazodis wachtwoord"
    " пароль 密码 密碼 口令 パスワード 暗証番号 비밀번호 암호 סיסמה".split()
)
"""The word for a password in other languages, without accents."""

_SECRET_PART = re.compile(
    r"passw(or)?d|passphrase|passwort|kennwort|(^|_)secret($|_)|_(token|api_?key|private_key|cookie|credentials?|authorization)$"
    r"|(access|account|api|auth|encryption|license|master|private|secret|service|shared|signing|ssh|storage)_key$"
    r"|(^|_)(pass|pw|pwd|csrf|xsrf)$|(^|_)(otp|mfa|2fa|totp|pin|recovery|backup|verification|auth)_codes?$"
)
"""Keys that end or are built like one: ``new_password``, ``clientSecret``, ``refresh-token``."""

_NAMES_A_SECRET = re.compile(r"_(id|arn|name|names|at|date|count|length|policy|required|stage|stages|version)$")
"""Keys that speak of a secret and do not hold it: ``secretId``, ``password_changed_at``, ``token_count``."""

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\W_]+")
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
        secret = (
            name in self._secret
            or name in _PASSWORDS
            or (_SECRET_PART.search(name) is not None and _NAMES_A_SECRET.search(name) is None)
        )
        if len(self) < _CACHED_KEYS:  # an application that makes up keys must not fill the memory
            self[key] = secret
        return secret


def _spelled(key: str) -> str:
    """Return a key in lower case with underscores; full-width letters and accents are plain ones."""
    if not key.isascii():
        plain = unicodedata.normalize("NFKD", key).replace("ł", "l").replace("Ł", "L")
        key = "".join(char for char in plain if not unicodedata.combining(char) or char in "\u3099\u309a")
        key = unicodedata.normalize("NFC", key)
    return _SEPARATORS.sub("_", _WORD_START.sub("_", key).casefold()).strip("_")
