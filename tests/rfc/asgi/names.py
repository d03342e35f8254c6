"""Every type of scope and message of ASGI, and every key of them: written down, not derived.

ASGI 3.0, HTTP & WebSocket message format 2.5, Lifespan 2.0, TLS extension 0.2, and the common
extensions. A new version of one of them is compared with this list.
"""

from __future__ import annotations

__all__ = ["EXTENSIONS", "MESSAGES", "NAMES", "NOT_OFFERED", "SCOPES"]

# "asgi.version" is a key of the dict that is the value of "asgi".
_ASGI = ("type", "asgi", "asgi.version", "asgi.spec_version")
_REQUEST = (
    *("http_version", "scheme", "path", "raw_path", "query_string", "root_path", "headers"),
    *("client", "server", "state", "extensions"),
)
SCOPES: dict[str, tuple[str, ...]] = {
    "http scope": (*_ASGI, *_REQUEST, "method"),
    "websocket scope": (*_ASGI, *_REQUEST, "subprotocols"),
    "lifespan scope": (*_ASGI, "state"),
}

MESSAGES: dict[str, tuple[str, ...]] = {
    "http.request": ("type", "body", "more_body"),
    "http.disconnect": ("type",),
    "http.response.start": ("type", "status", "headers", "trailers"),
    "http.response.body": ("type", "body", "more_body"),
    "websocket.connect": ("type",),
    "websocket.accept": ("type", "subprotocol", "headers"),
    "websocket.receive": ("type", "bytes", "text"),
    "websocket.send": ("type", "bytes", "text"),
    "websocket.disconnect": ("type", "code", "reason"),
    "websocket.close": ("type", "code", "reason"),
    "lifespan.startup": ("type",),
    "lifespan.startup.complete": ("type",),
    "lifespan.startup.failed": ("type", "message"),
    "lifespan.shutdown": ("type",),
    "lifespan.shutdown.complete": ("type",),
    "lifespan.shutdown.failed": ("type", "message"),
    # Extensions
    "websocket.http.response.start": ("type", "status", "headers"),
    "websocket.http.response.body": ("type", "body", "more_body"),
    "http.response.zerocopysend": ("type", "file", "offset", "count", "more_body"),
    "http.response.pathsend": ("type", "path"),
    "http.response.early_hint": ("type", "links"),
    "http.response.trailers": ("type", "headers", "more_trailers"),
}

# In scope["extensions"]; of "tls", the keys of its dict.
EXTENSIONS: dict[str, tuple[str, ...]] = {
    "websocket.http.response": (),
    "http.response.zerocopysend": (),
    "http.response.pathsend": (),
    "http.response.early_hint": (),
    "http.response.trailers": (),
    "tls": (
        *("server_cert", "client_cert_chain", "client_cert_name", "client_cert_error"),
        *("tls_version", "cipher_suite"),
    ),
}

# HTTP/2 only, and for tests of frameworks only ("servers should not implement it").
NOT_OFFERED: dict[str, tuple[str, ...]] = {
    "http.response.push": ("type", "path", "headers"),
    "http.response.debug": ("type", "info"),
}

# As the rules say what they cover: "http.request: body", "tls extension: tls_version".
NAMES = frozenset(
    f"{kind}: {key}"
    for table in (SCOPES, MESSAGES, NOT_OFFERED)
    for kind, keys in table.items()
    for key in keys
) | frozenset(
    f"{name} extension" + (f": {key}" if key else "")
    for name, keys in (EXTENSIONS | dict.fromkeys(NOT_OFFERED, ())).items()
    for key in ("", *keys)
)
