"""protocol/forwarded.py: who the client is, and whether it spoke https."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy, Networks, Origin, origin
from gunicorn_asgi.protocol.peer import Peer
from protocol.heads import head_of

__all__: list[str] = []

PROXY = ("10.0.0.1", 50000)
PEER = Peer(PROXY, ("10.0.0.2", 80), tls=False, trusted=True)
POLICY = ForwardedPolicy(Networks.parse(["10.0.0.0/8", "2001:db8:a::/48"]))
FORWARDED = replace(POLICY, fields=frozenset({b"forwarded"}))


def told(
    *fields: tuple[bytes, bytes], policy: ForwardedPolicy = POLICY, peer: Peer = PEER
) -> Origin:
    """What these fields tell."""
    return origin(head_of(fields, policy), peer, policy)


# -- the policy ----------------------------------------------------------------------------------


def test_the_defaults_are_gunicorns() -> None:
    """forwarded_allow_ips, secure_scheme_headers, forwarder_headers, header_map."""
    policy = ForwardedPolicy()
    assert policy.peers.trusts("127.0.0.1")
    assert policy.peers.trusts("::1")
    assert not policy.peers.trusts("127.0.0.2")
    assert policy.secure_schemes == {
        b"x-forwarded-protocol": b"ssl",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-ssl": b"on",
    }
    assert policy.forwarder_headers == {b"script_name", b"path_info"}
    assert (policy.header_map, policy.fields) == ("drop", frozenset())
    assert policy.request_id_field == b"x-request-id"


SCHEMES = {b"x-forwarded-protocol", b"x-forwarded-proto", b"x-forwarded-ssl"}
IDS = {b"x-request-id", b"traceparent"}


@pytest.mark.parametrize(
    ("policy", "noted"),
    [
        (ForwardedPolicy(), {*SCHEMES, *IDS, b"x-forwarded-for", b"script_name"}),
        (
            ForwardedPolicy(forwarder_headers=frozenset({b"remote_user"}), request_id_field=b""),
            {*SCHEMES, b"x-forwarded-for"},
        ),
        (
            ForwardedPolicy(forwarder_headers=frozenset({b"*"}), secure_schemes={b"x-s": b"1"}),
            {*IDS, b"x-s", b"x-forwarded-for", b"script_name"},
        ),
        (
            ForwardedPolicy(
                fields=frozenset({b"x-forwarded-host", b"x-forwarded-prefix"}),
                request_id_field=b"x-id",
            ),
            {
                *SCHEMES,
                *(b"x-id", b"traceparent", b"x-forwarded-for", b"script_name"),
                *(b"x-forwarded-host", b"x-forwarded-prefix"),
            },
        ),
        # RFC 7239 takes the place of the older ones, even in requests that do not have it.
        (
            ForwardedPolicy(fields=frozenset({b"forwarded"})),
            {*IDS, b"forwarded", b"script_name"},
        ),
    ],
    ids=["default", "few", "others", "named", "forwarded"],
)
def test_the_parser_notes_what_counts_and_nothing_else(
    policy: ForwardedPolicy, noted: set[bytes]
) -> None:
    """What no policy reads costs nothing."""
    assert policy.noted == noted


def test_nothing_told_is_nothing_known() -> None:
    """The client is then the peer, and the rest that of the connection."""
    assert told() == Origin(PROXY, None, None, None)
    assert told((b"x-forwarded-host", b"a"), (b"x-forwarded-prefix", b"/a")) == told()


# -- X-Forwarded-For -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"203.0.113.9", ("203.0.113.9", 0)),
        (b"203.0.113.9:4711", ("203.0.113.9", 4711)),
        (b"2001:db8::1", ("2001:db8::1", 0)),
        (b"2001:DB8:0:0::1", ("2001:db8::1", 0)),
        (b"[2001:db8::1]", ("2001:db8::1", 0)),
        (b"[2001:db8::1]:4711", ("2001:db8::1", 4711)),
        (b"::ffff:203.0.113.9", ("203.0.113.9", 0)),
        (b"203.0.113.9:65535", ("203.0.113.9", 65535)),
        (b"203.0.113.9:0", ("203.0.113.9", 0)),
        (b" \t203.0.113.9 ", ("203.0.113.9", 0)),
    ],
)
def test_an_address_comes_with_and_without_a_port(value: bytes, client: tuple[str, int]) -> None:
    """0 where there is none: ASGI wants an int."""
    assert told((b"x-forwarded-for", value)).client == client


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        # Only the nearest hop that is not ours counts: whatever stands left of it is made up.
        ([b"6.6.6.6, 203.0.113.9"], ("203.0.113.9", 0)),
        ([b"6.6.6.6, 203.0.113.9, 10.0.0.9"], ("203.0.113.9", 0)),
        ([b"6.6.6.6, 203.0.113.9, 10.0.0.9:80, 2001:db8:a::1"], ("203.0.113.9", 0)),
        ([b"10.9.9.9, 203.0.113.9"], ("203.0.113.9", 0)),
        ([b"6.6.6.6,203.0.113.9,::ffff:10.0.0.9"], ("203.0.113.9", 0)),
        ([b"203.0.113.9, [::ffff:10.0.0.9]:80"], ("203.0.113.9", 0)),
        # All of them ours: the left-most.
        ([b"10.0.0.7, 10.0.0.8, 10.0.0.9"], ("10.0.0.7", 0)),
        ([b"10.0.0.7"], ("10.0.0.7", 0)),
        # RFC 9110 5.3: lines are one list, in their order.
        ([b"6.6.6.6", b"203.0.113.9"], ("203.0.113.9", 0)),
        ([b"203.0.113.9", b"10.0.0.9"], ("203.0.113.9", 0)),
        ([b"6.6.6.6, 203.0.113.9", b"10.0.0.9, 10.0.0.8"], ("203.0.113.9", 0)),
        # What is no address ends the walk: the last hop that was one, else the peer.
        ([b"unknown"], PROXY),
        ([b""], PROXY),
        ([b","], PROXY),
        ([b"203.0.113.9, unknown"], PROXY),
        ([b"203.0.113.9,"], PROXY),
        ([b"203.0.113.9", b""], PROXY),
        ([b"203.0.113.9, _hidden, 10.0.0.9"], ("10.0.0.9", 0)),
        ([b"203.0.113.9, , 10.0.0.9"], ("10.0.0.9", 0)),
        ([b"unknown, 203.0.113.9"], ("203.0.113.9", 0)),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_not_ours(
    lines: list[bytes], client: tuple[str, int]
) -> None:
    """A client may send the field too; the proxies only append to it."""
    assert told(*((b"x-forwarded-for", line) for line in lines)).client == client


@pytest.mark.parametrize(
    "element",
    [
        *(b"localhost", b"203.0.113", b"203.0.113.256", b"203.0.113.09", b"1", b"0x7f.0.0.1"),
        *(b"203.0.113.9:", b"203.0.113.9:x", b"203.0.113.9:65536", b"203.0.113.9:123456"),
        *(b"203.0.113.9:-1", b"203.0.113.9 1", b"203.0.113.9/8", b":80", b".", b"::ffff:1.2.3"),
        *(b"[203.0.113.9]", b"[::1", b"::1]", b"[]", b"[::1]x", b"[::1]:", b"[::1]:65536"),
        *(b"fe80::1%eth0", b"fe80::1%25eth0", b"[fe80::1%eth0]:80", b":", b"::g", b"12345::"),
        *(b'"203.0.113.9"', b"for=203.0.113.9", b"\xff", b"\0", "٢٠٣.0.113.9".encode()),
        *(b"0" * 60 + b"::1", b"1" * 5000, b"::" + b"0:" * 3000),
    ],
    ids=lambda element: repr(element[:24]),
)
def test_what_is_no_address_is_nobody(element: bytes) -> None:
    """And no error: the field has no standard, and proxies write all sorts of things."""
    assert told((b"x-forwarded-for", element)).client == PROXY


def test_with_the_star_the_right_most_address_is_the_client() -> None:
    """Whoever connects is believed, but not what stands further to the left."""
    star = ForwardedPolicy(Networks.parse(["*"]))
    value = (b"x-forwarded-for", b"6.6.6.6, 203.0.113.9, 127.0.0.1")
    assert told(value, policy=star).client == ("127.0.0.1", 0)
    both = ForwardedPolicy(Networks.parse(["*", "127.0.0.1"]))
    assert told(value, policy=both).client == ("203.0.113.9", 0)


def test_a_unix_socket_has_no_client_until_somebody_tells() -> None:
    """Its proxy is trusted without being listed."""
    peer = PEER._replace(client=None)
    assert told(peer=peer).client is None
    assert told((b"x-forwarded-for", b"unknown"), peer=peer).client is None
    assert told((b"x-forwarded-for", b"6.6.6.6, 203.0.113.9"), peer=peer).client == (
        "203.0.113.9",
        0,
    )


def test_only_the_last_hundred_hops_are_looked_at() -> None:
    """A chain of our own proxies without an end is a client's invention."""
    hops = [b"10.0.0.%d" % (index % 250) for index in range(300)]
    assert told((b"x-forwarded-for", b",".join(hops))).client == ("10.0.0.200", 0)
    assert told(*((b"x-forwarded-for", hop) for hop in hops)).client == ("10.0.0.200", 0)
    for count, client in ((100, "10.0.0.0"), (101, "10.0.0.1")):
        assert told((b"x-forwarded-for", b",".join(hops[:count]))).client == (client, 0)


# -- secure_scheme_headers -----------------------------------------------------------------------

PROTO, SSL, PROTOCOL = b"x-forwarded-proto", b"x-forwarded-ssl", b"x-forwarded-protocol"


@pytest.mark.parametrize(
    ("fields", "secure"),
    [
        ([(PROTO, b"https")], True),
        ([(PROTO, b"http")], False),
        ([(SSL, b"on")], True),
        ([(SSL, b"off")], False),
        ([(PROTOCOL, b"ssl")], True),
        ([(PROTOCOL, b"https")], False),
        ([(PROTO, b"https"), (SSL, b"on"), (PROTOCOL, b"ssl")], True),
        ([(PROTO, b"http"), (SSL, b"off")], False),
        ([(PROTO, b"https"), (PROTO, b"https")], True),
        # Gunicorn compares with case, and takes whatever is not the value for http.
        ([(PROTO, b"HTTPS")], False),
        ([(PROTO, b"")], False),
        ([(PROTO, b"nonsense")], False),
        # Of a list, the nearest proxy's member.
        ([(PROTO, b"http, https")], True),
        ([(PROTO, b"https, http")], False),
        ([(PROTO, b"https,")], False),
        # Traefik, of a WebSocket.
        ([(PROTO, b"wss")], True),
        ([(PROTO, b"ws")], False),
        ([(SSL, b"wss")], False),
        # CVE-2024-45614: another name is another field.
        ([(b"x_forwarded_proto", b"https")], None),
        ([(b"x_forwarded_proto", b"https"), (PROTO, b"http")], False),
    ],
)
def test_the_scheme_is_what_the_proxies_fields_say(
    fields: list[tuple[bytes, bytes]], secure: bool | None
) -> None:
    """Gunicorn's secure_scheme_headers."""
    assert told(*fields).secure is secure


@pytest.mark.parametrize(
    "fields",
    [
        [(PROTO, b"https"), (SSL, b"off")],
        [(PROTO, b"http"), (SSL, b"on")],
        [(PROTO, b"https"), (PROTO, b"http")],
        [(PROTOCOL, b"ssl"), (PROTO, b"")],
        [(SSL, b"on"), (PROTO, b"https, http")],
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: list[tuple[bytes, bytes]]) -> None:
    """Gunicorn's InvalidSchemeHeaders: 400."""
    with pytest.raises(RemoteProtocolError) as caught:
        told(*fields)
    assert caught.value.status_hint == 400


def test_the_fields_and_values_are_the_settings() -> None:
    """None of them, one of one's own."""
    assert told((PROTO, b"https"), policy=replace(POLICY, secure_schemes={})).secure is None
    own = replace(POLICY, secure_schemes={b"x-tls": b"Yes"})
    assert told((b"x-tls", b"Yes"), (PROTO, b"http"), policy=own).secure is True
    assert told((b"x-tls", b"yes"), policy=own).secure is False


# -- Forwarded -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "client", "secure", "host"),
    [
        (b"for=203.0.113.9", ("203.0.113.9", 0), None, None),
        (b'for="203.0.113.9:4711"', ("203.0.113.9", 4711), None, None),
        (b'for="203.0.113.9:_hidden"', ("203.0.113.9", 0), None, None),
        (b'for="[2001:db8::1]"', ("2001:db8::1", 0), None, None),
        (b'FOR="[2001:db8::1]:4711"', ("2001:db8::1", 4711), None, None),
        (b'for="[2001:db8::1]:_a.b"', ("2001:db8::1", 0), None, None),
        (b"for=6.6.6.6, for=203.0.113.9, for=10.0.0.9", ("203.0.113.9", 0), None, None),
        (b'for=10.0.0.7,for="[2001:db8:a::1]"', ("10.0.0.7", 0), None, None),
        # proto and host are those of the element at which the walk ends.
        (
            b'for=6.6.6.6;proto=https;host=evil, for=203.0.113.9;proto=http;host="a:81"',
            *(("203.0.113.9", 0), False, b"a:81"),
        ),
        (
            b"for=203.0.113.9;proto=https;host=a, for=10.0.0.9;proto=http;host=b",
            *(("203.0.113.9", 0), True, b"a"),
        ),
        (
            b"for=203.0.113.9, for=10.0.0.9;proto=https;host=b",
            *(("203.0.113.9", 0), None, None),
        ),
        # RFC 7239 6.2 and 6.3: hidden, but the rest of the element is as good as any other.
        (b"for=6.6.6.6, for=unknown;proto=https;host=a", PROXY, True, b"a"),
        (b"for=_client;proto=https, for=10.0.0.9", ("10.0.0.9", 0), True, None),
        (b"for=6.6.6.6, proto=https;by=10.0.0.1", PROXY, True, None),
        (b'for="";proto=https', PROXY, True, None),
        (b"for=nonsense", PROXY, None, None),
        (b'for="%b"' % (b"1" * 500), PROXY, None, None),
        (b"proto=HTTPS", PROXY, True, None),
        (b"proto=WSS", PROXY, True, None),
        (b"proto=ws", PROXY, False, None),
        (b"", PROXY, None, None),
    ],
)
def test_forwarded_is_walked_from_the_right(
    value: bytes, client: tuple[str, int], secure: bool | None, host: bytes | None
) -> None:
    """RFC 7239."""
    expected = Origin(client, secure, host, None)
    assert told((b"forwarded", value), policy=FORWARDED) == expected


def test_forwarded_takes_the_place_of_the_older_fields() -> None:
    """A proxy that writes the one may well hand the other on as the client has made it up."""
    older = ((b"x-forwarded-for", b"6.6.6.6"), (PROTO, b"https"), (SSL, b"off"))
    assert told(*older, policy=FORWARDED) == Origin(PROXY, None, None, None)
    found = told(*older, (b"forwarded", b"for=203.0.113.9"), policy=FORWARDED)
    assert found == Origin(("203.0.113.9", 0), None, None, None)


def test_forwarded_is_nothing_unless_it_is_named() -> None:
    """asgi_forwarded_fields: not every proxy overwrites it."""
    assert told((b"forwarded", b"for=6.6.6.6;proto=https;host=evil")) == told()


def test_only_the_last_hundred_elements_are_looked_at() -> None:
    """As with X-Forwarded-For."""
    value = b",".join(b"for=10.0.0.%d" % (index % 250) for index in range(300))
    assert told((b"forwarded", value), policy=FORWARDED).client == ("10.0.0.200", 0)


@pytest.mark.parametrize(
    "value",
    [
        *(b"for", b"for=1.2.3.4:80", b"for=a;for=b", b'for="a', b"for=a b"),
        *(b"proto=ftp", b"proto=", b'proto=""', b'host=""', b'host="a/b"', b'host="a@b"'),
        *(b'host="a:99999"', b'host="[::1"', b'host="\xe9"'),
    ],
)
def test_a_forwarded_that_makes_no_sense_is_refused(value: bytes) -> None:
    """400."""
    with pytest.raises(RemoteProtocolError) as caught:
        told((b"forwarded", value), policy=FORWARDED)
    assert caught.value.status_hint == 400
