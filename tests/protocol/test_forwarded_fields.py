"""protocol/forwarded.py: host, port, prefix, and names with underscores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_asgi.protocol.authority import is_authority
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.forwarded import (
    ForwardedPolicy,
    Networks,
    Origin,
    drop_or_refuse,
    origin,
)
from gunicorn_asgi.protocol.peer import Peer
from protocol.fuzz import FUZZ, VALUES, glued
from protocol.heads import head_of

__all__: list[str] = []

PEER = Peer(("10.0.0.1", 50000), ("10.0.0.2", 80), tls=False, trusted=True)
HOST, PORT, PREFIX = b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix"
NAMED = ForwardedPolicy(fields=frozenset({HOST, PORT, PREFIX}))
EVERYTHING = replace(NAMED, fields=frozenset({HOST, PORT, PREFIX, b"forwarded"}))

Pairs = list[tuple[bytes, bytes]]


def told(
    *fields: tuple[bytes, bytes],
    policy: ForwardedPolicy = NAMED,
    peer: Peer = PEER,
    host: bytes | None = b"own.example",
) -> Origin:
    """What these fields tell."""
    return origin(head_of(fields, policy, host=host), peer, policy)


def refused(*fields: tuple[bytes, bytes]) -> None:
    """They have to be."""
    with pytest.raises(RemoteProtocolError) as caught:
        told(*fields)
    assert caught.value.status_hint == 400


# -- host and port -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "host"),
    [
        ([b"a.example"], b"a.example"),
        ([b"a.example:8443"], b"a.example:8443"),
        ([b"[2001:db8::1]:81"], b"[2001:db8::1]:81"),
        # Of several, the nearest proxy's.
        ([b"evil, a.example"], b"a.example"),
        ([b"evil/,a.example"], b"a.example"),
        ([b"evil", b"a.example"], b"a.example"),
    ],
)
def test_the_host_is_the_nearest_proxys(lines: list[bytes], host: bytes) -> None:
    """X-Forwarded-Host."""
    assert told(*((HOST, line) for line in lines)).host == host


@pytest.mark.parametrize(
    "value", [b"", b"a,", b"a/b", b"a?b", b"u@a", b"http://a", b"a b", b"a:x", b"[::1", b"\xe9"]
)
def test_a_host_that_is_no_authority_is_refused(value: bytes) -> None:
    """As in Host: it takes its place."""
    refused((HOST, value))


@pytest.mark.parametrize(
    ("port", "host", "own", "proto", "expected"),
    [
        (b"8443", b"a", b"own", b"https", b"a:8443"),
        (b"8443", b"[::1]", b"own", b"https", b"[::1]:8443"),
        (b"8443", b"a:", b"own", b"https", b"a:8443"),
        # One that is there already is nearer to what the client has asked for.
        (b"8443", b"a:81", b"own", b"https", b"a:81"),
        # RFC 9110 4.2: the default ports of the schemes are left out.
        (b"443", b"a", b"own", b"https", b"a"),
        (b"80", b"a", b"own", b"http", b"a"),
        (b"80", b"a", b"own", None, b"a"),
        (b"80", b"a", b"own", b"https", b"a:80"),
        (b"443", b"a", b"own", b"http", b"a:443"),
        # Without X-Forwarded-Host, Host itself.
        (b"8443", None, b"own", b"https", b"own:8443"),
        (b"8443", None, b"own:81", b"https", b"own:81"),
        (b"443", None, b"own", b"https", b"own"),
        (b"8443", None, None, b"https", None),  # HTTP/1.0
        # Of several, the nearest proxy's.
        (b"1, 8443", b"a", b"own", None, b"a:8443"),
        (b"65535", b"a", b"own", None, b"a:65535"),
        (b"1", b"a", b"own", None, b"a:1"),
        (b"08443", b"a", b"own", None, b"a:8443"),
    ],
)
def test_the_port_is_added_to_the_host(
    port: bytes, host: bytes | None, own: bytes | None, proto: bytes | None, expected: bytes | None
) -> None:
    """X-Forwarded-Port."""
    fields: Pairs = [(PORT, port)]
    if host is not None:
        fields.append((HOST, host))
    if proto is not None:
        fields.append((b"x-forwarded-proto", proto))
    assert told(*fields, host=own).host == expected


def test_the_default_port_is_that_of_the_connection_if_nobody_says() -> None:
    """The proxy may speak TLS with us, and say nothing of the scheme."""
    assert told((PORT, b"443"), peer=PEER._replace(tls=True)).host == b"own.example"
    assert told((PORT, b"80"), peer=PEER._replace(tls=True)).host == b"own.example:80"


def test_the_port_is_added_to_the_authority_of_the_target() -> None:
    """RFC 9112 3.2.2: Host does not count then."""
    head = head_of([(PORT, b"81")], NAMED, host=b"own")
    assert origin(head, PEER, NAMED, b"asked").host == b"asked:81"


@pytest.mark.parametrize(
    "value", [b"", b"0", b"00", b"-1", b"+1", b"1_0", b"65536", b"100000", b"x", b"80 80", b"80,"]
)
def test_a_port_that_is_none_is_refused(value: bytes) -> None:
    """Nobody can guess what was meant."""
    refused((PORT, value))
    refused((PORT, value), (HOST, b"a:81"))


def test_forwarded_has_the_first_word_about_the_host() -> None:
    """X-Forwarded-Host fills the gap it leaves."""
    both = ((b"forwarded", b"for=10.0.0.9;host=a"), (HOST, b"b"), (PORT, b"81"))
    assert told(*both, policy=EVERYTHING).host == b"a:81"
    one = ((b"forwarded", b"for=10.0.0.9"), (HOST, b"b"))
    assert told(*one, policy=EVERYTHING).host == b"b"


# -- prefix --------------------------------------------------------------------------------------

PREFIXES = pytest.mark.parametrize("name", [PREFIX, b"script_name"])


@PREFIXES
@pytest.mark.parametrize(
    ("value", "root_path"),
    [
        (b"/api", "/api"),
        (b"/api/", "/api"),
        (b"/api//", "/api"),
        (b"/a/b-c_d.e~f", "/a/b-c_d.e~f"),
        (b"/a;b=c:d@e!$&'()*+", "/a;b=c:d@e!$&'()*+"),
        (b"/..a/b..", "/..a/b.."),
        (b"/a//b", "/a//b"),
        (b"/", ""),
        (b"", ""),
        # Decoded as a path is, since it is compared with one.
        (b"/%C3%A9/%20", "/é/ "),
        (b"/\xc3\xa9", "/é"),
        (b"/%2541", "/%41"),
        # Of several, the nearest proxy's.
        (b"/evil, /api", "/api"),
        (b"/evil,", ""),
    ],
)
def test_a_prefix_is_a_path_without_its_last_slash(
    name: bytes, value: bytes, root_path: str
) -> None:
    """X-Forwarded-Prefix, and SCRIPT_NAME, which Gunicorn lets a trusted proxy send."""
    assert told((name, value)).root_path == root_path


@PREFIXES
@pytest.mark.parametrize(
    "value",
    [
        *(b"api", b"http://evil", b"//evil", b"//", b"/%2Fevil", b"/%2f", b"\\evil", b"/\\evil"),
        *(b"/%5Cevil", b"/a\\b", b"/a%5cb", b"/..", b"/../a", b"/a/..", b"/a/../b", b"/%2e%2E/a"),
        *(b"/a?b", b"/a#b", b"/a b", b"/a\tb", b"/a\0b", b"/a%00b", b"/a%0d%0ab", b"/a\r\nb"),
        *(b"/a%7f", b"/a%C2%85", b"/\xff", b"/%ff", b"/%C3", b"/a%", b"/a%4", b"/%zz", b'/"'),
        *(b"/<a>", b"/a|b", b"/a^"),
    ],
)
def test_a_prefix_that_leads_elsewhere_is_refused(name: bytes, value: bytes) -> None:
    """An application redirects to what it makes of it: "//evil" is another host."""
    refused((name, value))


def test_the_prefix_that_was_named_wins() -> None:
    """SCRIPT_NAME is believed by Gunicorn's default, so a client may try it."""
    assert told((b"script_name", b"/evil"), (PREFIX, b"/api")).root_path == "/api"


def test_script_name_is_nothing_unless_it_is_a_forwarder_header() -> None:
    """Gunicorn's forwarder_headers."""
    field = (b"script_name", b"/api")
    for headers, root_path in (
        ({b"path_info"}, None),
        ({b"script_name"}, "/api"),
        ({b"*"}, "/api"),
    ):
        policy = ForwardedPolicy(forwarder_headers=frozenset(headers))
        assert told(field, policy=policy).root_path == root_path
    assert told((b"script-name", b"/evil")).root_path is None


# -- header_map ----------------------------------------------------------------------------------

SENT = [
    (b"host", b"h"),
    (b"x_forwarded_for", b"6.6.6.6"),
    (b"x-a", b"un_der"),
    (b"script_name", b"/api"),
    (b"remote_user", b"root"),
    (b"_", b""),
]
PLAIN = [SENT[0], SENT[2]]


@pytest.mark.parametrize(
    ("header_map", "forwarders", "trusted", "passed"),
    [
        ("drop", {b"script_name"}, False, PLAIN),
        ("drop", {b"script_name"}, True, [SENT[0], SENT[2], SENT[3]]),
        ("drop", set(), True, PLAIN),
        ("drop", {b"*"}, True, SENT),
        ("drop", {b"*"}, False, PLAIN),
        ("dangerous", {b"script_name"}, False, SENT),
        ("dangerous", {b"script_name"}, True, SENT),
        ("refuse", {b"*"}, True, SENT),
    ],
)
def test_names_with_underscores_reach_only_whom_they_should(
    header_map: Literal["drop", "refuse", "dangerous"],
    forwarders: Iterable[bytes],
    trusted: bool,
    passed: Pairs,
) -> None:
    """Gunicorn's header_map and forwarder_headers."""
    policy = ForwardedPolicy(forwarder_headers=frozenset(forwarders), header_map=header_map)
    assert drop_or_refuse(SENT.copy(), policy, trusted) == passed


@pytest.mark.parametrize(
    ("forwarders", "trusted"), [({b"script_name"}, True), ({b"*"}, False), (set(), True)]
)
def test_names_with_underscores_can_be_refused(forwarders: Iterable[bytes], trusted: bool) -> None:
    """400."""
    policy = ForwardedPolicy(forwarder_headers=frozenset(forwarders), header_map="refuse")
    with pytest.raises(RemoteProtocolError) as caught:
        drop_or_refuse(SENT.copy(), policy, trusted)
    assert caught.value.status_hint == 400
    assert drop_or_refuse(PLAIN, policy, trusted) == PLAIN


# -- any bytes -----------------------------------------------------------------------------------

NEAR = glued(
    *(b"10.0.0.1", b"203.0.113.9", b"[::1]", b":80", b":", b",", b", ", b"unknown", b"https"),
    *(b"for=", b"proto=https", b"host=", b";", b'"', b"\\", b"/", b"/a", b"%2e", b"..", b"a.b"),
)
NAMES = sorted(NAMED.believed | EVERYTHING.believed | {b"host", b"x_forwarded_for"})
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), NEAR | VALUES), max_size=6)
POLICIES = st.sampled_from(
    [
        *(NAMED, EVERYTHING, ForwardedPolicy()),
        replace(NAMED, peers=Networks.parse(["*", "203.0.113.0/24"])),
    ]
)


@FUZZ
@given(FIELDS, POLICIES)
def test_any_bytes_tell_something_or_are_refused(fields: Pairs, policy: ForwardedPolicy) -> None:
    """Nothing but RemoteProtocolError comes out, and nothing that an application would trip on."""
    try:
        found = told(*fields, policy=policy)
    except RemoteProtocolError:
        return
    assert found.client is not None
    assert 0 <= found.client[1] <= 65535
    assert Networks.parse(["0.0.0.0/0", "::/0"]).trusts(found.client[0])
    assert found.host is None or is_authority(found.host)
    assert not found.root_path or (
        found.root_path[0] == "/"
        and found.root_path[1:2] not in ("/", "\\")
        and found.root_path[-1] != "/"
    )
