"""Large bodies in both directions, and a path that tells how far they have come."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MIB = 1 << 20
# Made, and its pages touched, before anything is measured: this memory is the application's.
BLOCK = bytes(range(256)) * (MIB // 256)
WHOLE = BLOCK * 50

PROGRESS = {"sent": 0, "received": 0, "running": 0}
GO = asyncio.Event()


async def send_many(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(50):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
        PROGRESS["sent"] += len(BLOCK)
    await send({"type": "http.response.body"})


async def send_one(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": WHOLE})
    PROGRESS["sent"] += len(WHOLE)


async def does_not_read(receive: Receive, send: Send) -> None:
    """Waits for /go, and answers without having read a byte."""
    GO.clear()
    await GO.wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"not read"})


async def reads_slowly(receive: Receive, send: Send) -> None:
    digest = hashlib.sha256()
    more = True
    while more:
        message = await receive()
        digest.update(message["body"])
        PROGRESS["received"] += len(message["body"])
        more = message["more_body"]
        await asyncio.sleep(0.001)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": digest.hexdigest().encode()})


async def progress(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    told = {**PROGRESS, "tasks": len(asyncio.all_tasks())}
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def go(receive: Receive, send: Send) -> None:
    GO.set()
    await progress(receive, send)


ROUTES: dict[str, Callable[[Receive, Send], Awaitable[None]]] = {
    "/go": go,
    "/many": send_many,
    "/one": send_one,
    "/progress": progress,
    "/slowly": reads_slowly,
    "/unread": does_not_read,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    PROGRESS["running"] += 1
    try:
        await ROUTES[scope["path"]](receive, send)
    finally:
        PROGRESS["running"] -= 1
