"""Request heads to ASGI scopes (ASGI HTTP & WebSocket message format 2.5, "Connection Scope")."""

from __future__ import annotations

from typing import Any

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy, drop_or_refuse, origin
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import RequestIds, taken
from gunicorn_asgi.protocol.peer import Peer, address_of
from gunicorn_asgi.protocol.target import decode_path, split_target

__all__ = ["Peer", "Scopes"]

Headers = list[tuple[bytes, bytes]]


def _path(path: str, root_path: str) -> str:
    if path not in ("*", root_path) and not path.startswith(root_path + "/"):
        # `path` includes root_path, whether or not the proxy in front has stripped it.
        path = root_path + path
    return path


def _with_host(headers: Headers, host: bytes) -> Headers:
    """``headers`` with another Host, in its place, or in front if there was none."""
    if any(name == b"host" for name, _ in headers):
        return [(name, host if name == b"host" else value) for name, value in headers]
    return [(b"host", host), *headers]


class Scopes:
    """Makes the scopes of one worker.

    Args:
        policy: what is believed of whom.
        root_path: where the application is mounted, if no trusted proxy says otherwise: what
            one says (X-Forwarded-Prefix, SCRIPT_NAME) replaces it, and is not put behind it.
            Gunicorn's ``root_path``, without a slash at its end.
        request_ids: where ids come from; None, or a policy without a field for them, for no ids.
    """

    __slots__ = ("_believed", "_ids", "_policy", "_root_path")

    def __init__(
        self,
        policy: ForwardedPolicy,
        root_path: str = "",
        request_ids: RequestIds | None = None,
    ) -> None:
        self._policy = policy
        self._believed = policy.believed
        self._root_path = root_path
        self._ids = request_ids if policy.request_id_field else None

    def http(self, head: RequestHead, peer: Peer, state: dict[str, Any] | None) -> dict[str, Any]:
        """The scope of an HTTP request.

        Sets ``head.request_id``, and takes out of ``head.headers`` what nobody may see.

        ``state`` is copied (shallowly), None leaves it out. Nothing that can be changed is
        shared between two scopes.

        Raises:
            RemoteProtocolError: 400 for a target of no known form, a field with "_" in its name
                if those are refused, or nonsense from a trusted proxy; 421 for an https URI on a
                connection that is neither encrypted nor that of a trusted proxy who says https.
        """
        # Written out: a comprehension over the names would cost three times as much.
        extensions: dict[str, dict[str, Any]] = {
            "http.response.early_hint": {},
            "http.response.pathsend": {},
            "http.response.trailers": {},
            "http.response.zerocopysend": {},
        }
        return self._scope(head, peer, state, extensions)

    def websocket(
        self,
        head: RequestHead,
        peer: Peer,
        subprotocols: list[str],
        state: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """The scope of a WebSocket connection; see ``http``."""
        scope = self._scope(head, peer, state, {"websocket.http.response": {}})
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = subprotocols
        return scope

    def _scope(
        self,
        head: RequestHead,
        peer: Peer,
        state: dict[str, Any] | None,
        extensions: dict[str, dict[str, Any]],
    ) -> dict[str, Any]:
        client, server, secure, trusted, more, head.address = peer
        believed = trusted and head.told
        # First of all, so that a refusal has an id too.
        if self._ids is not None:
            given = taken(head, self._policy) if believed else None
            head.request_id = request_id = self._ids.make() if given is None else given
            extensions["gunicorn_asgi.request"] = {"id": request_id}
        if more:
            for name, values in more.items():
                extensions[name] = values.copy()
        host, https = None, False
        if head.line is not None:
            _, _, raw_path, query, path, _ = head.line
        else:
            raw_path, query, host, https = split_target(head.target, head.method)
            path = decode_path(raw_path)
        root_path = self._root_path
        if believed and self._is_told(head):
            told = origin(head, peer, self._policy, host)
            if told.client is not client:
                client = told.client
                head.address = address_of(client)
            secure = secure if told.secure is None else told.secure
            host = host if told.host is None else told.host
            root_path = root_path if told.root_path is None else told.root_path
        if https and not secure:
            # RFC 9110 7.4: MUST, "unless the connection is from a trusted gateway"; and that has
            # to say so, since not every gateway looks at the target that it passes on.
            raise RemoteProtocolError("https URI on a connection without TLS", 421)
        if head.underscores:
            # For everybody: hooks and the access log confuse these names as CGI does.
            head.headers = drop_or_refuse(head.headers, self._policy, trusted)
        # RFC 9112 3.2.2: the authority of the target, not the Host field
        headers = head.headers.copy() if host is None else _with_host(head.headers, host)
        scope: dict[str, Any] = {
            "type": "http",
            # 2.4 asks for an OSError out of send() after a disconnect, 2.5 for a reason in
            # websocket.disconnect; aio/cycle.py and aio/websocket.py do both.
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": head.version,
            "method": head.method,
            "scheme": "https" if secure else "http",
            "path": _path(path, root_path) if root_path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": root_path,
            "headers": headers,
            "client": client,
            "server": server,
            "extensions": extensions,
        }
        if state is not None:
            scope["state"] = state.copy()
        return scope

    def _is_told(self, head: RequestHead) -> bool:
        believed = self._believed
        for name, _ in head.noted:  # any() would cost three times as much
            if name in believed:
                return True
        return False
