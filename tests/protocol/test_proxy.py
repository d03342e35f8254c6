"""protocol/proxy.py: what a PROXY header tells, and what is none."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.proxy import Extent, ProxyHeader, ProxyPolicy, measure, parse
from gunicorn_asgi.protocol.tlsnames import CIPHER_SUITES, TLS_VERSIONS
from kit.proxying import CLIENT, SERVER, binary, line, local, tls_value, tlv, with_checksum

__all__: list[str] = []

BOTH = frozenset({1, 2})
CLIENT6, SERVER6 = ("2001:db8::7", 1), ("2001:db8::9", 65535)
MAPPED = ("::ffff:192.0.2.7", 0)


def header(data: bytes) -> ProxyHeader:
    """Parse, after the request behind it was not taken for a part of it."""
    assert measure(data + b"GET / HTTP/1.1\r\n", BOTH) == Extent(len(data), True)
    return parse(data)


def told(data: bytes) -> dict[str, Any]:
    """What a header of version 2 tells of the connection."""
    return header(data).extensions["proxy_protocol"]


def tls(data: bytes) -> dict[str, Any]:
    """What a header of version 2 tells of the client's TLS."""
    found = header(data)
    assert found.tls
    return found.extensions["tls"]


def refusal(data: bytes) -> str:
    """Why it is refused, by whichever of the two steps is the first to see it."""
    with pytest.raises(RemoteProtocolError) as caught:
        measure(data, BOTH)
        parse(data)
    assert caught.value.status_hint == 400
    return str(caught.value)


# -- both ends -------------------------------------------------------------------------------------

ENDS = [
    ("line", line(), CLIENT, SERVER),
    ("line6", line(CLIENT6, SERVER6, "TCP6"), CLIENT6, SERVER6),
    ("line6 long", line(("2001:DB8:0:0:0:0:0:7", 1), SERVER6, "TCP6"), CLIENT6, SERVER6),
    ("line6 mapped", line(("::FFFF:c000:207", 0), SERVER6, "TCP6"), MAPPED, SERVER6),
    ("line6 decimals", line(MAPPED, SERVER6, "TCP6"), MAPPED, SERVER6),
    ("line unknown", b"PROXY UNKNOWN\r\n", None, None),
    ("line unknown told", b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None, None),
    ("line unknown noise", b"PROXY UNKNOWN  \xff\x00 and so on\r\n", None, None),
    ("line ports", line((CLIENT[0], 0), (SERVER[0], 65535)), (CLIENT[0], 0), (SERVER[0], 65535)),
    ("binary", binary(), CLIENT, SERVER),
    ("binary6", binary(CLIENT6, SERVER6), CLIENT6, SERVER6),
    ("binary6 mapped", binary(MAPPED, SERVER6), MAPPED, SERVER6),
    ("binary unspecified", binary(None), None, None),
    ("binary unspecified stream", binary(None, kind=0x01), None, None),
]


@pytest.mark.parametrize(
    ("data", "client", "server"), [each[1:] for each in ENDS], ids=[each[0] for each in ENDS]
)
def test_a_header_tells_both_ends(
    data: bytes, client: tuple[str, int] | None, server: tuple[str, int] | None
) -> None:
    """Sections 2.1 and 2.2; an address is written in one way, however it came."""
    found = header(data)
    assert (found.client, found.server, found.local, found.tls) == (client, server, False, False)
    assert found.extensions == {"proxy_protocol": {"version": 1 if data[:1] == b"P" else 2}}


def unix(path: bytes) -> bytes:
    """An address of a unix socket."""
    return path.ljust(108, b"\0")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/run/app.sock", "/run/app.sock"),
        (b"\0abstract", "\0abstract"),
        (b"", ""),
        (b"/" + b"x" * 107, "/" + "x" * 107),
        (b"/run/app\0noise", "/run/app"),
        (b"/\xff", "/\N{REPLACEMENT CHARACTER}"),
    ],
    ids=["path", "abstract", "unnamed", "full", "noise", "no UTF-8"],
)
def test_a_unix_socket_is_told_by_its_path(path: bytes, expected: str) -> None:
    """Section 2.2, 0x31; ASGI: "server" is the path and None, and there is no client."""
    found = header(binary(block=unix(b"/whoever") + unix(path)))
    assert (found.client, found.server) == (None, (expected, None))


@pytest.mark.parametrize(
    "data",
    [
        local(),
        local(b"\x03\x00\x04wrong, and cut"),
        binary(command=0x20),
        binary(command=0x20, kind=0xFF),
        binary(command=0x20, tail=tls_value()),
    ],
    ids=["empty", "noise", "addresses", "family", "values"],
)
def test_a_health_check_is_the_proxys_own(data: bytes) -> None:
    """Section 2.2, LOCAL: "discard the protocol block including the family which is ignored"."""
    assert header(data) == ProxyHeader(True, None, None, False, {"proxy_protocol": {"version": 2}})


# -- values ----------------------------------------------------------------------------------------


def test_values_are_told() -> None:
    """Sections 2.2.1 to 2.2.8: what is known is told, what is not is skipped."""
    tail = b"".join(
        [
            tlv(0x04, b"padding"),
            tlv(0x01, b"http/1.1"),
            tlv(0x30, b"namespace"),
            tlv(0x02, "bücher.example".encode()),
            tlv(0x05, b"\0" * 128),
            tlv(0xEA, b"\x01vpce-1"),
            tlv(0x04),
            tlv(0x04),
        ]
    )
    for each in (binary(tail=tail), binary(None, tail=tail), with_checksum(tail)):
        assert told(each) == {
            "version": 2,
            "alpn": "http/1.1",
            "authority": "bücher.example",
            "unique_id": b"\0" * 128,
        }


@pytest.mark.parametrize("tail", [b"", tlv(0x04, b"x" * 1000)], ids=["first", "last"])
@pytest.mark.parametrize("behind", [b"", tlv(0x02, b"a.example")], ids=["last", "followed"])
def test_a_right_checksum_is_right_wherever_it_stands(tail: bytes, behind: bytes) -> None:
    """Section 2.2.3: of the whole header, with zeros in its own place."""
    assert told(with_checksum(tail, behind))["version"] == 2


def test_each_byte_is_in_the_checksum() -> None:
    """Section 2.2.3: "MUST treat the TCP connection providing the header as invalid"."""
    good = with_checksum(tlv(0x02, b"a.example"))
    for at in range(16, len(good)):
        broken = bytearray(good)
        broken[at] ^= 1
        with pytest.raises(RemoteProtocolError):
            parse(bytes(broken))
    assert "wrong checksum" in refusal(good[:-1] + bytes((good[-1] ^ 0x80,)))


FULL: dict[str, Any] = {
    "server_cert": None,
    "client_cert_chain": [],
    "client_cert_name": None,
    "client_cert_error": None,
    "tls_version": None,
    "cipher_suite": None,
}
DER = bytes(range(256))
PEM = ssl.DER_cert_to_PEM_cert(DER)
V13, V12 = tlv(0x21, b"TLSv1.3"), tlv(0x21, b"TLSv1.2")
TLS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("nothing", tls_value(), {}),
    ("1.3", tls_value(V13), {"tls_version": 0x0304}),
    ("ghostunnel", tls_value(tlv(0x21, b"TLS 1.3")), {"tls_version": 0x0304}),
    ("unknown version", tls_value(tlv(0x21, b"\xffTLSv9")), {}),
    (
        "suite",
        tls_value(V12, tlv(0x23, b"ECDHE-RSA-AES128-GCM-SHA256")),
        {"tls_version": 0x0303, "cipher_suite": 0xC02F},
    ),
    ("unknown suite", tls_value(tlv(0x23, b"\xffNULL-MD5")), {}),
    ("others", tls_value(tlv(0x24, b"RSA-SHA256"), tlv(0x25, b"RSA2048"), tlv(0x26, b"X")), {}),
    ("no certificate", tls_value(verify=1), {}),
    (
        "name",
        tls_value(tlv(0x22, "Zoë, Ltd".encode()), flags=3),
        {"client_cert_name": "CN=Zoë\\, Ltd"},
    ),
    (
        "certificate",
        tls_value(tlv(0x22, b"me"), tlv(0x28, DER), flags=5),
        {"client_cert_name": "CN=me", "client_cert_chain": [PEM]},
    ),
    (
        "unverified",
        tls_value(tlv(0x22, b"me"), flags=7, verify=20),
        {
            "client_cert_name": "CN=me",
            "client_cert_error": "the proxy could not verify it (error 20)",
        },
    ),
    # Whoever has shown no certificate has no name, whatever else is written there.
    ("no flag", tls_value(tlv(0x22, b"me"), tlv(0x28, DER), verify=1), {}),
]


@pytest.mark.parametrize(
    ("value", "expected"), [each[1:] for each in TLS], ids=[each[0] for each in TLS]
)
def test_the_clients_tls_is_told_as_asgi_wants_it(value: bytes, expected: dict[str, Any]) -> None:
    """Section 2.2.6, and the ASGI TLS extension 0.2."""
    assert tls(binary(tail=value)) == {**FULL, **expected}


def test_without_the_flag_the_client_spoke_no_tls() -> None:
    """Section 2.2.6: PP2_CLIENT_SSL; the ASGI extension is forbidden without TLS."""
    found = header(binary(tail=tls_value(V13, flags=0)))
    assert not found.tls
    assert "tls" not in found.extensions


def test_the_numbers_of_the_suites_are_those_of_openssl() -> None:
    """SSL_CIPHER_get_id(3): the lower two bytes are those of the wire."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    theirs = {each["name"]: each["id"] & 0xFFFF for each in context.get_ciphers()}
    shared = CIPHER_SUITES.keys() & theirs
    assert len(shared) > 20
    assert {name: CIPHER_SUITES[name] for name in shared} == {name: theirs[name] for name in shared}


def test_the_numbers_of_the_versions_are_those_of_openssl() -> None:
    """RFC 8446 section 4.1.2."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert TLS_VERSIONS[version.name.replace("_", ".")] == version.value


# -- refused ---------------------------------------------------------------------------------------

LINES = [
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2 3\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2 \r\n",
    b"PROXY TCP4  192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY  TCP4 192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY TCP4\t192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY tcp4 192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY TCP5 192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY UDP4 192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY UNIX /a /b 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY unknown\r\n",
    b"PROXY TCP4 ::1 ::2 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 ::2 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
    b"PROXY TCP6 [::1] ::2 1 2\r\n",
    b"PROXY TCP4 192.0.2 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.07 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 0xc0.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.7/8 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 3221225991 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 example.org 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.7\x00 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.\xb2 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 +1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 -1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1_0 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 0x1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 65536\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 100000\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 \xd9\xa1\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\r\n",
    b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWN \r \r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY / HTTP/1.1\r\n",
]


@pytest.mark.parametrize("data", LINES, ids=[repr(each)[2:-1] for each in LINES])
def test_a_line_that_is_not_exactly_one_is_refused(data: bytes) -> None:
    """Section 2.1: "any sequence which does not exactly match the protocol must be discarded"."""
    assert refusal(data).startswith("PROXY line ")


def test_a_line_has_107_bytes_at_the_most() -> None:
    """Section 2.1: the worst case; more is refused before its end has come."""
    longest = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    assert len(longest) == 107
    assert header(longest).server is None
    assert measure(longest[:106], BOTH) == Extent(106, False)
    assert "longer than 107 bytes" in refusal(longest[:-2] + b"xx")
    assert "longer than 107 bytes" in refusal(longest[:-2] + b"x\r\n")


HEADERS = [
    ("version 1", binary(command=0x11), "is of version 1"),
    ("version 3", binary(command=0x31), "is of version 3"),
    ("command 2", binary(command=0x22), "the unknown command 2"),
    ("command 15", binary(command=0x2F), "the unknown command 15"),
    ("datagram 4", binary(kind=0x12), "unserved kind 0x12"),
    ("datagram 6", binary(CLIENT6, SERVER6, kind=0x22), "unserved kind 0x22"),
    ("datagram unix", binary(block=bytes(216), kind=0x32), "unserved kind 0x32"),
    ("datagram unspecified", binary(None, kind=0x02), "unserved kind 0x02"),
    ("no transport", binary(kind=0x10), "unserved kind 0x10"),
    ("transport 3", binary(kind=0x13), "unserved kind 0x13"),
    ("family 4", binary(kind=0x41), "unserved kind 0x41"),
    ("short 4", binary(block=bytes(11), kind=0x11), "too short for its addresses"),
    ("short 6", binary(block=bytes(35), kind=0x21), "too short for its addresses"),
    ("short unix", binary(block=bytes(215), kind=0x31), "too short for its addresses"),
    ("4 as 6", binary(kind=0x21), "too short for its addresses"),
    ("empty", binary(block=b"", kind=0x11), "too short for its addresses"),
    ("type alone", binary(tail=b"\x04"), "cut off"),
    ("half a length", binary(tail=b"\x04\x00"), "cut off"),
    ("value cut", binary(tail=b"\x04\x00\x02x"), "cut off"),
    ("second cut", binary(tail=tlv(0x04, b"xx") + b"\x04\xff\xff"), "cut off"),
    ("unspecified cut", binary(None, tail=b"\x04\x00"), "cut off"),
    ("tls cut", binary(tail=tlv(0x20, b"\x01\0\0\0")), "cut off"),
    ("tls value cut", binary(tail=tls_value(b"\x21\x00\x08TLSv1.3")), "cut off"),
    ("checksum short", binary(tail=tlv(0x03, bytes(3))), "a checksum of 3 bytes"),
    ("checksum long", binary(tail=tlv(0x03, bytes(5))), "a checksum of 5 bytes"),
    ("checksum wrong", binary(tail=tlv(0x03, bytes(4))), "a wrong checksum"),
    ("authority", binary(tail=tlv(0x02, b"\xff")), "an authority that is not UTF-8"),
    ("surrogate", binary(tail=tlv(0x02, b"\xed\xa0\x80")), "an authority that is not UTF-8"),
    ("alpn", binary(tail=tlv(0x01, b"\xff")), "an ALPN that is not UTF-8"),
    ("name", binary(tail=tls_value(tlv(0x22, b"\xff"), flags=3)), "a common name that is not"),
    ("id", binary(tail=tlv(0x05, b"x" * 129)), "an id of 129 bytes"),
    *(
        (f"0x{kind:02x} twice", binary(tail=tlv(kind, b"abcd") * 2), f"0x{kind:02x} twice")
        for kind in (0x01, 0x02, 0x03, 0x05)
    ),
    ("tls twice", binary(tail=tls_value() * 2), "0x20 twice"),
    ("name twice", binary(tail=tls_value(tlv(0x22, b"a") * 2, flags=3)), "0x22 twice"),
]


@pytest.mark.parametrize(
    ("data", "reason"), [each[1:] for each in HEADERS], ids=[each[0] for each in HEADERS]
)
def test_a_broken_header_is_refused(data: bytes, reason: str) -> None:
    """Sections 2.2 to 2.2.6."""
    assert reason in refusal(data)


def test_a_header_has_4096_bytes_at_the_most() -> None:
    """It could announce 64 KiB: that is refused before it is read."""
    assert told(binary(tail=tlv(0x04, bytes(4096 - 16 - 12 - 3)))) == {"version": 2}
    for data in (binary(length=4081), binary(length=0xFFFF), binary(length=4081, command=0x20)):
        assert "more than 4096" in refusal(data[:16])


def test_an_unknown_command_is_refused_before_the_rest_has_come() -> None:
    """Section 2.2: "receivers must drop connections presenting unexpected values here"."""
    assert "unknown command" in refusal(binary(command=0x22)[:13])


# -- no header -------------------------------------------------------------------------------------

OTHERS = [
    b"GET / HTTP/1.1\r\n",
    b"POST / HTTP/1.1\r\n",
    b"PROPFIND / HTTP/1.1\r\n",
    b"PRO\r\n",
    b"PROXYING",
    b"PROXY\tTCP4",
    b"proxy TCP4",
    b" PROXY TCP4",
    b"\nPROXY TCP4",
    b"\r\nGET / HTTP/1.1",
    b"\r\n\r\n\r\n",
    b"\r\n\r\n\0\r\nQUIT\r",
    b"\x16\x03\x01\x02\0\x01",
    b"\0",
]


@pytest.mark.parametrize("data", OTHERS, ids=[repr(each)[2:-1] for each in OTHERS])
def test_something_else_is_no_header(data: bytes) -> None:
    """Section 5: it is "distinguishable from HTTP", and from TLS."""
    assert measure(data, BOTH) is None


@pytest.mark.parametrize(
    ("versions", "of_line", "of_binary"),
    [(set(), False, False), ({1}, True, False), ({2}, False, True), ({1, 2}, True, True)],
    ids=["off", "v1", "v2", "auto"],
)
def test_only_the_versions_of_the_setting_are_headers(
    versions: set[int], of_line: bool, of_binary: bool
) -> None:
    """Gunicorn's proxy_protocol: what is not asked for is HTTP, and no good one."""
    chosen = frozenset(versions)
    assert (measure(line(), chosen) is not None) == of_line
    assert (measure(binary(), chosen) is not None) == of_binary


@pytest.mark.parametrize(
    "data", [b"", b"P", b"PROXY ", b"\r\n", b"GET", line()[:-1], binary()[:-1]]
)
def test_what_is_not_whole_cannot_be_parsed(data: bytes) -> None:
    """The caller has not measured."""
    with pytest.raises(RemoteProtocolError, match="incomplete"):
        parse(data)


def test_what_is_too_much_cannot_be_parsed() -> None:
    """The caller has taken what is not the header's."""
    for data in (line(), binary()):
        with pytest.raises(RemoteProtocolError, match="incomplete"):
            parse(data + b"G")


def test_the_protocol_is_off_unless_it_is_asked_for() -> None:
    """The defaults are Gunicorn's."""
    policy = ProxyPolicy()
    assert policy.versions == frozenset()
    assert not policy.required
    assert policy.peers.trusts("127.0.0.1")
    assert policy.peers.trusts("::1")
    assert not policy.peers.trusts("192.0.2.1")
