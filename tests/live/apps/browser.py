"""A page for a browser, its WebSockets and its event stream.

What the page cannot see is written to the file "notes", an object of JSON a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HOME = Path(__file__).parent
VERSION = (HOME / "version").read_text()
# What the page is made of; the second is the one that docs/websockets.md proposes.
FILES = {"/": ("browser.html", b"text/html"), "/connect.js": ("connect.js", b"text/javascript")}


def note(**facts: Any) -> None:
    with (HOME / "notes").open("a") as file:
        file.write(json.dumps(facts) + "\n")


async def serve_file(scope: Scope, receive: Receive, send: Send) -> None:
    name, kind = FILES[scope["path"]]
    headers = [(b"content-type", kind + b"; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": (HOME / name).read_bytes()})


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Numbers, from the one behind that which the browser has seen, until it leaves or has to."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def tell(text: str, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

    first = last = int(dict(scope["headers"]).get(b"last-event-id", b"0"))
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await tell("retry: 50\n\n")
    gone = asyncio.ensure_future(disconnected())
    # The page may leave at any moment.
    with contextlib.suppress(OSError):
        while not gone.done():
            await tell(f"id: {last + 1}\ndata: {VERSION}\n\n")
            last += 1
            await asyncio.wait([gone], timeout=0.02)
        await tell("", more=False)
    note(stream=VERSION, behind=first, last=last)


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Say which version this is, send back what comes, and close when that is asked for."""
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[-1] if offered else None})
    if scope["path"] == "/version":
        await send({"type": "websocket.send", "text": VERSION})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text") or ""
        if scope["path"] == "/close":
            code, _, reason = text.partition(" ")
            await send({"type": "websocket.close", "code": int(code), "reason": reason})
        else:
            await send({**message, "type": "websocket.send"})
    note(path=scope["path"], code=message["code"], reason=message["reason"])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        assert scope["type"] == "http"
        await (events if scope["path"] == "/events" else serve_file)(scope, receive, send)
