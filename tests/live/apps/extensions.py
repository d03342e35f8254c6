"""Trailers and early hints; and an application of ASGI 2."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PIECES = [b"one", b"two", b"x" * 300_000]
LINKS = [b"</style.css>; rel=preload; as=style", b"</script.js>; rel=preload; as=script"]


async def extensions(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    names = json.dumps(sorted(scope["extensions"]))
    await send({"type": "http.response.body", "body": names.encode()})


async def trailers(scope: Scope, receive: Receive, send: Send) -> None:
    """A stream with its digest behind it."""
    headers = [(b"trailer", b"x-digest, server-timing")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    digest = hashlib.sha256()
    for piece in PIECES:
        digest.update(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})
    found = [(b"x-digest", digest.hexdigest().encode())]
    await send({"type": "http.response.trailers", "headers": found, "more_trailers": True})
    timing = [(b"server-timing", b"app;dur=1")]
    await send({"type": "http.response.trailers", "headers": timing})


async def hints(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.early_hint", "links": LINKS})
    await send({"type": "http.response.early_hint", "links": LINKS[:1]})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hinted"})


ROUTES = {"/trailers": trailers, "/hints": hints}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await ROUTES.get(scope["path"], extensions)(scope, receive, send)


class Legacy:
    """Two callables, one inside the other."""

    def __init__(self, scope: Scope) -> None:
        assert scope["type"] == "http"
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        await extensions(self.scope, receive, send)
