"""One OpenSearch cluster. The only module that meets opensearch-py.

opensearch-py brings connection pools, TLS and several hosts. Three of its habits are off: its own retries (instant,
and blind to which items failed), its pool of one connection, and its body logging (events would leak into an
application's log).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from audit_logging.errors import (
    CredentialsError,
    NotFoundError,
    OpenSearchError,
    RefusedError,
    SettingsError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.settings import Settings

CONNECTIONS_PER_HOST = 8
"""Enough for the shipper's requests in flight and a few readers."""

Params = Mapping[str, str | int | bool]


class Client:
    """Speaks JSON with one cluster; every failure is one of :mod:`audit_logging.errors`.

    Thread-safe. Build it with settings that name at least one ``opensearch_url``.

    Example:
        >>> client = Client(Settings.load(opensearch_url="http://127.0.0.1:9200"))  # doctest: +SKIP
        >>> client.request("GET", "/")["version"]["number"]  # doctest: +SKIP
        '3.8.0'
    """

    def __init__(self, settings: Settings) -> None:
        if not settings.opensearch_url:
            raise SettingsError(
                "No OpenSearch is configured: set opensearch_url (or AUDIT_OPENSEARCH_URL, or --url),"
                " or start one here with `audit-logging server up`."
            )
        self.urls = settings.opensearch_url
        self._transport = _build_transport(settings)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Mapping[str, Any] | bytes | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send one request and return the decoded answer (a boolean for HEAD).

        Args:
            method: HTTP method.
            path: Path from the root, already quoted.
            params: Query parameters.
            body: A JSON object, or bytes that are sent as they are.
            timeout: Seconds to wait for this answer instead of the setting's.

        Raises:
            UnreachableError: There was no answer, so what became of the request is unknown.
            RefusedError: The server answered with an error status (see its subclasses).
        """
        query: dict[str, Any] = {name: _parameter(value) for name, value in (params or {}).items()}
        if timeout is not None:
            query["request_timeout"] = timeout
        with _our_errors(f"{method} {path.partition('?')[0]}", self.urls):
            return self._transport.perform_request(method, path, params=query, body=body)

    def close(self) -> None:
        """Close the pooled connections. The client is of no use afterwards."""
        self._transport.close()


def _parameter(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _build_transport(settings: Settings) -> Any:
    import opensearchpy

    # Its loggers write whole request bodies at DEBUG and every request at INFO.
    for name in ("opensearch", "opensearchpy.trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options: dict[str, Any] = {}
    if any(url.startswith("https") for url in settings.opensearch_url):
        options["ssl_context"] = tls_context(settings)
    if settings.opensearch_username is not None:
        password = settings.opensearch_password
        options["http_auth"] = (settings.opensearch_username, password.get_secret_value() if password else "")
    client = opensearchpy.OpenSearch(
        list(settings.opensearch_url),
        serializer=_serializer(),
        max_retries=0,
        retry_on_timeout=False,
        pool_maxsize=CONNECTIONS_PER_HOST,
        timeout=settings.opensearch_timeout_seconds,
        http_compress=False,
        **options,
    )
    return client.transport


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return how to speak TLS with the servers that *settings* name.

    Raises:
        SettingsError: A TLS file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=settings.opensearch_ca_file)
        if settings.opensearch_client_cert is not None:
            context.load_cert_chain(settings.opensearch_client_cert, settings.opensearch_client_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"The TLS files cannot be used ({error}): check opensearch_ca_file, opensearch_client_cert and"
            " opensearch_client_key (readable PEM files)."
        ) from error
    return context


def _serializer() -> Any:
    from opensearchpy.serializer import JSONSerializer

    class OrjsonSerializer(JSONSerializer):
        """orjson both ways; bytes pass untouched."""

        def dumps(self, data: Any) -> Any:
            return data if isinstance(data, (bytes, str)) else orjson.dumps(data)

        def loads(self, s: str) -> Any:
            return orjson.loads(s)

    return OrjsonSerializer()


@contextmanager
def _our_errors(what: str, urls: tuple[str, ...]) -> Iterator[None]:
    """Turn opensearch-py's errors into ours, the most specific one."""
    from opensearchpy import exceptions as theirs

    where = ", ".join(urls)
    try:
        yield
    except theirs.SSLError as error:
        raise UnreachableError(
            f"TLS with {where} failed ({_cause(error)}). Set opensearch_ca_file (or AUDIT_OPENSEARCH_CA_FILE, or"
            " --ca-file) to the authority that signed the server's certificate."
        ) from error
    except theirs.ConnectionTimeout as error:
        raise UnreachableError(f"{where} did not answer {what} in time. Is it overloaded or stopped?") from error
    except theirs.ConnectionError as error:
        raise UnreachableError(
            f"No OpenSearch answers at {where} ({_cause(error)}). Check the URL, or start one here with"
            " `audit-logging server up`."
        ) from error
    except theirs.TransportError as error:
        raise _refusal(error, what, where) from error
    except theirs.SerializationError as error:
        raise UnreachableError(
            f"{where} answered {what} with something that is not JSON: is that an OpenSearch?"
        ) from error


def _cause(error: Any) -> str:
    text = str(error.info if len(error.args) > 2 else error)  # noqa: PLR2004 - opensearch-py keeps the cause there
    return text[:200]


def _refusal(error: Any, what: str, where: str) -> OpenSearchError:
    status = error.status_code if isinstance(error.status_code, int) else 0
    body = error.info
    detail = body.get("error") if isinstance(body, dict) else None
    if isinstance(detail, dict):
        error_type, reason = str(detail.get("type", "")), str(detail.get("reason", ""))
    else:
        error_type, reason = "", str(detail or body or error.error)[:300]
    facts: dict[str, Any] = {"status": status, "error_type": error_type, "reason": reason, "body": body}
    if status == 401:  # noqa: PLR2004
        return CredentialsError(
            f"{where} does not accept the credentials (401): check opensearch_username and opensearch_password"
            " (AUDIT_OPENSEARCH_USERNAME, AUDIT_OPENSEARCH_PASSWORD).",
            **facts,
        )
    if status == 403:  # noqa: PLR2004
        return CredentialsError(f"The credentials do not allow {what} (403): {reason}", **facts)
    if status == 404:  # noqa: PLR2004
        return NotFoundError(f"{what} found nothing (404): {reason or 'no such thing'}", **facts)
    return RefusedError(f"OpenSearch refused {what} ({status} {error_type}): {reason}", **facts)
