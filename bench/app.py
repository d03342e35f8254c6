"""The application of every workload: plain ASGI, the same for all servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["app"]

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HELLO = b"Hello, world!"
_PIECES = 100
_PIECE = b"data: a small message\n\n"

_everybody: set[Send] = set()


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Look at the path, and nothing else."""
    path: str = scope.get("path", "")
    if scope["type"] == "http":
        if path == "/":
            await _answer(send, _HELLO)
        elif path == "/stream":
            await _stream(send)
        else:
            await _answer(send, await _body(receive))
    elif scope["type"] == "websocket":
        if path == "/broadcast":
            await _broadcast(receive, send)
        else:
            await _echo(receive, send)
    else:
        await _lifespan(receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def _answer(send: Send, body: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    pieces = []
    more = True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def _stream(send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(_PIECES):
        await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def _broadcast(receive: Receive, send: Send) -> None:
    """What one says goes to all, himself included, in one task: the speaker's."""
    await receive()
    _everybody.add(send)
    try:
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            for each in tuple(_everybody):
                await each({"type": "websocket.send", "text": message["text"]})
    finally:
        _everybody.discard(send)
