"""The application under tests/rfc: says what it has seen, or sends what it is told to send."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["app"]

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Paths in the order in which they were asked for, as GET /paths tells and forgets them.
PATHS: list[str] = []
_KEEP = 2000


async def answer(send: Send, told: object, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def read(receive: Receive) -> bytes | None:
    """The whole body; None if the client has left in the middle of it."""
    pieces = []
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message["body"])
        more = message["more_body"]
    return b"".join(pieces)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read(receive)
    if body is None:
        PATHS.append("cut " + scope["path"])
        return
    told = {key: scope[key] for key in ("method", "path", "http_version", "scheme", "root_path")}
    told["raw_path"] = scope["raw_path"].decode("latin-1")
    told["query"] = scope["query_string"].decode("latin-1")
    told["headers"] = [[part.decode("latin-1") for part in pair] for pair in scope["headers"]]
    told["body"] = body.decode("latin-1")
    await answer(send, told, (b"content-type", b"application/json"))


def untold(value: object) -> object:
    """What a test cannot say in JSON: text stands for bytes, {"str": ...} for text."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, list):
        return [untold(each) for each in value]
    return value["str"] if isinstance(value, dict) else value


async def perform(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the messages of the field X-Messages; what that raises is left to the server."""
    told = dict(scope["headers"])[b"x-messages"]
    for message in json.loads(told):
        kind = message.pop("type")
        if kind == "raise":
            raise RuntimeError("as told")
        if kind == "read":
            await read(receive)
            continue
        await send({"type": kind, **{key: untold(value) for key, value in message.items()}})


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    while scope["path"] == "/listen" and (await receive())["type"] == "websocket.receive":
        pass
    if scope["path"] != "/listen":
        await send({"type": "websocket.close"})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] in ("http", "websocket")
    PATHS.append(scope["path"])
    del PATHS[:-_KEEP]
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
    elif scope["path"] == "/paths":
        told = list(PATHS)
        PATHS.clear()
        await answer(send, told)
    elif scope["path"] == "/perform":
        await perform(scope, receive, send)
    else:
        await echo(scope, receive, send)
