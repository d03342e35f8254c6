"""The application: page, JSON, events, metrics, health.

It may be mounted anywhere: what ``scope["root_path"]`` says is not part of its own paths. Health is
told to everybody, because load balancers ask from elsewhere, and one word gives nothing away; all
else only to those in ``asgi_status_allow``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from urllib.parse import quote

from gunicorn_asgi.status.access import refusal
from gunicorn_asgi.status.events import Feed, Receive, Scope, Send
from gunicorn_asgi.status.exposition import MISSING, MissingLibrary, render
from gunicorn_asgi.worker.berthed import Berthed, berthed
from gunicorn_asgi.worker.command.snapshot import as_json, snapshot

__all__ = ["Receive", "Scope", "Send", "StatusApp", "app"]

Headers = tuple[tuple[bytes, bytes], ...]

_TEXT = "text/plain; charset=utf-8"
_METHODS = ("GET", "HEAD")

# The page runs what is beside it, and asks nobody else for anything.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class _Response:
    status: int
    body: bytes
    content_type: str = _TEXT
    headers: Headers = ()


Route = Callable[[Berthed, Scope], _Response]


def _word(status: int, word: str, *headers: tuple[bytes, bytes]) -> _Response:
    return _Response(status, word.encode() + b"\n", headers=headers)


class StatusApp:
    """ASGI 3: HTTP by GET and HEAD; any WebSocket is refused, any lifespan is fine."""

    def __init__(self) -> None:
        self._feed = Feed()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            raise ValueError(f"unknown scope {scope['type']!r}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, berth = _path(scope), berthed()
        if scope["method"] not in _METHODS:
            response = _word(405, "use GET", (b"allow", ", ".join(_METHODS).encode()))
        elif path in _HEALTH:
            response = _HEALTH[path](berth)
        elif berth is None:
            response = _word(503, "no gunicorn_asgi worker runs this application")
        elif reason := refusal(scope, berth.allowed):
            response = _forbid(scope, berth, reason)
        elif path == "/events":
            await self._stream(scope, berth, receive, send)
            return
        else:
            response = _PATHS.get(path, _nothing)(berth, scope)
        await _start(send, response, (b"content-length", b"%d" % len(response.body)))
        await send({"type": "http.response.body", "body": response.body})

    async def _stream(self, scope: Scope, berth: Berthed, receive: Receive, send: Send) -> None:
        # nginx would hold the events back in a buffer.
        await _start(send, _Response(200, b"", "text/event-stream"), (b"x-accel-buffering", b"no"))
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._feed.stream(berth, receive, send)


async def _start(send: Send, response: _Response, *more: tuple[bytes, bytes]) -> None:
    headers = [
        (b"content-type", response.content_type.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *response.headers,
        *more,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _path(scope: Scope) -> str:
    """The path without where this is mounted; "" for the very place."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    # Some frameworks have taken it off already.
    return path[len(root) :] if root and (path == root or path.startswith(root + "/")) else path


# -- what is there ---------------------------------------------------------------------------------


def _is_live(_berth: Berthed | None) -> _Response:
    return _word(200, "live")  # who answers is alive


def _is_ready(berth: Berthed | None) -> _Response:
    ready = berth is not None and berth.is_ready()
    return _word(200, "ready") if ready else _word(503, "unready")


def _forbid(scope: Scope, berth: Berthed, reason: str) -> _Response:
    client = scope.get("client")
    berth.refusals.tell("Status page refused to %s: %s", client[0] if client else None, reason)
    return _word(403, "forbidden")


def _nothing(_berth: Berthed, _scope: Scope) -> _Response:
    return _word(404, "not found")


def _file(name: str, kind: str, *headers: tuple[bytes, bytes]) -> Route:
    body = (resources.files(__package__ or "") / name).read_bytes()
    response = _Response(200, body, f"text/{kind}; charset=utf-8", headers)
    return lambda _berth, _scope: response


def _to_the_page(_berth: Berthed, scope: Scope) -> _Response:
    """The page's own links need the slash. Relative: a proxy may have cut off what is before."""
    last = scope["path"].rstrip("/").rpartition("/")[2]
    return _word(307, "see below", (b"location", f"./{quote(last)}/".encode()))


def _json(berth: Berthed, _scope: Scope) -> _Response:
    return _Response(200, as_json(snapshot(berth.board)).encode(), "application/json")


def _metrics(berth: Berthed, scope: Scope) -> _Response:
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    try:
        text, content_type = render(berth.board, accept.decode("latin-1"))
    except MissingLibrary:
        return _word(501, MISSING)
    return _Response(200, text, content_type)


_HEALTH: dict[str, Callable[[Berthed | None], _Response]] = {
    "/live": _is_live,
    "/ready": _is_ready,
}
_PATHS: dict[str, Route] = {
    "": _to_the_page,
    "/": _file(
        *("page.html", "html"),
        (b"content-security-policy", _POLICY),
        (b"referrer-policy", b"no-referrer"),
    ),
    "/charts.js": _file("charts.js", "javascript"),
    "/page.css": _file("page.css", "css"),
    "/page.js": _file("page.js", "javascript"),
    "/parts.js": _file("parts.js", "javascript"),
    "/metrics": _metrics,
    "/status.json": _json,
}

app = StatusApp()
