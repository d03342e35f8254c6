"""Request heads to ASGI scopes (ASGI HTTP & WebSocket message format 2.5, "Connection Scope")."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.h1 import RequestHead

__all__ = ["Peer", "http_scope", "split_target", "websocket_scope"]

# 2.4 asks for an OSError out of send() after a disconnect, 2.5 for a reason in
# websocket.disconnect; aio/cycle.py and aio/websocket.py do both.
_VERSIONS = {"version": "3.0", "spec_version": "2.5"}


class Peer(NamedTuple):
    """The two ends of a connection.

    Attributes:
        client: address and port of the peer, None on a unix socket.
        server: address and port of our end, or the socket's path and None.
        tls: whether the connection is encrypted.
    """

    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    tls: bool


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target (RFC 9112 section 3.2).

    Origin-form and asterisk-form are taken as they are; of the absolute-form only path and
    query count, the authority is the Host field's matter (RFC 9112 section 3.2.2).

    Raises:
        RemoteProtocolError: none of these forms.
    """
    path, _, query = target.partition(b"#")[0].partition(b"?")
    if path[:1] == b"/" or path == b"*":
        return path, query
    scheme, separator, rest = path.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https", b"ws", b"wss"):
        raise RemoteProtocolError("request target has no known form")
    slash = rest.find(b"/")
    return (rest[slash:] if slash >= 0 else b"/"), query


def _decode(raw_path: bytes) -> str:
    if b"%" in raw_path:
        raw_path = unquote_to_bytes(raw_path)
    # Invalid UTF-8 is left open by the specification; every server replaces it by U+FFFD.
    return raw_path.decode("utf-8", "replace")


def _scope(
    head: RequestHead, peer: Peer, root_path: str, state: dict[str, Any] | None
) -> dict[str, Any]:
    raw_path, query = split_target(head.target)
    path = _decode(raw_path)
    if root_path and path not in ("*", root_path) and not path.startswith(root_path + "/"):
        # `path` includes root_path, whether or not the proxy in front has stripped it.
        path = root_path + path
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": _VERSIONS.copy(),
        "http_version": head.version,
        "method": head.method,
        "scheme": "https" if peer.tls else "http",
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": root_path,
        "headers": head.headers,
        "client": peer.client,
        "server": peer.server,
        "extensions": {},
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


def http_scope(
    head: RequestHead, peer: Peer, root_path: str = "", state: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The scope of an HTTP request; ``state`` is copied (shallowly), None leaves it out.

    Raises:
        RemoteProtocolError: the target has no known form.
    """
    return _scope(head, peer, root_path, state)


def websocket_scope(
    head: RequestHead,
    peer: Peer,
    subprotocols: list[str],
    root_path: str = "",
    state: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The scope of a WebSocket connection; see ``http_scope``."""
    scope = _scope(head, peer, root_path, state)
    del scope["method"]
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if peer.tls else "ws"
    scope["subprotocols"] = subprotocols
    scope["extensions"] = {"websocket.http.response": {}}
    return scope
