"""One request to the application itself, in process and without a socket."""

from __future__ import annotations

import asyncio

from gunicorn_asgi.aio.state import Message, ServerState
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.scope import Peer

__all__ = ["NotReady", "ready_check"]

# A name that no client can use, so that an application may tell the request apart.
_HOST = b"ready-check.invalid"


class NotReady(Exception):
    """The application did not answer as a ready one does."""


async def ready_check(state: ServerState, path: str) -> None:
    """``GET path``, through ``state.app``.

    Raises:
        NotReady: the status is 500 or more, or there is no answer at all.
    """
    headers = [(b"host", _HOST), (b"user-agent", b"gunicorn_asgi ready check")]
    head = RequestHead("GET", path.encode(), "1.1", headers, False)
    peer = Peer(("127.0.0.1", 0), None, False)
    scope = state.scopes.http(head, peer, state.lifespan_state)
    status = 0
    body_sent = asyncio.Event()
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await body_sent.wait()
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            body_sent.set()

    await state.app(scope, receive, send)
    if not 0 < status < 500:
        raise NotReady(f"{path} answered with {status or 'nothing'}")
