"""A server for WebSocket clients: each path does one thing to them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Those that wait to be told something, by whoever asks for /tell.
LISTENERS: list[Send] = []


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    chosen = "kit.v2" if "kit.v2" in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": chosen})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(scope, receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
    end = f"{scope['query_string'].decode()} {message['code']} {message['reason']}"
    sys.stderr.write(f"ended {end}\n")


async def listens(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(scope, receive, send)
    LISTENERS.append(send)
    while (await receive())["type"] != "websocket.disconnect":
        pass
    LISTENERS.remove(send)


async def tells(scope: Scope, receive: Receive, send: Send) -> None:
    for tell in LISTENERS:
        await tell({"type": "websocket.send", "text": "told"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(LISTENERS)).encode()})


async def closes(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(scope, receive, send)
    await send({"type": "websocket.send", "text": "before the end"})
    await send({"type": "websocket.close", "code": 4321, "reason": "enough, \N{SNOWMAN}"})


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(scope, receive, send)


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(scope, receive, send)
    raise ValueError("boom")


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def denies(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    kind, headers = "websocket.http.response.", [(b"x-why", b"no name")]
    await send({"type": kind + "start", "status": 401, "headers": headers})
    await send({"type": kind + "body", "body": b"who are you?"})


async def denies_piece_by_piece(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    kind, headers = "websocket.http.response.", [(b"x-why", b"no name")]
    await send({"type": kind + "start", "status": 401, "headers": headers})
    for piece in (b"who ", b"are ", b"you?"):
        await send({"type": kind + "body", "body": piece, "more_body": True})
    await send({"type": kind + "body"})


PATHS = {
    "/echo": echo,
    "/listens": listens,
    "/tell": tells,
    "/closes": closes,
    "/returns": returns,
    "/raises": raises,
    "/refuses": refuses,
    "/denies": denies,
    "/denies-piece-by-piece": denies_piece_by_piece,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await PATHS[scope["path"]](scope, receive, send)
