"""One OpenSearch cluster. The only module, with its hosts, that meets opensearch-py.

opensearch-py brings hosts, their connection pools, and which of them are dead for the moment. The exchange itself is
done here, on its pools, because of habits that an audit trail cannot afford: it repeats requests at once and blind to
what became of them, hides how long the server asks to wait, and writes whole bodies into its log.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from audit_logging.errors import (
    AnswerTooLargeError,
    AuditError,
    CredentialsError,
    Keyword,
    NotFoundError,
    OpenSearchError,
    RefusedError,
    SettingsError,
    UnreachableError,
)
from audit_logging.opensearch.credentials import Credentials, tls_context
from audit_logging.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.settings import Settings

CONNECTIONS_PER_HOST = 8
"""Enough for the shipper's requests in flight and a few readers."""

DEAD_SECONDS = 2.0
"""How long a host that failed is passed over where there are others; doubled with each failure, up to 32 times."""

_PIECE = 1 << 16

MOST_BYTES = 256 << 20
"""Size of the largest answer that is read: a page of an export has some 10 MB, unpacked."""

_MOST_REFUSAL_BYTES = 1 << 20

_CONNECTION = re.compile(r"^[A-Z]{0,5}Connection[A-Za-z]{0,20}\(host=[^)]{0,300}\): ")
"""How urllib3 begins a message: with an object that says nothing that the URL does not."""

_HOST_FAILURES = frozenset({502, 503, 504})
_MULTIPLE_CHOICES, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 300, 401, 403, 404

Params = Mapping[str, str | int | bool]
Body = Mapping[str, Any] | bytes | None

_log = logging.getLogger("audit_logging")


class Client:
    """Speaks JSON with one cluster; every failure is one of :mod:`audit_logging.errors`.

    Thread-safe. Build it with settings that name at least one ``opensearch_url``. Where a host refuses the connection
    the next one is asked; where the credentials are refused they are read afresh, and used if they have changed.

    Example:
        >>> client = Client(Settings.load(opensearch_url="http://127.0.0.1:9200"))  # doctest: +SKIP
        >>> client.request("GET", "/")["version"]["number"]  # doctest: +SKIP
        '3.8.0'
    """

    def __init__(self, settings: Settings) -> None:
        if not settings.opensearch_url:
            raise SettingsError(
                "No OpenSearch is configured: set ",
                Keyword("opensearch_url", "opensearch_url (or AUDIT_OPENSEARCH_URL, or --url)"),
                ", or start one here with `audit-logging server up`.",
            )
        self.urls = settings.opensearch_url
        self._settings = settings
        self._credentials = Credentials.read(settings)
        self._transport = _build_transport(settings)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Body = None,
        timeout: float | None = None,
        most_bytes: int | None = None,
    ) -> Any:
        """Send one request and return the decoded answer (a boolean for HEAD).

        Args:
            method: HTTP method.
            path: Path from the root, already quoted.
            params: Query parameters.
            body: A JSON object, or bytes that are sent as they are.
            timeout: Seconds to wait for this answer instead of the setting's.
            most_bytes: A larger answer is not read.

        Raises:
            UnreachableError: There was no answer, so what became of the request is unknown.
            AnswerTooLargeError: The answer has more than *most_bytes*.
            RefusedError: The server answered with an error status (see its subclasses).
        """
        try:
            if most_bytes is None:
                answer = self.request_bytes(method, path, params=params, body=body, timeout=timeout)
            else:
                unread = self._ask(method, path, params, body, timeout=timeout)
                answer = self._read_at_most(most_bytes, unread, _what(method, path))
        except NotFoundError:
            if method == "HEAD":
                return False
            raise
        if method == "HEAD":
            return True
        try:
            return orjson.loads(answer) if answer else answer
        except orjson.JSONDecodeError as error:
            raise UnreachableError(
                f"{self._where} answered {_what(method, path)} with something that is not JSON: is that an OpenSearch?"
            ) from error

    def request_bytes(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Body = None,
        timeout: float | None = None,
    ) -> bytes:
        """Do the same, and return the answer's body as it came: for answers that are not worth decoding."""
        answer = self._ask(method, path, params, body, timeout=timeout)
        return self._read_at_most(MOST_BYTES, answer, _what(method, path))

    def begin(self, method: str, path: str, *, params: Params | None = None, body: Body = None) -> Callable[[], bytes]:
        """Do the same, and return when the answer begins; what is returned reads its body, on any thread.

        An answer that nobody wants must be read all the same, or its connection is lost.
        """
        answer = self._ask(method, path, params, body)

        def read() -> bytes:
            from audit_logging.opensearch.deadline import restart

            restart(answer)
            return self._read_at_most(MOST_BYTES, answer, _what(method, path))

        return read

    def _read_at_most(self, most_bytes: int, answer: Any, what: str) -> bytes:
        import urllib3

        pieces, size = [], 0
        try:
            for piece in answer.stream(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > most_bytes:
                    answer.close()
                    raise AnswerTooLargeError(f"{self._where} answered {what} with more than {most_bytes:,} bytes.")
        except urllib3.exceptions.HTTPError as error:
            raise self._silence(error, what) from error
        finally:
            answer.release_conn()
        return b"".join(pieces)

    def _ask(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: Body,
        *,
        timeout: float | None = None,
    ) -> Any:
        """Return the response of the first host that gives one; its body is yet to be read."""
        target = f"{path}?{urlencode({name: _parameter(value) for name, value in params.items()})}" if params else path
        data = orjson.dumps(body) if isinstance(body, Mapping) else body
        others, may_renew = len(self.urls) - 1, True
        while True:
            try:
                return self._exchange(method, target, data, timeout)
            except UnreachableError as error:
                if error.was_sent or not others:
                    raise
                others -= 1
            except CredentialsError:
                if not may_renew or not self._renew():
                    raise
                may_renew = False

    def close(self) -> None:
        """Close the pooled connections. The client is of no use afterwards."""
        self._transport.close()

    @property
    def _where(self) -> str:
        return ", ".join(self.urls)

    def _exchange(self, method: str, target: str, data: bytes | None, timeout: float | None) -> Any:
        import urllib3

        transport = self._transport
        connection = transport.get_connection()
        headers = dict(connection.headers)
        if self._credentials.authorization is not None:
            headers["authorization"] = self._credentials.authorization
        try:
            response = connection.pool.urlopen(
                method,
                connection.url_prefix + target,
                data,
                headers,
                retries=urllib3.Retry(False),
                preload_content=False,
                timeout=self._settings.opensearch_timeout_seconds if timeout is None else timeout,
            )
        except urllib3.exceptions.HTTPError as error:
            transport.mark_dead(connection)
            raise self._silence(error, _what(method, target)) from error
        if response.status in _HOST_FAILURES:
            transport.mark_dead(connection)
        else:
            transport.connection_pool.mark_live(connection)
        if response.status >= _MULTIPLE_CHOICES:
            body = self._beginning_of(response, _what(method, target))
            raise _refusal(response, body, _what(method, target), self._where)
        return response

    def _beginning_of(self, answer: Any, what: str) -> bytes:
        """Return what a refusal says; of what is too long for one, nothing."""
        try:
            return self._read_at_most(_MOST_REFUSAL_BYTES, answer, what)
        except AnswerTooLargeError:
            return b""

    def _renew(self) -> bool:
        """Read the credentials again; true when they are others now, and the next request will use them."""
        try:
            credentials = Credentials.read(self._settings)
            if credentials == self._credentials:
                return False
            # The one before may be in use by another thread; its connections are closed when nobody has it any more.
            self._transport = _build_transport(self._settings)
        except AuditError as error:  # files that are being replaced; the next refusal looks again
            _log.warning("The credentials were refused and cannot be read afresh: %s", error)
            return False
        self._credentials = credentials
        return True

    def _silence(self, error: Exception, what: str) -> UnreachableError:
        """Return why there is no answer."""
        from urllib3 import exceptions as theirs

        cause = printable(_CONNECTION.sub("", str(error))[:200])
        if self._credentials.tls_files:
            self._renew()  # how a certificate is refused depends on the moment; the next connection uses what is there
        if isinstance(error, theirs.SSLError):
            return UnreachableError(
                f"TLS with {self._where} failed ({cause}). Set opensearch_ca_file (or AUDIT_OPENSEARCH_CA_FILE, or"
                " --ca-file) to the authority that signed the server's certificate."
            )
        if isinstance(error, theirs.ReadTimeoutError):
            return UnreachableError(f"{self._where} did not answer {what} in time. Is it overloaded or stopped?")
        if isinstance(error, theirs.NewConnectionError | theirs.ConnectTimeoutError):
            return UnreachableError(
                f"No OpenSearch answers at {self._where} ({cause}). Check the URL, or start one here with"
                " `audit-logging server up`.",
                was_sent=False,
            )
        return UnreachableError(
            f"{self._where} broke off {what} ({cause}). Did it end, is a proxy in between, or is it https where http is"
            " asked for?"
        )


def _what(method: str, target: str) -> str:
    return f"{method} {target.partition('?')[0]}"


def _parameter(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _build_transport(settings: Settings) -> Any:
    import opensearchpy

    from audit_logging.opensearch.deadline import set_deadlines
    from audit_logging.opensearch.hosts import Hosts

    options: dict[str, Any] = {}
    if any(url.startswith("https") for url in settings.opensearch_url):
        options["ssl_context"] = tls_context(settings)
    client = opensearchpy.OpenSearch(
        list(settings.opensearch_url),
        connection_pool_class=Hosts,
        pool_maxsize=CONNECTIONS_PER_HOST,
        dead_timeout=DEAD_SECONDS,
        **options,
    )
    for connection in client.transport.connection_pool.connections:
        set_deadlines(connection.pool)
    return client.transport


def _refusal(response: Any, content: bytes, what: str, where: str) -> OpenSearchError:
    """Return what the server says no with."""
    status = response.status
    body = _decoded(content)
    detail = body.get("error") if isinstance(body, dict) else None
    if isinstance(detail, dict):
        error_type, reason = str(detail.get("type", "")), str(detail.get("reason", ""))
    else:
        error_type, reason = "", str(detail or body or response.reason)[:300]
    reason = printable(reason)  # what answers may be anything, and this goes to logs and terminals
    facts: dict[str, Any] = {
        "status": status,
        "error_type": error_type,
        "reason": reason,
        "body": body,
        "retry_after_seconds": retry_after(response.headers.get("retry-after"), response.headers.get("date")),
    }
    if status == _UNAUTHORIZED:
        return CredentialsError(
            f"{where} does not accept the credentials (401): check opensearch_username and opensearch_password"
            " (AUDIT_OPENSEARCH_USERNAME, AUDIT_OPENSEARCH_PASSWORD), or opensearch_token.",
            **facts,
        )
    if error_type == "index_closed_exception":
        closed = body["error"].get("index") if isinstance(body, dict) else None
        reason = f"the index {printable(str(closed))} is closed (POST /<index>/_open opens it)"
    if status == _FORBIDDEN and error_type != "cluster_block_exception":  # a block refuses whoever asks
        return CredentialsError(f"The credentials do not allow {what} (403): {reason}", **facts)
    if status == _NOT_FOUND:
        return NotFoundError(f"{what} found nothing (404): {reason or 'no such thing'}", **facts)
    return RefusedError(f"OpenSearch refused {what} ({status} {error_type}): {reason}", **facts)


def _decoded(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.decode("utf-8", "replace")


def retry_after(value: str | None, date: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks to wait; None when it asks nothing that can be understood.

    Args:
        value: The header: seconds, or a date.
        date: The ``Date`` header beside it: the clock that *value* is by. Ours, where there is none, may be hours off.

    Source: RFC 9110, sections 10.2.3 and 6.6.1.

    Example:
        >>> retry_after("120", None), retry_after("soon", None)
        (120.0, None)
        >>> retry_after("Thu, 01 Jan 1970 00:00:07 GMT", "Thu, 01 Jan 1970 00:00:05 GMT")
        2.0
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    until, now = _seconds(value), _seconds(date or "")
    return None if until is None else max(0.0, until - (time.time() if now is None else now))


def _seconds(date: str) -> float | None:
    """Return a date of HTTP in seconds since the epoch; None when it is none."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):  # TypeError: what Python 3.10 says to no date
        return None
