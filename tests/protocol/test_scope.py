"""protocol/scope.py: request heads to ASGI scopes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.h1 import RequestHead
from gunicorn_asgi.protocol.scope import Peer, http_scope, split_target, websocket_scope

__all__: list[str] = []

TCP = Peer(("192.0.2.1", 50000), ("192.0.2.2", 80), tls=False)
TLS = Peer(("2001:db8::1", 50000), ("2001:db8::2", 443), tls=True)
UNIX = Peer(None, ("/run/app.sock", None), tls=False)


def request(target: bytes = b"/", method: str = "GET", version: str = "1.1") -> RequestHead:
    """A request for ``target``."""
    return RequestHead(method, target, version, [(b"host", b"h"), (b"a", b"b")], True)


def test_an_http_scope_has_exactly_its_keys() -> None:
    """ASGI 3.0, HTTP connection scope 2.5."""
    head = request(b"/p%20q?a=%20&b", "POST", "1.0")
    assert http_scope(head, TCP) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.0",
        "method": "POST",
        "scheme": "http",
        "path": "/p q",
        "raw_path": b"/p%20q",
        "query_string": b"a=%20&b",
        "root_path": "",
        "headers": [(b"host", b"h"), (b"a", b"b")],
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 80),
        "extensions": {},
    }


def test_a_websocket_scope_has_exactly_its_keys() -> None:
    """ASGI 3.0, WebSocket connection scope 2.5: no method, and subprotocols."""
    assert websocket_scope(request(b"/p?q"), TCP, ["chat", "x"], "/m", {"k": 1}) == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/m/p",
        "raw_path": b"/p",
        "query_string": b"q",
        "root_path": "/m",
        "headers": [(b"host", b"h"), (b"a", b"b")],
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 80),
        "subprotocols": ["chat", "x"],
        "state": {"k": 1},
        "extensions": {"websocket.http.response": {}},
    }


@pytest.mark.parametrize(
    ("peer", "http", "ws", "client", "server"),
    [
        (TCP, "http", "ws", ("192.0.2.1", 50000), ("192.0.2.2", 80)),
        (TLS, "https", "wss", ("2001:db8::1", 50000), ("2001:db8::2", 443)),
        (UNIX, "http", "ws", None, ("/run/app.sock", None)),
        (Peer(None, None, tls=False), "http", "ws", None, None),
    ],
)
def test_the_ends_of_the_connection(
    peer: Peer, http: str, ws: str, client: object, server: object
) -> None:
    """ASGI 2.2: a unix socket has a path and None; an unknown end is None."""
    for scope, scheme in (
        (http_scope(request(), peer), http),
        (websocket_scope(request(), peer, []), ws),
    ):
        assert scope["scheme"] == scheme
        assert scope["client"] == client
        assert scope["server"] == server


# -- targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        # RFC 9112 3.2.1, origin-form.
        (b"/", b"/", b""),
        (b"/a/b", b"/a/b", b""),
        (b"//a//b/", b"//a//b/", b""),
        (b"/a?b", b"/a", b"b"),
        (b"/a?b?c=d", b"/a", b"b?c=d"),
        (b"/?", b"/", b""),
        (b"/http://h/p", b"/http://h/p", b""),
        (b"/a%3Fb?c", b"/a%3Fb", b"c"),
        # A fragment is not the server's to see (RFC 9110 7.1).
        (b"/a#b", b"/a", b""),
        (b"/a?b#c?d", b"/a", b"b"),
        (b"/a#b?c", b"/a", b""),
        # RFC 9112 3.2.2, absolute-form.
        (b"http://h/p?q", b"/p", b"q"),
        (b"HTTPS://h:443/p/", b"/p/", b""),
        (b"ws://h/p", b"/p", b""),
        (b"wss://u@h/p", b"/p", b""),
        (b"http://h", b"/", b""),
        (b"http://h?q", b"/", b"q"),
        (b"http://h?q=/x", b"/", b"q=/x"),
        (b"http://h#f/x", b"/", b""),
        (b"http://[::1]:80/p://x", b"/p://x", b""),
        # RFC 9112 3.2.4, asterisk-form.
        (b"*", b"*", b""),
    ],
)
def test_a_target_has_a_path_and_a_query(target: bytes, path: bytes, query: bytes) -> None:
    """Both as received; the authority is the Host field's matter."""
    assert split_target(target) == (path, query)
    scope = http_scope(request(target), TCP)
    assert scope["raw_path"] == path
    assert scope["query_string"] == query


@pytest.mark.parametrize(
    "target", [b"", b"a", b"a/b", b"?a", b"#", b"**", b"ftp://h/p", b"h:443", b"://h/p", b"http:/p"]
)
def test_a_target_of_no_form_is_refused(target: bytes) -> None:
    """RFC 9112 3.2: 400."""
    with pytest.raises(RemoteProtocolError) as caught:
        http_scope(request(target), TCP)
    assert caught.value.status_hint == 400
    with pytest.raises(RemoteProtocolError) as caught:
        websocket_scope(request(target), TCP, [])
    assert caught.value.status_hint == 400


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/a%20b", "/a b"),
        (b"/a+b", "/a+b"),
        (b"/%2F%2f", "///"),
        (b"/%25%32%30", "/%20"),  # decoded once
        (b"/%C3%A9", "/é"),
        (b"/%e2%82%ac", "/€"),
        (b"/%F0%9F%98%80", "/😀"),
        (b"/%00", "/\0"),
        (b"/a%", "/a%"),
        (b"/a%4", "/a%4"),
        (b"/%zz", "/%zz"),
        (b"/..%2F..", "/../.."),
        # Invalid UTF-8 is left open by ASGI: U+FFFD, as every server does it.
        (b"/%ff", "/\ufffd"),
        (b"/%C3/x", "/\ufffd/x"),
        (b"/%ED%A0%80", "/\ufffd\ufffd\ufffd"),  # a surrogate
        (b"/\xff", "/\ufffd"),
        (b"/\xc3\xa9", "/é"),
    ],
)
def test_a_path_is_decoded_and_raw_path_is_not(raw: bytes, path: str) -> None:
    """ASGI: percent-encoding, then UTF-8."""
    scope = http_scope(request(raw), TCP)
    assert scope["path"] == path
    assert scope["raw_path"] == raw


# -- root_path -----------------------------------------------------------------------------------


def test_the_asterisk_is_no_path() -> None:
    """RFC 9112 3.2.4: it means the server as a whole, below no mount point."""
    assert http_scope(request(b"*"), TCP, "/api")["path"] == "*"


@pytest.mark.parametrize(
    ("root", "target", "path"),
    [
        ("", b"/x", "/x"),
        ("/api", b"/x", "/api/x"),  # the proxy in front has stripped it
        ("/api", b"/api/x", "/api/x"),  # it has not
        ("/api", b"/api", "/api"),
        ("/api", b"/api/", "/api/"),
        ("/api", b"/", "/api/"),
        ("/api", b"/%61pi/x", "/api/x"),
        ("/api", b"/apix", "/api/apix"),  # begins with the same letters, lies elsewhere
        ("/a/b", b"/a/x", "/a/b/a/x"),
        ("/é", b"/%C3%A9/x", "/é/x"),
    ],
)
def test_a_path_always_begins_with_root_path(root: str, target: bytes, path: str) -> None:
    """ASGI: stripping root_path from path gives PATH_INFO; raw_path is as received."""
    for scope in (
        http_scope(request(target), TCP, root),
        websocket_scope(request(target), TCP, [], root),
    ):
        assert scope["root_path"] == root
        assert scope["path"] == path
        assert scope["raw_path"] == target
        info = path.removeprefix(root)
        assert info == "" or info.startswith("/")


# -- nothing is shared ---------------------------------------------------------------------------


def both(state: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A scope of either kind."""
    return [http_scope(request(), TCP, "", state), websocket_scope(request(), TCP, [], "", state)]


def test_state_is_a_shallow_copy() -> None:
    """ASGI lifespan 2.0: what is added is the request's, what is changed everybody's."""
    shared: list[int] = []
    state: dict[str, Any] = {"pool": shared}
    for scope in both(state):
        assert scope["state"] is not state
        assert scope["state"]["pool"] is shared
        scope["state"]["mine"] = 1
    assert state == {"pool": shared}


def test_no_state_is_no_key() -> None:
    """ASGI lifespan 2.0: without the key, state is not supported; with it, it is."""
    for scope in both(None):
        assert "state" not in scope
    for scope in both({}):
        assert scope["state"] == {}


def test_scopes_share_nothing_that_can_be_changed() -> None:
    """ASGI: middleware changes scopes, and the next request must not see it."""
    before = both(None)
    untouched = copy.deepcopy(before)
    for first in before:
        first["asgi"]["version"] = "0"
        first["extensions"]["mine"] = {}
        first["headers"].append((b"x", b"y"))
        first["path"] = "/elsewhere"
    assert both(None) == untouched
