"""An application with a path of its own, and the status application below ``/status``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gunicorn_asgi.status import app as status
from gunicorn_asgi.status.app import Scope
from gunicorn_asgi.status.events import Receive, Send

HOME = Path(__file__).parent


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """``/slow`` answers once the file "release" is there; what is ``/bad``, with 500."""
    path = scope.get("path", "")
    if scope["type"] == "lifespan":
        await status(scope, receive, send)
    elif path == "/status" or path.startswith("/status/"):
        await status({**scope, "root_path": "/status"}, receive, send)
    else:
        while path == "/slow" and not (HOME / "release").exists():
            await asyncio.sleep(0.02)
        code = 500 if path == "/bad" else 200
        await send({"type": "http.response.start", "status": code, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
