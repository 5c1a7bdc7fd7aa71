"""The key store: one key a person, so that what the trail holds of a person can be made unreadable by destroying it.

One SQLite file, private to the application's user and shared by its processes. It names nobody: a person stands in it
as a keyed token. Whoever has this file can read the protected fields; it belongs on the application's side, and in no
backup that outlives an erasure.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from audit_logging.errors import SettingsError
from audit_logging.private import check_parents, make_directory, open_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN_DIGITS: Final = 24
"""Hexadecimal digits of a token, 96 bits: two persons of a thousand million share one with a chance of 1 : 10^10."""

KEY_BYTES: Final = 32
CACHED_SECONDS: Final = 60.0
"""How long a process goes on using a key that another process destroyed meanwhile."""

_CACHED_KEYS: Final = 10_000
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS subject (token TEXT PRIMARY KEY, key BLOB NOT NULL, made TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS store (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""

_inherited: Final[list[sqlite3.Connection]] = []


class SubjectKeys:
    """Keys by person. Thread-safe; a forked child opens the file anew.

    Args:
        path: The file; made, private, when it is first needed.

    Raises:
        SettingsError: The file cannot be opened or is no key store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()  # the handler of a signal may emit in the middle of another event
        self._process = 0
        self._connection: sqlite3.Connection | None = None
        self._token_key = b""
        self._keys: dict[str, tuple[bytes, float]] = {}

    def token(self, text: str) -> str:
        """Return the keyed token of *text*: the same for the same text, and of use to nobody without the store.

        Keyed BLAKE2b (RFC 7693).
        """
        if self._process != os.getpid():
            with self._lock:
                self._open()
        return blake2b(text.encode(), key=self._token_key, digest_size=TOKEN_DIGITS // 2).hexdigest()

    def key(self, token: str) -> bytes:
        """Return the key of the person with this *token*, made when there is none."""
        return self._look_up(token) or self._make(token)

    def existing_key(self, token: str) -> bytes | None:
        """Return the key of the person with this *token*; None when there never was one, or it was destroyed."""
        return self._look_up(token)

    def destroy(self, token: str) -> bool:
        """Destroy the key of the person with this *token*; true when there was one.

        The file is rewritten, so that its bytes are gone from it (SQLite documentation, "secure_delete", "VACUUM").
        """
        with self._open_store() as store:
            gone = store.execute("DELETE FROM subject WHERE token = ?", (token,)).rowcount > 0
            store.execute("VACUUM")
            store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._keys.pop(token, None)
            return gone

    def _look_up(self, token: str) -> bytes | None:
        cached = self._keys.get(token)
        if cached is not None and time.monotonic() < cached[1] and self._process == os.getpid():
            return cached[0]
        with self._open_store() as store:
            row = store.execute("SELECT key FROM subject WHERE token = ?", (token,)).fetchone()
            if row is None:
                self._keys.pop(token, None)
                return None
            return self._remember(token, row[0])

    def _make(self, token: str) -> bytes:
        with self._open_store() as store:
            store.execute(
                "INSERT OR IGNORE INTO subject VALUES (?, ?, datetime('now'))", (token, secrets.token_bytes(KEY_BYTES))
            )
            # Another process may have been quicker.
            key = store.execute("SELECT key FROM subject WHERE token = ?", (token,)).fetchone()[0]
            return self._remember(token, key)

    def _remember(self, token: str, key: bytes) -> bytes:
        if len(self._keys) >= _CACHED_KEYS:
            self._keys.clear()
        self._keys[token] = (key, time.monotonic() + CACHED_SECONDS)
        return key

    @contextlib.contextmanager
    def _open_store(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._open()
            try:
                yield connection
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._process == os.getpid():
            return self._connection
        self._abandon()
        connection = None
        try:
            make_directory(self._path.parent)
            check_parents(self._path)
            os.close(open_private(self._path, os.O_RDWR | os.O_CREAT, secret=True))
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30.0)
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA)
            connection.execute("INSERT OR IGNORE INTO store VALUES ('token key', ?)", (secrets.token_bytes(KEY_BYTES),))
            (self._token_key,) = connection.execute("SELECT value FROM store WHERE name = 'token key'").fetchone()
        except (OSError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            raise self._unusable(error) from error
        self._connection, self._process, self._keys = connection, os.getpid(), {}
        return connection

    def _abandon(self) -> None:
        """Keep a connection of before a fork: it must be neither used nor closed (SQLite, "How to corrupt", 2.6)."""
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None

    def _unusable(self, error: Exception) -> SettingsError:
        return SettingsError(
            f"The key store {self._path} cannot be used ({error}): check that it is a file of this user on a writable"
            " disk, or give another in subject_keys_file (AUDIT_SUBJECT_KEYS_FILE)."
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
                self._connection = None
            self._abandon()
            self._process = 0

    def __del__(self) -> None:
        """Close the file with its last user; from 3.13 on Python warns of a connection that is left open."""
        self.close()

    def __repr__(self) -> str:
        return f"SubjectKeys({str(self._path)!r})"
