"""An application that is nothing but the trail's REST interface, in a process of its own; prints its port.

The trail is that of the AUDIT_* variables.
"""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

from audit_logging.integrations.fastapi import Access, audit_router

app = FastAPI()
app.include_router(audit_router(access=lambda: Access(user_id="u-1")))

if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
