"""protocol/scope.py: request heads to ASGI scopes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_asgi.protocol.authority import is_authority
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import RequestIds
from gunicorn_asgi.protocol.scope import Peer, Scopes
from gunicorn_asgi.protocol.target import split_target
from protocol.fuzz import FUZZ, VALUES, glued

__all__: list[str] = []

TCP = Peer(("192.0.2.1", 50000), ("192.0.2.2", 80), tls=False)
TLS = Peer(("2001:db8::1", 50000), ("2001:db8::2", 443), tls=True)
UNIX = Peer(None, ("/run/app.sock", None), tls=False)

# What an HTTP response can do here, beyond the core.
OFFERED: dict[str, dict[str, Any]] = {
    f"http.response.{name}": {} for name in ("early_hint", "pathsend", "trailers", "zerocopysend")
}
PLAIN = ForwardedPolicy(request_id_field=b"")


def http_scope(
    head: RequestHead, peer: Peer, root_path: str = "", state: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The scope of an HTTP request, with nothing that is not asked for here."""
    return Scopes(PLAIN, root_path).http(head, peer, state)


def websocket_scope(
    head: RequestHead,
    peer: Peer,
    subprotocols: list[str],
    root_path: str = "",
    state: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The same of a WebSocket connection."""
    return Scopes(PLAIN, root_path).websocket(head, peer, subprotocols, state)


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
        "extensions": OFFERED,
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
        (b"/*", b"/*", b""),
        (b"/a%3Fb?c", b"/a%3Fb", b"c"),
        (b"/a%23b?c%23", b"/a%23b", b"c%23"),
    ],
)
def test_a_target_has_a_path_and_a_query(target: bytes, path: bytes, query: bytes) -> None:
    """Both as received."""
    assert split_target(target, "GET") == (path, query, None, False)
    scope = http_scope(request(target), TCP)
    assert scope["raw_path"] == path
    assert scope["query_string"] == query


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://h/p?q", (b"/p", b"q", b"h", False)),
        (b"HTTPS://h:443/p/", (b"/p/", b"", b"h:443", True)),
        (b"hTTp://H:80/p", (b"/p", b"", b"H:80", False)),
        (b"http://h", (b"/", b"", b"h", False)),
        (b"http://h?q", (b"/", b"q", b"h", False)),
        (b"http://h?q=/x", (b"/", b"q=/x", b"h", False)),
        (b"http://h?q://x", (b"/", b"q://x", b"h", False)),
        (b"http://h//p", (b"//p", b"", b"h", False)),
        (b"http://[::1]:80/p://x", (b"/p://x", b"", b"[::1]:80", False)),
    ],
)
def test_an_absolute_target_has_an_authority_too(
    target: bytes, expected: tuple[object, ...]
) -> None:
    """RFC 9112 3.2.2: a server MUST accept it."""
    assert split_target(target, "GET") == expected
    scope = http_scope(request(target), TCP._replace(tls=True))
    assert (scope["raw_path"], scope["query_string"]) == expected[:2]


@pytest.mark.parametrize(
    "fields", [[], [(b"host", b"other")], [(b"host", b"other:1"), (b"b", b"")]]
)
def test_the_authority_of_the_target_takes_the_place_of_host(
    fields: list[tuple[bytes, bytes]],
) -> None:
    """RFC 9112 3.2.2: "MUST ignore the received Host header field (if any)"."""
    head = RequestHead("GET", b"http://h:81/p", "1.0", [(b"a", b"b"), *fields], True)
    for scope in (http_scope(head, TCP), websocket_scope(head, TCP, [])):
        assert [pair for pair in scope["headers"] if pair[0] == b"host"] == [(b"host", b"h:81")]
        assert len(scope["headers"]) == max(2, len(fields) + 1)
        assert scope["headers"][0] == ((b"a", b"b") if fields else (b"host", b"h:81"))
    assert head.headers == [(b"a", b"b"), *fields]  # which is what was received


def test_the_asterisk_is_for_options() -> None:
    """RFC 9112 3.2.4: "only used for a server-wide OPTIONS request"; it lies below no mount."""
    assert split_target(b"*", "OPTIONS") == (b"*", b"", None, False)
    scope = http_scope(request(b"*", "OPTIONS"), TCP, "/api")
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == ("*", b"*", "/api")
    for method in ("GET", "POST", "HEAD", "options"):
        with pytest.raises(RemoteProtocolError):
            split_target(b"*", method)


@pytest.mark.parametrize(
    "target",
    [
        *(b"", b"a", b"a/b", b"?a", b"**", b"*?a", b"*a", b"\\a", b" /"),
        # RFC 9112 3.2.3: authority-form is for CONNECT.
        *(b"h", b"h:443", b"[::1]:443"),
        # Absolute-form, but not quite.
        *(b"://h/p", b"http:/p", b"http:p", b"http//h", b"http:", b"https", b"x://h"),
        # Other schemes than a server of ours has.
        *(b"ftp://h/p", b"ws://h/p", b"wss://h/p", b"file:///p", b"httpx://h/p", b"mailto:a@b"),
        *(b"unix://h/p", b"http+unix://h/p", b"javascript://h/%0a"),
        # RFC 9110 4.2.1 and 4.2.4, RFC 3986 3.2: authorities that are none.
        *(b"http://", b"http:///p", b"http://?q", b"http://:80/p", b"http://u@h/p"),
        *(b"http://u:p@h/p", b"http://h:x/p", b"http://h:65536/", b"http://[::1/", b"http://a b/"),
        *(b"http://h\\@x/", b"http://\xe9/"),
        # RFC 9110 7.1: the fragment is not sent.
        *(b"#", b"/#", b"/a#b", b"/a?b#c", b"/a#b?c", b"http://h#f", b"http://h/p#f", b"*#"),
    ],
)
def test_a_target_of_no_form_is_refused(target: bytes) -> None:
    """RFC 9112 3.2: 400."""
    for method in ("GET", "OPTIONS"):
        with pytest.raises(RemoteProtocolError) as caught:
            split_target(target, method)
        assert caught.value.status_hint == 400
    with pytest.raises(RemoteProtocolError) as caught:
        http_scope(request(target), TCP)
    assert caught.value.status_hint == 400
    with pytest.raises(RemoteProtocolError) as caught:
        websocket_scope(request(target), TCP, [])
    assert caught.value.status_hint == 400


def test_an_https_target_needs_tls() -> None:
    """RFC 9110 7.4: 421; the other way round nothing is misunderstood."""
    head = request(b"https://h/p")
    for peer in (TCP, UNIX, TCP._replace(trusted=True)):
        with pytest.raises(RemoteProtocolError) as caught:
            http_scope(head, peer)
        assert caught.value.status_hint == 421
    assert http_scope(head, TLS)["scheme"] == "https"
    assert websocket_scope(head, TLS, [])["scheme"] == "wss"
    assert http_scope(request(b"http://h/p"), TLS)["scheme"] == "https"


TARGETS = glued(
    *(b"/", b"*", b"http://", b"https://", b"h", b":80", b"@", b"#", b"?", b"[::1]", b"%41", b"://")
)


@FUZZ
@given(TARGETS | VALUES, st.sampled_from(["GET", "OPTIONS"]))
def test_any_target_is_split_or_refused(target: bytes, method: str) -> None:
    """Nothing but RemoteProtocolError comes out, and nothing is lost."""
    try:
        path, query, authority, _ = split_target(target, method)
    except RemoteProtocolError:
        return
    assert path == b"*" or path[:1] == b"/"
    assert b"#" not in target
    assert b"?" not in path
    if authority is None:
        assert target in (path, path + b"?" + query)
    else:
        assert is_authority(authority)


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
    scopes = Scopes(ForwardedPolicy(), "", RequestIds("0" * 16))
    head = request()
    peer = TLS._replace(extensions={"tls": {"tls_version": 0x0304}})

    def both() -> list[dict[str, Any]]:
        made = [scopes.http(head, peer, None), scopes.websocket(head, peer, [], None)]
        for scope in made:
            del scope["extensions"]["gunicorn_asgi.request"]  # which is another one each time
        return made

    before = both()
    untouched = copy.deepcopy(before)
    for first in before:
        first["asgi"]["version"] = "0"
        first["headers"].append((b"x", b"y"))
        first["path"] = "/elsewhere"
        first["extensions"]["mine"] = {}
        for values in first["extensions"].values():
            values["mine"] = 1
    assert both() == untouched
    assert peer.extensions == {"tls": {"tls_version": 0x0304}}
    assert head.headers == [(b"host", b"h"), (b"a", b"b")]


# -- extensions and ids --------------------------------------------------------------------------


def test_an_http_scope_offers_what_the_server_has() -> None:
    """ASGI, extensions: the presence of the key, with an empty dict."""
    assert Scopes(PLAIN).http(request(), TCP, None)["extensions"] == OFFERED


def test_a_websocket_scope_offers_a_denial_response_only() -> None:
    """ASGI, extensions: what an HTTP response can do does not apply to it."""
    scope = Scopes(PLAIN).websocket(request(), TCP, [], None)
    assert scope["extensions"] == {"websocket.http.response": {}}


def test_what_the_connection_knows_is_in_every_scope() -> None:
    """ASGI, TLS extension; the PROXY protocol's is ours."""
    values: dict[str, dict[str, Any]] = {
        "tls": {"server_cert": None},
        "proxy_protocol": {"version": 2},
    }
    peer = TLS._replace(extensions=values)
    scopes = Scopes(PLAIN)
    assert scopes.http(request(), peer, None)["extensions"] == OFFERED | values
    found = scopes.websocket(request(), peer, [], None)["extensions"]
    assert found == {"websocket.http.response": {}, **values}


def test_every_request_has_an_id() -> None:
    """In the scope, and at the head for logs and responses."""
    scopes = Scopes(ForwardedPolicy(), request_ids=RequestIds("0123456789abcdef"))
    seen = set()
    for _ in range(3):
        heads = request(), request()
        found = [
            scopes.http(heads[0], TCP, None),
            scopes.websocket(heads[1], TCP, [], None),
        ]
        for head, scope in zip(heads, found, strict=True):
            assert scope["extensions"]["gunicorn_asgi.request"] == {"id": head.request_id}
            assert head.request_id.startswith("0123456789abcdef")
            seen.add(head.request_id)
    assert len(seen) == 6


def test_a_refused_request_has_an_id_too() -> None:
    """Its error line is the one where it is needed most."""
    head = request(b"nonsense")
    with pytest.raises(RemoteProtocolError):
        Scopes(ForwardedPolicy(), request_ids=RequestIds("0" * 16)).http(head, TCP, None)
    assert len(head.request_id) == 32


@pytest.mark.parametrize(
    ("policy", "ids"),
    [(ForwardedPolicy(), None), (PLAIN, RequestIds("0" * 16))],
    ids=["none", "off"],
)
def test_without_ids_there_are_none(policy: ForwardedPolicy, ids: RequestIds | None) -> None:
    """asgi_request_id_field = ""."""
    head = request()
    assert Scopes(policy, request_ids=ids).http(head, TCP, None)["extensions"] == OFFERED
    assert head.request_id == ""
