"""What proves to OpenSearch who we are, as the settings, files and functions give it at this moment."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING, NamedTuple

from audit_logging.errors import Keyword, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.settings import Settings


class Credentials(NamedTuple):
    """Read with :meth:`read`; two that are equal would be refused alike.

    Attributes:
        authorization: The value of the ``Authorization`` header, if there is one.
        tls_files: The state of each file that a TLS connection is made with.
    """

    authorization: str | None
    tls_files: tuple[tuple[str, int, int], ...]

    def __repr__(self) -> str:  # a secret in a traceback ends in a log
        return "Credentials(…)"

    @classmethod
    def read(cls, settings: Settings) -> Credentials:
        """Read all of it afresh.

        Raises:
            SettingsError: A file cannot be read.
        """
        files = (settings.opensearch_ca_file, settings.opensearch_client_cert, settings.opensearch_client_key)
        return cls(_authorization(settings), tuple(_state(path) for path in files if path is not None))


def _authorization(settings: Settings) -> str | None:
    if settings.opensearch_authorization is not None:
        return settings.opensearch_authorization()
    token = settings.opensearch_token.get_secret_value() if settings.opensearch_token else None
    if settings.opensearch_token_file is not None:
        token = _secret_in(settings.opensearch_token_file, "opensearch_token_file")
    if token is not None:
        return f"Bearer {token}"
    if settings.opensearch_username is None:
        return None
    password = settings.opensearch_password.get_secret_value() if settings.opensearch_password else ""
    if settings.opensearch_password_file is not None:
        password = _secret_in(settings.opensearch_password_file, "opensearch_password_file")
    return "Basic " + base64.b64encode(f"{settings.opensearch_username}:{password}".encode()).decode()


def _secret_in(path: Path, setting: str) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(
            Keyword(setting), f" {path} cannot be read ({why}): mount it where this user may read it."
        ) from None


def _state(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise _unusable(error) from error
    return str(path), status.st_mtime_ns, status.st_ino


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return the context for connections, from the files as they are now.

    Raises:
        SettingsError: A file is missing or is not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=settings.opensearch_ca_file)
        if settings.opensearch_client_cert is not None:
            context.load_cert_chain(settings.opensearch_client_cert, settings.opensearch_client_key)
    except OSError as error:
        raise _unusable(error) from error
    return context


def _unusable(error: OSError) -> SettingsError:
    return SettingsError(
        f"The TLS files cannot be used ({error}): check ",
        Keyword("opensearch_ca_file"),
        ", ",
        Keyword("opensearch_client_cert"),
        " and ",
        Keyword("opensearch_client_key"),
        " (readable PEM files).",
    )
