"""Asking a local server whether it is ready. Plain ``http.client``, so that proxy variables do not get in the way."""

from __future__ import annotations

import base64
import http.client
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from audit_logging.local.state import RunningServer

ANSWER_SECONDS = 5.0


def is_ready(server: RunningServer) -> bool:
    """Tell whether *server* has recovered its indices and accepts our credentials."""
    connection = _connect(server)
    try:
        connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s", headers=_headers(server))
        with connection.getresponse() as answer:
            answer.read()
            return answer.status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _connect(server: RunningServer) -> http.client.HTTPConnection:
    where = urlsplit(server.url)
    if where.scheme == "http":
        return http.client.HTTPConnection(where.netloc, timeout=ANSWER_SECONDS)
    context = ssl.create_default_context(cafile=server.ca_file)
    return http.client.HTTPSConnection(where.netloc, timeout=ANSWER_SECONDS, context=context)


def _headers(server: RunningServer) -> dict[str, str]:
    if server.username is None or server.password is None:
        return {}
    credentials = f"{server.username}:{server.password.get_secret_value()}"
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}
