"""protocol/authority.py: what a Host field may hold."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given

from gunicorn_asgi.protocol.authority import is_authority, split_authority
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from protocol.fuzz import FUZZ, VALUES, glued

__all__: list[str] = []

NEAR = glued(b"a", b".", b":", b"80", b"[::1]", b"[", b"]", b"%41", b"%", b"@", b"/", b"65536")


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        # RFC 3986 3.2.2: reg-name.
        (b"example.com", b"example.com", None),
        (b"EXAMPLE.com", b"EXAMPLE.com", None),
        (b"a", b"a", None),
        (b"a_b-c.~", b"a_b-c.~", None),
        (b"!$&'()*+,;=", b"!$&'()*+,;=", None),
        (b"%41%c3%A9", b"%41%c3%A9", None),
        (b"example.com.", b"example.com.", None),
        (b"192.0.2.1", b"192.0.2.1", None),
        (b"999.0.2.1", b"999.0.2.1", None),  # no IPv4 address, but a reg-name
        # RFC 3986 3.2.3: port.
        (b"h:80", b"h", 80),
        (b"h:0", b"h", 0),
        (b"h:65535", b"h", 65535),
        (b"h:", b"h", None),
        (b"h:00080", b"h", 80),
        (b"h:000000000080", b"h", 80),
        (b"192.0.2.1:8080", b"192.0.2.1", 8080),
        # IP-literal.
        (b"[::1]", b"[::1]", None),
        (b"[::]:80", b"[::]", 80),
        (b"[::1]:", b"[::1]", None),
        (b"[2001:DB8::1]:443", b"[2001:DB8::1]", 443),
        (b"[::ffff:192.0.2.1]", b"[::ffff:192.0.2.1]", None),
        # Longer than anything in the DNS, and than what is cached.
        (b"a" * 300 + b":1", b"a" * 300, 1),
    ],
)
def test_an_authority_is_a_host_and_perhaps_a_port(
    value: bytes, host: bytes, port: int | None
) -> None:
    """RFC 9110 7.2: Host = uri-host [ ":" port ]."""
    assert is_authority(value)
    assert split_authority(value) == (host, port)


@pytest.mark.parametrize(
    "value",
    [
        # RFC 9110 4.2.1: an empty host MUST be rejected.
        b"",
        b":",
        b":80",
        # Delimiters of other parts of a URI (CVE-2026-48710).
        b"h/",
        b"h/p",
        b"h?q",
        b"h#f",
        b"h\\p",
        b"//h",
        b"http://h",
        # RFC 9110 4.2.4: userinfo.
        b"u@h",
        b"u:p@h",
        b"@h",
        # Ports.
        b"h:x",
        b"h:-1",
        b"h:+1",
        b"h:1_0",
        b"h: 80",
        b"h:80 ",
        b"h:65536",
        b"h:99999",
        b"h:100000",
        b"h:0000065536",
        b"h:" + b"9" * 5000,
        b"h:80:80",
        b"h::80",
        "h:٣".encode(),
        # What is not in reg-name.
        b" ",
        b" h",
        b"h ",
        b"a b",
        b"a\tb",
        b"h\n",
        b"h\r\nx: y",
        b"h\0",
        b'"h"',
        b"<h>",
        b"h|",
        b"{h}",
        b"h^",
        b"`h`",
        "é".encode(),
        b"h\xff",
        b"%",
        b"%4",
        b"%4g",
        b"%zz",
        # IPv6.
        b"::1",
        b"2001:db8::1",
        b"[]",
        b"[]:80",
        b"[",
        b"]",
        b"[::1",
        b"::1]",
        b"[::1]x",
        b"[::1]x:80",
        b"x[::1]",
        b"[[::1]]",
        b"[::1]]",
        b"[1]",
        b"[:]",
        b"[::1::]",
        b"[12345::]",
        b"[::1%eth0]",
        b"[::1%25eth0]",
        b"[::256.0.0.1]",
        b"[192.0.2.1]",
        b"[v1.a]",
        b"[example.com]",
        b"[::1]:x",
        b"[::1]:65536",
        b"a" * 300 + b"/",
    ],
    ids=lambda value: repr(value[:24]),
)
def test_anything_else_is_none(value: bytes) -> None:
    """RFC 3986 3.2: 400 for whoever splits it."""
    assert not is_authority(value)
    with pytest.raises(RemoteProtocolError) as caught:
        split_authority(value)
    assert caught.value.status_hint == 400


@FUZZ
@given(NEAR | VALUES)
def test_no_value_moves_the_path_of_a_url(value: bytes) -> None:
    """CVE-2026-48710: what an application builds of an authority is the URL it wanted."""
    if not is_authority(value):
        return
    text = value.decode("ascii")
    parts = urlsplit(f"http://{text}/path?query")
    assert (parts.netloc, parts.path, parts.query) == (text, "/path", "query")
    assert (parts.username, parts.password) == (None, None)
    host, port = split_authority(value)
    assert parts.port == port
    assert host
    assert re.match(re.escape(host) + rb"(:0*%b)?\Z" % str(port or "").encode(), value)


@FUZZ
@given(NEAR | VALUES)
def test_any_value_is_an_authority_or_refused(value: bytes) -> None:
    """Nothing but RemoteProtocolError comes out."""
    try:
        split_authority(value)
    except RemoteProtocolError:
        assert not is_authority(value)
    else:
        assert is_authority(value)
