"""What may never happen to a value: what is believed, what is written, what an application gets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from fuzz.oracles import allowed, clean
from gunicorn_asgi.protocol.authority import is_authority, split_authority
from gunicorn_asgi.protocol.errors import LocalProtocolError, RemoteProtocolError
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import RequestIds
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.peer import Networks, Peer
from gunicorn_asgi.protocol.response import ResponseEncoder, early_hints
from gunicorn_asgi.protocol.rfc7239 import parse_forwarded
from gunicorn_asgi.protocol.scope import Scopes
from gunicorn_asgi.protocol.websocket import WebSocketConnection
from kit.rig import parse_responses
from protocol.streams import Stream

__all__ = ["check_authority", "check_forwarded", "check_response", "check_scope"]

# -- authority and Forwarded -----------------------------------------------------------------------


def check_authority(data: bytes, _: Sequence[int] = ()) -> None:
    """What passes as a Host cannot move the path of a URL that is built from it."""
    good = is_authority(data)
    assert is_authority(data) == good
    try:
        host, port = split_authority(data)
    except RemoteProtocolError:
        assert not good
        return
    assert good
    assert host
    assert port is None or 0 <= port <= 65535
    assert not set(data) & set(b'/?#@\\ \t\r\n\0"<>')
    url = urlsplit(b"http://%b/path?query" % data)
    assert (url.path, url.query, url.fragment, url.username) == (b"/path", b"query", b"", None)
    assert url.port == port
    told = url.hostname
    assert told is not None
    assert told.lower() == host.strip(b"[]").lower()


def check_forwarded(data: bytes, _: Sequence[int] = ()) -> None:
    """RFC 7239: what was understood means the same when it is written down again."""
    lines = [line for line in data.split(b"\n") if not set(line) & set(b"\r\0")]
    try:
        elements = parse_forwarded(lines)
    except RemoteProtocolError as exc:
        clean(exc, 400, 431)
        return
    assert all(elements)
    assert sum(len(name) + len(value) for each in elements for name, value in each.items()) <= len(
        data
    )
    again = ", ".join(
        ";".join(f"{name}={_quoted(value)}" for name, value in each.items()) for each in elements
    ).encode("latin-1")
    if len(again) <= 16 * 1024:
        assert parse_forwarded([again]) == elements


def _quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


# -- scopes ----------------------------------------------------------------------------------------

CLIENT = ("192.0.2.1", 50000)
STRANGER = Peer(CLIENT, ("192.0.2.2", 80), False)
PROXY = STRANGER._replace(trusted=True)
UNIX = Peer(None, ("/run/kit.sock", None), False, True)
_PROXIES = Networks.parse(["192.0.2.0/24", "10.0.0.0/8", "fd00::/8"])
PLAIN = ForwardedPolicy(_PROXIES)
EVERY = ("x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix")
POLICIES = (
    PLAIN,
    replace(PLAIN, fields=frozenset(name.encode() for name in EVERY), header_map="refuse"),
    replace(
        PLAIN,
        fields=frozenset({b"forwarded", b"x-forwarded-prefix"}),
        header_map="dangerous",
        forwarder_headers=frozenset({b"*"}),
    ),
    replace(PLAIN, peers=Networks.parse(["*"]), request_id_field=b""),
)
PREFIX = "/mount"


def check_scope(data: bytes, _: Sequence[int] = ()) -> None:
    """A scope of any request: made of what it may be made of, and strangers have no say in it."""
    for policy in POLICIES:
        stream = Stream()
        stream.parser._known.to_note |= policy.noted
        stream.feed(data)
        for head in stream.sink.heads:
            if head.websocket:
                _check_handshake(head)
            for peer in (STRANGER, PROXY, UNIX):
                _check_scopes(policy, head, peer)


def _check_handshake(head: RequestHead) -> None:
    socket = WebSocketConnection(head, Limits())
    try:
        offered = socket.handshake()
    except RemoteProtocolError as exc:
        clean(exc, 400, 405, 426)
        return
    assert all(type(each) is str for each in offered)
    socket.accept(offered[0] if offered else None, [])


def _check_scopes(policy: ForwardedPolicy, head: RequestHead, peer: Peer) -> None:
    scopes = Scopes(policy, PREFIX, RequestIds("0" * 16))
    before = list(head.headers)
    try:
        # Each takes out of its head what nobody may see.
        scope = scopes.http(copy(head), peer, {"a": 1})
        socket = scopes.websocket(copy(head), peer, [], None)
    except RemoteProtocolError as exc:
        clean(exc, 400, 421, 431)
        return
    finally:
        assert head.headers == before
    assert socket["scheme"] == {"http": "ws", "https": "wss"}[scope["scheme"]]
    assert all(socket[key] == scope[key] for key in ("path", "headers", "client", "root_path"))
    _check_values(scope)
    if not peer.trusted:
        assert (scope["client"], scope["scheme"]) == (CLIENT, "http")
        assert scope["root_path"] == PREFIX
        if head.target[:1] not in (b"/", b"*"):
            # RFC 9112 3.2.2: the authority of the target takes the place of the Host field.
            authority = re.split(rb"[/?]", head.target.partition(b"://")[2])[0]
            assert [value for name, value in scope["headers"] if name == b"host"] == [authority]
        if policy.header_map != "dangerous":
            assert not [name for name, _ in scope["headers"] if b"_" in name]


def _check_values(scope: dict[str, Any]) -> None:
    assert allowed({key: value for key, value in scope.items() if key != "state"})
    path, root_path = scope["path"], scope["root_path"]
    assert path == "*" or path.startswith(root_path)
    assert not root_path.endswith("/")
    assert not root_path.startswith("//")
    assert not set(root_path) & set("\\\r\n\0")
    assert scope["raw_path"][:1] in (b"/", b"*")
    assert b"?" not in scope["raw_path"]
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    assert all(map(is_authority, hosts))
    assert len(hosts) <= 1
    if scope["client"] is not None:
        host, port = scope["client"]
        assert Networks.parse(["0.0.0.0/0", "::/0"]).trusts(host)
        assert 0 <= port <= 65535
    ident = scope["extensions"].get("gunicorn_asgi.request", {"id": "none"})["id"]
    assert re.fullmatch(r"[A-Za-z0-9._:+/=@-]{1,128}", ident)


# -- responses -------------------------------------------------------------------------------------

# Added by the server, or decided by it.
_OWN = {b"date", b"server", b"connection", b"content-length", b"transfer-encoding"}
_DROPPED = {b"keep-alive", b"proxy-connection"}


def check_response(data: bytes, _: Sequence[int] = ()) -> None:
    """What an application sends is refused, or is one response with exactly these fields.

    ``data`` is JSON: "request" (method, version and whether trailers are taken), "status",
    "headers", "body" (a list of pieces), "trailers", "links"; text stands for bytes.
    """
    told = _told(data)
    if told is None:
        return
    method, version, taking = told["request"]
    headers, trailers = _pairs(told.get("headers")), _pairs(told.get("trailers"))
    links: bytes = b""
    try:
        if "links" in told:
            links = early_hints([_bytes(each) for each in told["links"]])
        encoder = ResponseEncoder(method, version, told.get("status", 200), headers)
        if trailers:
            encoder.announce_trailers(taking)
        sent = _sent(encoder, [_bytes(each) for each in told["body"]], trailers)
    except LocalProtocolError:
        return
    _check_hints(links, told)
    (response,) = parse_responses(sent, method)
    assert response.status == told.get("status", 200)
    assert response.version == version
    kept = [(name.lower(), value.strip(b" \t")) for name, value in headers]
    kept = [pair for pair in kept if pair[0] not in _DROPPED | _OWN]
    assert [pair for pair in response.headers if pair[0] not in _OWN] == kept
    if response.framing != "none" and response.status != 205:
        assert response.body == b"".join(_bytes(each) for each in told["body"])


def _told(data: bytes) -> dict[str, Any] | None:
    """The input, if it has this form."""
    try:
        told = json.loads(data)
        told.setdefault("request", ["GET", "1.1", False])
        method, version, taking = told["request"]
        lists = [told.setdefault("body", [""]), told.get("links", [])]
    except (ValueError, TypeError, AttributeError):
        return None
    fits = isinstance(method, str) and version in ("1.0", "1.1") and isinstance(taking, bool)
    fits = fits and all(isinstance(each, list) and each != [] for each in lists[:1])
    return told if fits and isinstance(lists[1], list) else None


def _check_hints(links: bytes, told: dict[str, Any]) -> None:
    if links:
        (hint,) = parse_responses(links)
        assert hint.status == 103
        assert hint.all("link") == [_bytes(each).strip(b" \t") for each in told["links"]]


def _sent(
    encoder: ResponseEncoder, body: list[bytes], trailers: list[tuple[bytes, bytes]]
) -> bytes:
    whole = sum(map(len, body)) if len(body) == 1 else None
    sent = encoder.head(b"date: now\r\n", whole, keep_alive=True)
    for number, piece in enumerate(body, 1):
        sent += encoder.body(piece, number == len(body))
    if encoder.announced:
        written = encoder.trailers(trailers, True)
        assert not written or sent.endswith(b"0\r\n")
        # The kit's parser knows no trailers; they are lines of their own, up to the last one.
        lines = written.split(b"\r\n")[:-2] if written else []
        assert lines == [b"%b: %b" % pair for pair in trailers[: len(lines)]]
        assert not written or len(lines) == len(trailers)
        sent += b"\r\n" if written else b""
    return sent


def _pairs(told: object) -> list[tuple[bytes, bytes]]:
    if not isinstance(told, list):
        return []
    return [
        (_bytes(pair[0]), _bytes(pair[1]))
        for pair in told
        if isinstance(pair, list) and len(pair) == 2
    ]


def _bytes(told: object) -> bytes:
    """Text stands for bytes; whatever is no such text is left out of the input."""
    return str(told).encode("latin-1", "replace")
