"""protocol/scope.py: what a trusted proxy says is in the scope, what others say is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy, Networks
from gunicorn_asgi.protocol.identity import RequestIds
from gunicorn_asgi.protocol.scope import Peer, Scopes
from protocol.heads import Fields, head_of

__all__: list[str] = []

HOST, PORT, PREFIX = b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix"
POLICY = ForwardedPolicy(
    Networks.parse(["10.0.0.0/8"]), fields=frozenset({HOST, PORT, PREFIX, b"forwarded"})
)
OLDER = replace(POLICY, fields=frozenset({HOST, PORT, PREFIX}))
STRANGER = Peer(("192.0.2.1", 50000), ("192.0.2.2", 80), tls=False)
PROXY = Peer(("10.0.0.1", 50000), ("10.0.0.2", 80), tls=False, trusted=True)
UNIX = Peer(None, ("/run/app.sock", None), tls=False, trusted=True)

# Everything that a client could try.
SPOOFED = [
    (b"x-forwarded-for", b"6.6.6.6"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil"),
    (b"x-forwarded-port", b"666"),
    (b"x-forwarded-prefix", b"/evil"),
    (b"forwarded", b"for=6.6.6.6;proto=https;host=evil"),
    (b"x-request-id", b"evil"),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
]
UNDERSCORED = [
    (b"script_name", b"/evil"),
    (b"x_forwarded_for", b"6.6.6.6"),
    (b"x_forwarded_proto", b"https"),
]


def scopes_of(
    fields: Fields = (),
    peer: Peer = PROXY,
    policy: ForwardedPolicy = OLDER,
    root_path: str = "",
    **request: Any,
) -> list[dict[str, Any]]:
    """A scope of either kind."""
    scopes = Scopes(policy, root_path, request_ids=RequestIds("0" * 16))
    head = head_of(fields, policy, **request)
    return [scopes.http(head, peer, None), scopes.websocket(head, peer, [], None)]


@pytest.mark.parametrize("policy", [POLICY, OLDER], ids=["forwarded", "older"])
def test_a_stranger_can_make_nothing_up(policy: ForwardedPolicy) -> None:
    """The fields are there to be read, and that is all."""
    for scope in scopes_of([*SPOOFED, *UNDERSCORED], STRANGER, policy, "/api"):
        assert scope["client"] == STRANGER.client
        assert scope["scheme"] in ("http", "ws")
        assert (scope["root_path"], scope["path"]) == ("/api", "/api/")
        assert scope["headers"] == [(b"host", b"h"), *SPOOFED]
        assert scope["extensions"]["gunicorn_asgi.request"]["id"].startswith("0" * 16)


def test_a_strangers_nonsense_is_no_mistake() -> None:
    """Nothing of it is read, so nothing of it is refused."""
    nonsense = [(name, b"\xff/,;=") for name, _ in SPOOFED]
    contradiction = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-ssl", b"off")]
    for policy in (POLICY, OLDER):
        for scope in scopes_of([*nonsense, *contradiction], STRANGER, policy):
            assert scope["client"] == STRANGER.client


@pytest.mark.parametrize("peer", [PROXY, UNIX], ids=["tcp", "unix"])
def test_a_trusted_proxy_is_believed(peer: Peer) -> None:
    """A unix socket's no less than a listed one."""
    told = [
        (b"x-forwarded-for", b"6.6.6.6, 203.0.113.9:4711"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"example.com"),
        (b"x-forwarded-port", b"8443"),
        (b"x-forwarded-prefix", b"/app/"),
        (b"x-request-id", b"given"),
    ]
    http, websocket = scopes_of(told, peer, root_path="/setting")
    assert (http["scheme"], websocket["scheme"]) == ("https", "wss")
    for scope in (http, websocket):
        assert scope["client"] == ("203.0.113.9", 4711)
        assert scope["server"] == peer.server  # which is still where it came in
        assert scope["headers"] == [(b"host", b"example.com:8443"), *told]
        # What it says takes the place of the setting, and is not put behind it.
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/app", "/app/", b"/")
        assert scope["extensions"]["gunicorn_asgi.request"] == {"id": "given"}


@pytest.mark.parametrize("peer", [PROXY, UNIX], ids=["tcp", "unix"])
def test_a_trusted_proxy_that_says_nothing_is_the_client(peer: Peer) -> None:
    """As without any of this."""
    http, websocket = scopes_of((), peer, root_path="/setting")
    assert (http["scheme"], websocket["scheme"]) == ("http", "ws")
    for scope in (http, websocket):
        assert (scope["client"], scope["root_path"]) == (peer.client, "/setting")
        assert scope["headers"] == [(b"host", b"h")]


def test_what_a_trusted_proxy_says_beats_the_connection() -> None:
    """It may speak TLS with us, and plain HTTP with the client."""
    http, websocket = scopes_of([(b"x-forwarded-proto", b"http")], PROXY._replace(tls=True))
    assert (http["scheme"], websocket["scheme"]) == ("http", "ws")


@pytest.mark.parametrize(
    ("root", "prefix", "target", "path"),
    [
        ("", b"/api", b"/x", "/api/x"),  # it has stripped it
        ("", b"/api", b"/api/x", "/api/x"),  # it has not
        ("", b"/api", b"/api", "/api"),
        ("", b"/api", b"/apix", "/api/apix"),
        ("", b"/%C3%A9", b"/%c3%a9/x", "/é/x"),
        ("/setting", b"/api", b"/x", "/api/x"),
        ("/setting", b"/", b"/x", "/x"),
    ],
)
@pytest.mark.parametrize("name", [PREFIX, b"script_name"])
def test_a_path_begins_with_the_prefix(
    name: bytes, root: str, prefix: bytes, target: bytes, path: str
) -> None:
    """ASGI: `path` includes root_path, whether or not the proxy has stripped it."""
    for scope in scopes_of([(name, prefix)], root_path=root, target=target):
        assert scope["path"] == path
        assert scope["raw_path"] == target
        assert path.startswith(scope["root_path"])


def test_a_forwarded_host_is_put_in_front_where_there_was_none() -> None:
    """HTTP/1.0."""
    for scope in scopes_of([(HOST, b"a")], host=None, version="1.0"):
        assert scope["headers"][0] == (b"host", b"a")


def test_a_forwarded_host_beats_the_target() -> None:
    """Both take the place of Host; the proxy knows what the client has asked for."""
    target = b"http://asked/p"
    for scope in scopes_of([(HOST, b"a")], target=target):
        assert scope["headers"][0] == (b"host", b"a")
    for scope in scopes_of([(PORT, b"81")], target=target):
        assert scope["headers"][0] == (b"host", b"asked:81")


def test_an_https_target_needs_a_proxy_that_says_https() -> None:
    """RFC 9110 7.4: 421; a proxy that passes targets on unseen vouches for nothing."""
    for fields in ([], [(b"x-forwarded-proto", b"http")]):
        with pytest.raises(RemoteProtocolError) as caught:
            scopes_of(fields, target=b"https://h/")
        assert caught.value.status_hint == 421
    told = [(b"x-forwarded-proto", b"https")]
    assert scopes_of(told, target=b"https://h/")[0]["scheme"] == "https"
    with pytest.raises(RemoteProtocolError) as caught:
        scopes_of(told, STRANGER, target=b"https://h/")
    assert caught.value.status_hint == 421


@pytest.mark.parametrize(
    "fields",
    [
        [(b"x-forwarded-proto", b"https"), (b"x-forwarded-ssl", b"off")],
        [(HOST, b"a/b")],
        [(PORT, b"x")],
        [(PREFIX, b"//evil")],
        [(b"script_name", b"//evil")],
    ],
)
def test_a_trusted_proxys_nonsense_is_refused(fields: list[tuple[bytes, bytes]]) -> None:
    """400: nobody can tell what the client wanted."""
    with pytest.raises(RemoteProtocolError) as caught:
        scopes_of(fields)
    assert caught.value.status_hint == 400


def test_header_map_is_applied() -> None:
    """Gunicorn's header_map and forwarder_headers."""
    assert scopes_of(UNDERSCORED, STRANGER)[0]["headers"] == [(b"host", b"h")]
    assert scopes_of(UNDERSCORED, PROXY)[0]["headers"] == [(b"host", b"h"), UNDERSCORED[0]]
    dangerous = replace(OLDER, header_map="dangerous")
    assert scopes_of(UNDERSCORED, STRANGER, dangerous)[0]["headers"][1:] == UNDERSCORED
    refuse = replace(OLDER, header_map="refuse")
    with pytest.raises(RemoteProtocolError) as caught:
        scopes_of(UNDERSCORED, STRANGER, refuse)
    assert caught.value.status_hint == 400
    assert scopes_of(UNDERSCORED[:1], PROXY, refuse)[0]["root_path"] == "/evil"
    value = [(b"x-a", b"under_score")]
    assert scopes_of(value, STRANGER, refuse)[0]["headers"][1:] == value


def test_hooks_and_logs_see_what_was_received_but_for_the_underscores() -> None:
    """As in Gunicorn, whose request has no field that header_map drops."""
    fields = [(HOST, b"a"), *UNDERSCORED]
    head = head_of(fields, OLDER)
    scope = Scopes(OLDER).http(head, PROXY, None)
    assert head.headers == [(b"host", b"h"), (HOST, b"a"), UNDERSCORED[0]]
    assert scope["headers"] == [(b"host", b"a"), *head.headers[1:]]
