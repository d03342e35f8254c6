"""What a connection may be dropped in the middle of; ``/tasks`` tells what is left of it all."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SEEN = {"http": 0, "websocket": 0, "streams": 0, "uploads cut": 0, "never accepted": 0, "told": 0}


async def answer(send: Send, body: bytes = b"ok") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def quick(receive: Receive, send: Send) -> None:
    await answer(send)


async def tasks(receive: Receive, send: Send) -> None:
    gc.collect()
    told = {**SEEN, "tasks": len(asyncio.all_tasks())}
    await answer(send, json.dumps(told).encode())


async def upload(receive: Receive, send: Send) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            SEEN["uploads cut"] += 1
            return
        more = message["more_body"]
    await answer(send)


async def stream(receive: Receive, send: Send) -> None:
    """Never ends by itself."""
    SEEN["streams"] += 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await asyncio.sleep(0.005)


async def silent(receive: Receive, send: Send) -> None:
    """Never answers: ended by the grace period after its client has left."""
    await asyncio.Event().wait()


async def never_accepts(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    SEEN["never accepted"] += 1
    message = await receive()
    assert message == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    SEEN["told"] += 1
    await asyncio.Event().wait()


async def echo(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


ROUTES: dict[str, Callable[[Receive, Send], Awaitable[None]]] = {
    "/quick": quick,
    "/silent": silent,
    "/stream": stream,
    "/tasks": tasks,
    "/upload": upload,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] in ("http", "websocket")
    SEEN[scope["type"]] += 1
    if scope["path"] == "/ws/never":
        await never_accepts(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await ROUTES[scope["path"]](receive, send)
