"""The application of every workload: plain ASGI, the same for all servers."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

__all__ = ["app"]

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HELLO = b"Hello, world!"
_PIECES = 100
_PIECE = b"data: a small message\n\n"
# Made before: a serializer is no part of any server.
_ROWS = [{"id": 1000 + number, "name": f"name {number}", "ok": True} for number in range(22)]
_JSON = json.dumps(_ROWS).encode()
_MEGABYTE = b"x" * 1024 * 1024
_SLICE = b"x" * 64 * 1024
_SLICES = 160

_everybody: set[Send] = set()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Look at the path, and nothing else."""
    path: str = scope.get("path", "")
    if scope["type"] == "http":
        if path == "/":
            await _answer(send, _HELLO)
        elif path == "/echo":
            await _answer(send, await _body(receive))
        else:
            await _OTHERS[path](scope, receive, send)
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


async def _start(send: Send, length: int, kind: bytes = b"text/plain") -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _answer(send: Send, body: bytes) -> None:
    await _start(send, len(body))
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    pieces = []
    more = True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def _stream(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(_PIECES):
        await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _json(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _start(send, len(_JSON), b"application/json")
    await send({"type": "http.response.body", "body": _JSON})


async def _count(_scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body piece by piece, keep none of it, and answer with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, b"%d" % length)


async def _download(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _start(send, len(_MEGABYTE))
    await send({"type": "http.response.body", "body": _MEGABYTE})


async def _slices(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _start(send, _SLICES * len(_SLICE))
    for number in range(_SLICES):
        more = number < _SLICES - 1
        await send({"type": "http.response.body", "body": _SLICE, "more_body": more})


async def _file(scope: Scope, _receive: Receive, send: Send) -> None:
    """By the best that the server offers; else read and sent, without the threads of frameworks.

    Those would only be slower, and by much: what is compared is the servers.
    """
    offered = scope.get("extensions") or {}
    path = _written()
    await _start(send, len(_MEGABYTE))
    if "http.response.pathsend" in offered:
        await send({"type": "http.response.pathsend", "path": path})
        return
    with open(path, "rb", buffering=0) as file:  # noqa: ASYNC230 - it is in the page cache
        if "http.response.zerocopysend" in offered:
            await send({"type": "http.response.zerocopysend", "file": file})
            return
        for left in range(len(_MEGABYTE) - len(_SLICE), -1, -len(_SLICE)):
            body = file.read(len(_SLICE))
            await send({"type": "http.response.body", "body": body, "more_body": left > 0})


@functools.cache
def _written() -> str:
    """The path of a file of one megabyte, in the folder of this server."""
    path = Path(os.environ["BENCH_FOLDER"]) / "1m"
    path.write_bytes(_MEGABYTE)
    return str(path)


async def _who(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Tell which process this is."""
    await _answer(send, b"%d" % os.getpid())


_OTHERS: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
    "/stream": _stream,
    "/json": _json,
    "/count": _count,
    "/1m": _download,
    "/10m": _slices,
    "/file": _file,
    "/who": _who,
}


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
