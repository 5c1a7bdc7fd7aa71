"""The keys of signatures: Ed25519, the private one in a file of the application, the public ones beside it.

    <home>/signing/
        key.pem                  the private key (PKCS 8), readable by the application alone
        0123456789abcdef.pub     the public key of each key that was ever in use, named by its id

A key's id is the begin of the SHA-256 of its 32 public bytes. To change the key, move `key.pem` away: the next start
makes a new one, and what the old one signed is still verified by the public key that stays. Needs the package
``cryptography`` (the extra ``integrity``).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_logging._version import install_command
from audit_logging.errors import SettingsError
from audit_logging.private import NotPrivateError, check_parents, make_directory, read_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_ID_DIGITS = 16
PUBLIC_SUFFIX = ".pub"

_INSTALL = f"Signatures need the package cryptography: {install_command('integrity')}"


class SigningKey:
    """A private key. It is never printed, and leaves this object only as its file.

    Attributes:
        id: Its id: 16 hexadecimal digits.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.id = key_id(private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"<SigningKey {self.id}>"

    @property
    def public(self) -> TrustedKeys:
        """Its public half, by which its own signatures are believed."""
        return TrustedKeys({self.id: self._private.public_key()})

    def sign(self, text: bytes) -> str:
        """Return the signature of *text*: 128 hexadecimal digits."""
        return self._private.sign(text).hex()

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """Return the key in *path*, which is made, with its public half beside it, when it is not there.

        Of several processes that come at once, one makes it and all return that one.

        Raises:
            SettingsError: The file cannot be read or made, is no Ed25519 key, or ``cryptography`` is not installed.
        """
        serialization, private_class = _cryptography()
        try:
            check_parents(path)
            if not path.exists():
                _create(path, private_class.generate(), serialization)
            private = _read(path, serialization, private_class)
            key = cls(private)
            _publish(path.parent, key.id, private.public_key(), serialization)
        except OSError as error:
            raise SettingsError(
                f"The signing key {path} cannot be used ({error.strerror}): {_remedy(path, error)}give another file in"
                " signing_key_file (AUDIT_SIGNING_KEY_FILE), or sign nothing with signing=False (AUDIT_SIGNING=false)."
            ) from error
        return key


class TrustedKeys:
    """Public keys whose signatures are believed.

    Args:
        keys: By id.
    """

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = dict(keys)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, sorted."""
        return tuple(sorted(self._keys))

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __or__(self, other: TrustedKeys) -> TrustedKeys:
        return TrustedKeys(self._keys | other._keys)

    def verifies(self, key: str, signature: str, text: bytes) -> bool:
        """Return whether *signature* (hexadecimal) is that of *text* by the trusted key with the id *key*."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._keys[key].verify(bytes.fromhex(signature), text)
        except (KeyError, ValueError, InvalidSignature):
            return False
        return True

    @classmethod
    def load(cls, files: Iterable[Path]) -> TrustedKeys:
        """Read public keys from PEM files.

        Raises:
            SettingsError: A file cannot be read or is no Ed25519 public key, or ``cryptography`` is not installed.
        """
        keys = {}
        for path in files:
            try:
                public = _load_public(path)
            except (OSError, ValueError, TypeError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise SettingsError(
                    f"{path} is no public key ({reason}): give the .pub file that lies beside the signing key."
                ) from error
            keys[key_id(public.public_bytes_raw())] = public
        return cls(keys)

    @classmethod
    def beside(cls, signing_key_file: Path) -> TrustedKeys:
        """Read the public keys in the directory of a signing key, and its own; none where there is no such directory.

        A key that is mounted read-only has no public half next to it; whoever can read it signs with it, and trusts it.

        Raises:
            SettingsError: Others can write there, so that a key could be theirs.
        """
        try:
            check_parents(signing_key_file)
            files = sorted(signing_key_file.parent.glob(f"*{PUBLIC_SUFFIX}"))
            for file in files:
                check_parents(file)
        except OSError as error:
            raise SettingsError(
                f"The public keys beside {signing_key_file} are not trusted ({error.strerror}): give a key in another"
                " directory in signing_key_file (AUDIT_SIGNING_KEY_FILE), or the true public keys to `verify` with"
                " --public-key (public_keys=)."
            ) from error
        return _public_half(signing_key_file) | (cls.load(files) if files else cls({}))


def _public_half(path: Path) -> TrustedKeys:
    """Return the public half of the signing key in *path*; no key where that cannot be read."""
    try:
        return SigningKey(_read(path, *_cryptography())).public
    except (OSError, SettingsError):
        return TrustedKeys({})


def check_key(path: Path) -> str:
    """Return the id of the key in *path*.

    Raises:
        OSError: It cannot be read.
        SettingsError: It is no Ed25519 key, or ``cryptography`` is not installed.
    """
    check_parents(path)
    return SigningKey(_read(path, *_cryptography())).id


def key_id(public: bytes) -> str:
    """Return the id of the key with these 32 public bytes."""
    return sha256(public).hexdigest()[:KEY_ID_DIGITS]


def _remedy(path: Path, error: OSError) -> str:
    if isinstance(error, NotPrivateError):
        return "where others may have changed the key, move it away and a new one is made; or "
    if isinstance(error, PermissionError) and os.path.lexists(path):
        return "let this user read it (in Kubernetes: `fsGroup`, and `defaultMode: 0440` of the Secret), "
    return "put a key there, make its directory writable for this user, "


def _read(path: Path, serialization: Any, private_class: Any) -> Any:
    pem = read_trusted(path)
    try:
        return _of_kind(private_class, serialization.load_pem_private_key(pem, password=None))
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{path} is no signing key ({error}): give an Ed25519 key in PEM, without a passphrase, in"
            " signing_key_file, or move the file away and a new key is made."
        ) from error


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ModuleNotFoundError:
        raise SettingsError(f"{_INSTALL}, or sign nothing with signing=False (AUDIT_SIGNING=false).") from None
    return serialization, Ed25519PrivateKey


def _load_public(path: Path) -> Ed25519PublicKey:
    serialization, _ = _cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public: Ed25519PublicKey = _of_kind(Ed25519PublicKey, serialization.load_pem_public_key(read_trusted(path)))
    return public


def _of_kind(kind: Any, key: Any) -> Any:
    if not isinstance(key, kind):
        raise TypeError("it holds another kind of key")
    return key


def _create(path: Path, private: Ed25519PrivateKey, serialization: Any) -> None:
    make_directory(path.parent)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _appear(path, pem, 0o600)


def _publish(directory: Path, name: str, public: Ed25519PublicKey, serialization: Any) -> None:
    path = directory / f"{name}{PUBLIC_SUFFIX}"
    if path.exists():
        return
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        _appear(path, pem, 0o644)
    except OSError:  # a key that is mounted read-only has its public half where it came from
        if os.access(directory, os.W_OK):
            raise


def _appear(path: Path, content: bytes, mode: int) -> None:
    """Make *path* with all of *content* at once, unless somebody else did so first."""
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
