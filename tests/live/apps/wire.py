"""Small handlers by path, for tests that look at the bytes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What happened, by name, for tests to ask about at /events.
EVENTS: dict[str, Any] = {}
RELEASED: dict[str, asyncio.Event] = {}
MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="fresh")


class Gone(Exception):
    """The client has left amid its request."""


def released(name: str) -> asyncio.Event:
    return RELEASED.setdefault(name, asyncio.Event())


def query(scope: Scope) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in scope["query_string"].decode().split("&"))
    return {name: value for name, _, value in pairs}


async def read(receive: Receive) -> bytes:
    pieces = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        pieces.append(message["body"])
        more = message["more_body"]
    return b"".join(pieces)


async def answer(
    send: Send, body: bytes = b"", *headers: tuple[bytes, bytes], status: int = 200
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def stream(send: Send, pieces: list[bytes], *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def scope_of(scope: Scope, receive: Receive, send: Send) -> None:
    told = {
        key: scope[key]
        for key in ("type", "http_version", "method", "scheme", "path", "root_path", "client")
    }
    told["raw_path"] = scope["raw_path"].decode("latin-1")
    told["query_string"] = scope["query_string"].decode("latin-1")
    told["headers"] = [[name.decode("latin-1"), value.decode()] for name, value in scope["headers"]]
    told["server"] = scope["server"]
    told["asgi"] = scope["asgi"]
    told["extensions"] = scope["extensions"]
    await answer(send, json.dumps(told).encode())


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read(receive)
    await answer(send, body, (b"x-echo", b"%d" % len(body)))


async def digest(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, hashlib.sha256(await read(receive)).hexdigest().encode())


async def pieces(scope: Scope, receive: Receive, send: Send) -> None:
    await stream(send, [b"one", b"", b"two", b"three"])


async def pieces_of_known_length(scope: Scope, receive: Receive, send: Send) -> None:
    await stream(send, [b"one", b"two", b"three"], (b"Content-Length", b"11"))


async def piecewise_echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Both ways at once: each piece goes back before the next is read."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def ignores(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers without reading the request's body."""
    await answer(send, b"ignored")


async def rejects(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers an upload early and at length: the client has to be able to read all of it."""
    await answer(send, b"too large " * 2000, status=413)


async def with_status(scope: Scope, receive: Receive, send: Send) -> None:
    given = query(scope)
    headers = [(b"content-length", given["length"].encode())] if "length" in given else []
    await answer(send, given.get("body", "").encode(), *headers, status=int(given["status"]))


async def own_fields(scope: Scope, receive: Receive, send: Send) -> None:
    date = (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT")
    await answer(
        send, b"", date, (b"SERVER", b"mine"), (b"set-cookie", b"a=1"), (b"Set-Cookie", b"")
    )


async def closes(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"bye", (b"Connection", b"close"))


async def reads_late(scope: Scope, receive: Receive, send: Send) -> None:
    await released("read").wait()
    await echo(scope, receive, send)


async def starts_then_reads(scope: Scope, receive: Receive, send: Send) -> None:
    """Its response is under way when it reads: too late for an interim response."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    await send({"type": "http.response.body", "body": await read(receive)})


async def context(scope: Scope, receive: Receive, send: Send) -> None:
    before = MARK.get()
    MARK.set("stale")
    await answer(send, before.encode())


async def disconnected(scope: Scope, receive: Receive, send: Send) -> None:
    """Waits for the client to leave, and records what receive() and send() do then."""
    name = query(scope)["name"]
    EVENTS[name] = {"state": "waiting"}
    try:
        await read(receive)
    except Gone:
        EVENTS[name] = {"state": "cut"}
        return
    message = await receive()
    event = {"state": "told", "message": message}
    try:
        await answer(send, b"too late")
    except OSError as error:
        event["raised"] = [kind.__name__ for kind in type(error).__mro__]
    EVENTS[name] = event


async def streams_until_gone(scope: Scope, receive: Receive, send: Send) -> None:
    name = query(scope)["name"]
    EVENTS[name] = {"state": "streaming"}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0.01)
    except OSError as error:
        EVENTS[name] = {
            "state": "raised",
            "raised": [kind.__name__ for kind in type(error).__mro__],
        }
        raise


async def after_the_response(scope: Scope, receive: Receive, send: Send) -> None:
    """What receive() says once the response is complete, while the connection lives."""
    await answer(send, b"done")
    EVENTS[query(scope)["name"]] = {"state": "told", "message": await receive()}


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, json.dumps(EVENTS.get(query(scope)["name"], {})).encode())


async def release(scope: Scope, receive: Receive, send: Send) -> None:
    released(query(scope)["name"]).set()
    await answer(send)


ROUTES: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
    "/after": after_the_response,
    "/close": closes,
    "/context": context,
    "/digest": digest,
    "/disconnected": disconnected,
    "/echo": echo,
    "/events": events,
    "/ignore": ignores,
    "/own": own_fields,
    "/pieces": pieces,
    "/pieces-of-known-length": pieces_of_known_length,
    "/piecewise-echo": piecewise_echo,
    "/reads-late": reads_late,
    "/reject": rejects,
    "/release": release,
    "/starts-then-reads": starts_then_reads,
    "/status": with_status,
    "/streams": streams_until_gone,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    with contextlib.suppress(Gone):
        await ROUTES.get(scope["path"], scope_of)(scope, receive, send)
