"""The bundled demo: one raw ASGI 3 application, standard library only.

It exists to be looked at: a page which shows an HTTP answer, a Server-Sent-Events stream and a
WebSocket side by side, each with the process id of the worker that served it.

    gunicorn -k gunicorn_asgi.Worker gunicorn_asgi.demo:app
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.resources import files
from typing import Any

__all__ = ["app"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

_PAGE = files(__name__).joinpath("index.html").read_bytes()
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TEXT = b"text/plain; charset=utf-8"
_SSE_INTERVAL = 1.0


@dataclass
class _Stats:
    """What one worker process remembers about itself; the lifespan state holds it."""

    started: float = field(default_factory=time.monotonic)
    requests: int = 0
    echoed: int = 0


_without_state: dict[int, _Stats] = {}


def _stats(scope: Scope) -> _Stats:
    """The worker's stats: from the lifespan state, or per process where the server has none."""
    found = (scope.get("state") or {}).get("demo")
    return found if isinstance(found, _Stats) else _without_state.setdefault(os.getpid(), _Stats())


def _path(scope: Scope) -> str:
    """The path below ``root_path``, so that the demo also works under a prefix."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _headers(content_type: bytes, *more: Header) -> list[Header]:
    """The headers of every answer: its type, who gave it, and no caching."""
    return [
        (b"content-type", content_type),
        (b"cache-control", b"no-cache"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-worker", b"%d" % os.getpid()),
        *more,
    ]


async def _start(send: Send, headers: list[Header], status: int = 200) -> None:
    """Send the head of an answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(
    scope: Scope,
    send: Send,
    body: bytes,
    kind: bytes,
    *more: Header,
    status: int = 200,
) -> None:
    """Send a whole answer of known length; HEAD gets the same head and no body."""
    headers = _headers(kind, (b"content-length", b"%d" % len(body)), *more)
    await _start(send, headers, status)
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    """``GET /``: the page, which is not allowed to ask anything of any other host."""
    policy = (b"content-security-policy", _PAGE_POLICY)
    await _answer(scope, send, _PAGE, b"text/html; charset=utf-8", policy)


async def _hello(scope: Scope, receive: Receive, send: Send) -> None:
    """``GET /api/hello``: who answers, on what, and how much it has done so far."""
    stats = _stats(scope)
    loop = type(asyncio.get_running_loop())
    facts = {
        "message": "Hello from gunicorn_asgi",
        "pid": os.getpid(),
        "master": os.getppid(),
        "python": platform.python_version(),
        "loop": f"{loop.__module__}.{loop.__qualname__}",
        "http_version": scope["http_version"],
        "client": scope.get("client"),
        "uptime": round(time.monotonic() - stats.started, 3),
        "requests": stats.requests,
        "echoed": stats.echoed,
    }
    await _answer(scope, send, json.dumps(facts).encode(), b"application/json")


async def _healthz(scope: Scope, receive: Receive, send: Send) -> None:
    """``GET /healthz``: for a load balancer."""
    await _answer(scope, send, b"ok", _TEXT)


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """``POST /api/echo``: the body back, part by part, never held as a whole.

    The head waits for the first part, which lets the server send ``100 Continue`` before it. A
    client with more to send than the sockets buffer has to read while it sends.
    """
    stats, asked = _stats(scope), dict(scope["headers"])
    headers = _headers(asked.get(b"content-type", b"application/octet-stream"))
    if b"content-length" in asked:
        headers.append((b"content-length", asked[b"content-length"]))
    started = False
    while (part := await receive())["type"] == "http.request":
        if not started:
            await _start(send, headers)
            started = True
        body, more = part.get("body", b""), part.get("more_body", False)
        stats.echoed += len(body)
        await send({"type": "http.response.body", "body": body, "more_body": more})
        if not more:
            return


async def _sse(scope: Scope, receive: Receive, send: Send) -> None:
    """``GET /sse``: one event a second until the client leaves or the server stops."""
    await _start(send, _headers(b"text/event-stream", (b"x-accel-buffering", b"no")))
    if scope["method"] == "HEAD":
        return await send({"type": "http.response.body"})
    last = dict(scope["headers"]).get(b"last-event-id", b"")
    number = int(last) if last.isdigit() and len(last) < 16 else 0
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await _chunk(send, "retry: 1000\n\n")
        while not gone.done():
            number += 1
            await _chunk(send, _event(number))
            await asyncio.wait({gone}, timeout=_SSE_INTERVAL)
        await send({"type": "http.response.body"})
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


def _event(number: int) -> str:
    """One Server-Sent Event; its id lets a client go on counting at the next worker."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    data = json.dumps({"id": number, "time": now, "pid": os.getpid()})
    return f"id: {number}\ndata: {data}\n\n"


async def _chunk(send: Send, text: str) -> None:
    """Send one part of a stream which goes on."""
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _disconnected(receive: Receive) -> None:
    """Return when the client has gone, passing over what is left of the request."""
    while (await receive())["type"] != "http.disconnect":
        pass


_ROUTES: dict[str, tuple[str, Handler]] = {
    "/": ("GET, HEAD", _page),
    "/api/hello": ("GET, HEAD", _hello),
    "/api/echo": ("POST", _echo),
    "/sse": ("GET, HEAD", _sse),
    "/healthz": ("GET, HEAD", _healthz),
}


async def _http(scope: Scope, receive: Receive, send: Send) -> None:
    """Find the handler of a request: 404 for an unknown path, 405 for another method."""
    _stats(scope).requests += 1
    methods, handler = _ROUTES.get(_path(scope), ("", None))
    if handler is None:
        await _answer(scope, send, b"Not Found", _TEXT, status=404)
    elif scope["method"] not in methods.split(", "):
        allow = (b"allow", methods.encode())
        await _answer(scope, send, b"Method Not Allowed", _TEXT, allow, status=405)
    else:
        await handler(scope, receive, send)


async def _websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """``/ws``: say which worker this is, then send every message back as it came."""
    if (await receive())["type"] != "websocket.connect":
        return
    if _path(scope) != "/ws":
        return await send({"type": "websocket.close"})
    chosen = "echo" if "echo" in scope.get("subprotocols", ()) else None
    await send({"type": "websocket.accept", "subprotocol": chosen})
    hello = json.dumps({"pid": os.getpid(), "subprotocol": chosen})
    await send({"type": "websocket.send", "text": hello})
    while (message := await receive())["type"] == "websocket.receive":
        kind = "bytes" if message.get("text") is None else "text"
        await send({"type": "websocket.send", kind: message[kind]})


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep the start time in the state at startup; there is nothing to undo at shutdown."""
    while (await receive())["type"] == "lifespan.startup":
        if scope.get("state") is not None:
            scope["state"]["demo"] = _Stats()
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


_SCOPES: dict[str, Handler] = {"http": _http, "websocket": _websocket, "lifespan": _lifespan}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The demo's ASGI 3 application; it refuses a scope type it does not know, as ASGI asks."""
    if scope["type"] not in _SCOPES:
        raise ValueError(f"the demo does not serve {scope['type']!r}")
    with suppress(OSError):  # what send() raises once the client has gone: nobody is left to tell
        await _SCOPES[scope["type"]](scope, receive, send)
