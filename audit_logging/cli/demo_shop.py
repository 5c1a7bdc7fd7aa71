"""The demo's shop: the example application in a real uvicorn, in a process of its own.

It ends with the process that started it, however that ends: its standard input is a pipe whose other end that process
holds, and nothing is ever written there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from audit_logging._version import install_command
from audit_logging.errors import LocalServerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

END_SECONDS: Final = 30.0
"""Longest wait for the shop to ship its last events and end."""


@contextmanager
def run_shop(environment: Mapping[str, str]) -> Iterator[str]:
    """Run the shop and yield its URL; on leaving it has shipped what it emitted.

    Args:
        environment: The ``AUDIT_*`` variables that say where its trail goes, the spool directory among them, and all
            others.

    Raises:
        LocalServerError: The example or the extra ``demo`` is missing, or the shop ended by itself; its last words
            are in the message.
    """
    import httpx

    folder = Path(environment["AUDIT_SPOOL_DIR"]).parent  # which is there, other than a directory for temporary files
    with socket.socket() as listener, tempfile.TemporaryFile(dir=folder) as complaints:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", __name__, str(find_examples()), str(listener.fileno())]
        shop = subprocess.Popen(  # noqa: S603 - our own interpreter and our own example
            command,
            env=environment,
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,  # Ctrl-C in the terminal is for the demo, which then ends the shop in order
        )
        try:
            listener.close()  # a shop that is gone refuses, instead of keeping callers waiting
            yield f"http://127.0.0.1:{port}"
        except httpx.HTTPError as error:
            raise LocalServerError(_explain(shop, complaints, error)) from error
        finally:
            _end(shop)


def _explain(shop: subprocess.Popen[bytes], complaints: IO[bytes], error: Exception) -> str:
    try:
        shop.wait(1)
    except subprocess.TimeoutExpired:
        return f"The shop does not answer ({type(error).__name__})."
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").strip().splitlines()
    return f"The shop ended: {said[-1] if said else f'exit code {shop.returncode}'}"


def _end(shop: subprocess.Popen[bytes]) -> None:
    assert shop.stdin is not None
    shop.stdin.close()
    try:
        shop.wait(END_SECONDS)
    finally:
        shop.kill()
        shop.wait()


def find_examples() -> Path:
    """Return the directory of the examples: beside the package in a checkout, within it where it is installed.

    Raises:
        LocalServerError: They are in neither place.
    """
    import audit_logging

    package = Path(audit_logging.__file__).parent
    for directory in (package.parent / "examples", package / "examples"):
        if (directory / "shop" / "app.py").exists():
            return directory
    raise LocalServerError(
        f"The example shop is missing from this installation. Reinstall it: {install_command('all')}."
    )


def serve(directory: str, descriptor: int) -> None:
    """Serve the shop in *directory* on the socket *descriptor* until standard input ends."""
    sys.path.insert(0, directory)
    import uvicorn

    config = uvicorn.Config(
        "shop.app:app",
        fd=descriptor,
        log_level="error",
        access_log=False,
        # The address is the middleware's business: it believes the networks in AUDIT_TRUSTED_PROXIES alone.
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)

    def wait_for_the_end() -> None:
        os.read(0, 1)  # not through sys.stdin, whose lock would trouble the end of the interpreter
        server.should_exit = True

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    server.run()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
