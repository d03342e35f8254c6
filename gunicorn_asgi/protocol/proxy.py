"""The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt; "section" means its).

A proxy that passes bytes on writes one header in front of them, which says whose they are. Right
behind it comes what the client has sent, TLS perhaps, and that has to stay in the socket. So
reading goes in two steps: ``measure()`` says how much of what is there belongs to the header, and
``parse()`` reads one that is whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any, NamedTuple, TypeVar

from gunicorn_asgi.protocol.certificate import distinguished_name, to_pem
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.protocol.tlsnames import CIPHER_SUITES, TLS_VERSIONS

__all__ = ["MAX_HEADER", "Extent", "ProxyHeader", "ProxyPolicy", "measure", "parse"]

Extensions = dict[str, dict[str, Any]]
_Address = TypeVar("_Address", IPv4Address, IPv6Address)

# Section 2.1: the longest line there can be, CRLF included.
_MAX_LINE = 107
# A header of version 2 could be 64 KiB. This holds any client certificate of today; more (bytes)
# is refused before it is read.
MAX_HEADER = 4096

_VERSIONS = frozenset({1, 2})

_LINE_START = b"PROXY "
_UNKNOWN = b"PROXY UNKNOWN"
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")

# Section 2.2.
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = 0, 1, 2, 3
_STREAM = 1
# Both addresses, and both ports if there are any.
_BLOCK = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}
_UNIX_PATH = 108

# Section 2.2: PP2_TYPE_* and PP2_SUBTYPE_SSL_*; 0x28 is the client's certificate in DER.
# All others are skipped: NOOP (0x04), which only pads, NETNS (0x30), and those of the vendors.
_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL = 0x01, 0x02, 0x03, 0x05, 0x20
_SSL_VERSION, _SSL_CN, _SSL_CIPHER, _SSL_CERT = 0x21, 0x22, 0x23, 0x28
_KNOWN = frozenset({_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL})
_KNOWN_SSL = frozenset({_SSL_VERSION, _SSL_CN, _SSL_CIPHER, _SSL_CERT})
_MAX_UNIQUE_ID = 128
# Section 2.2.6: PP2_CLIENT_SSL; PP2_CLIENT_CERT_CONN and PP2_CLIENT_CERT_SESS.
_CLIENT_TLS = 0x01
_CLIENT_CERT = 0x02 | 0x04


@dataclass(frozen=True)
class ProxyPolicy:
    """Whose PROXY headers are read.

    Attributes:
        versions: of the protocol, 1 and 2; none switches it off. Gunicorn's ``proxy_protocol``.
        peers: who may send a header; Gunicorn's ``proxy_allow_ips``. Others are served as
            themselves, and a header of theirs is a malformed request.
        required: refuse connections without a header, and all from others;
            ``asgi_proxy_protocol_required``.
    """

    versions: frozenset[int] = frozenset()
    peers: Networks = field(default_factory=lambda: Networks.parse(["127.0.0.1", "::1"]))
    required: bool = False


class ProxyHeader(NamedTuple):
    """What a header tells.

    Attributes:
        local: the connection is the proxy's own, as for a health check (LOCAL).
        client: address and port of the client; None if it is not told, or on a unix socket.
        server: address and port that the client has connected to, or a unix socket's path and
            None; None if it is not told: then both ends are those of the socket itself.
        tls: the client spoke TLS to the proxy.
        extensions: for the scope: "proxy_protocol" with "version" and, where told, "authority"
            (str), "alpn" (str) and "unique_id" (bytes); "tls" as in the ASGI TLS extension 0.2,
            if the client spoke TLS.
    """

    local: bool
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    tls: bool
    extensions: Extensions


class Extent(NamedTuple):
    """How much of the bytes so far is header.

    Attributes:
        size: so many of them, from the start, are; whatever is behind them is not.
        whole: with these it is complete.
    """

    size: int
    whole: bool


def measure(data: bytes, versions: frozenset[int]) -> Extent | None:
    """How much of ``data``, the first bytes of a connection, belongs to a header.

    It never says of a byte behind the header that it belongs to it; so what it counts can be
    taken out of the socket. A start that a header shares with something else (``PRO``, or a blank
    line) counts as header until the difference has come.

    Returns:
        None if these are certainly not the first bytes of a header of ``versions``.

    Raises:
        RemoteProtocolError: it is a header, and it is broken.
    """
    if 2 in versions and _agree(data, _SIGNATURE):
        return _measure_binary(data)
    if 1 in versions and _agree(data, _LINE_START):
        return _measure_line(data)
    return None


def parse(data: bytes) -> ProxyHeader:
    """Read a header, all of which ``data`` is.

    Raises:
        RemoteProtocolError: it is broken, or ``measure()`` would not call it whole.
    """
    if measure(data, _VERSIONS) != Extent(len(data), True):
        raise RemoteProtocolError("PROXY header is incomplete")
    return _parse_binary(data) if data.startswith(_SIGNATURE) else _parse_line(data)


def _agree(data: bytes, start: bytes) -> bool:
    """Whether ``data`` begins as ``start`` does, as far as both go."""
    return data.startswith(start) or start.startswith(data)


# -- version 1 -------------------------------------------------------------------------------------


def _measure_line(data: bytes) -> Extent:
    end = data.find(b"\n", 0, _MAX_LINE)
    if end >= 0:
        return Extent(end + 1, True)
    if len(data) >= _MAX_LINE:
        raise RemoteProtocolError(f"PROXY line is longer than {_MAX_LINE} bytes")
    return Extent(len(data), False)


def _parse_line(data: bytes) -> ProxyHeader:
    line = data[:-2]
    if not data.endswith(b"\r\n") or b"\r" in line or b"\n" in line:
        # Section 2.1: neither of them alone ends the line.
        raise RemoteProtocolError("PROXY line does not end with CRLF")
    extensions: Extensions = {"proxy_protocol": {"version": 1}}
    if line == _UNKNOWN or line.startswith(_UNKNOWN + b" "):
        return ProxyHeader(False, None, None, False, extensions)
    words = line.decode("ascii", "replace").split(" ")
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise RemoteProtocolError(f"PROXY line is malformed: {line!r}")
    source, destination, source_port, destination_port = words[2:]
    client = (_host(words[1], source), _port(source_port))
    server = (_host(words[1], destination), _port(destination_port))
    return ProxyHeader(False, client, server, False, extensions)


def _host(family: str, text: str) -> str:
    try:
        # A zone ("%eth0") would mean nothing on another machine.
        if family == "TCP4":
            return str(IPv4Address(text))
        if "%" not in text:
            return _host6(IPv6Address(text))
    except AddressValueError:
        pass
    raise RemoteProtocolError(f"PROXY line has no {family} address: {text!r}")


def _host6(address: IPv6Address) -> str:
    """As the kernel writes it: a mapped one with its IPv4 part in decimals."""
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise RemoteProtocolError(f"PROXY line has no port: {text!r}")
    return int(text)


# -- version 2 -------------------------------------------------------------------------------------


def _measure_binary(data: bytes) -> Extent:
    if len(data) > len(_SIGNATURE):
        _check_command(data[12])
    if len(data) < _FIXED:
        return Extent(len(data), False)
    total = _FIXED + int.from_bytes(data[14:16], "big")
    if total > MAX_HEADER:
        raise RemoteProtocolError(f"PROXY header has {total} bytes, more than {MAX_HEADER}")
    return Extent(min(total, len(data)), len(data) >= total)


def _check_command(byte: int) -> None:
    if byte >> 4 != 2:
        raise RemoteProtocolError(f"PROXY header is of version {byte >> 4}")
    if byte & 15 not in (_LOCAL, _PROXY):
        raise RemoteProtocolError(f"PROXY header has the unknown command {byte & 15}")


def _parse_binary(data: bytes) -> ProxyHeader:
    extensions: Extensions = {"proxy_protocol": {"version": 2}}
    if data[12] & 15 == _LOCAL:
        # Section 2.2: "discard the protocol block including the family which is ignored".
        return ProxyHeader(True, None, None, False, extensions)
    family = _family(data[13])
    if len(data) < _FIXED + _BLOCK[family]:
        raise RemoteProtocolError("PROXY header is too short for its addresses")
    client, server = _addresses(family, data)
    values = _values(data, _FIXED + _BLOCK[family], _KNOWN)
    _check_crc(data, values)
    extensions["proxy_protocol"].update(_facts(data, values))
    if _SSL in values:
        extensions.update(_tls(data[slice(*values[_SSL])]))
    return ProxyHeader(False, client, server, "tls" in extensions, extensions)


def _family(byte: int) -> int:
    family, transport = byte >> 4, byte & 15
    # An unspecified family may come with a transport, section 2.2 lets us ignore it.
    if family not in _BLOCK or transport > _STREAM or (family and transport != _STREAM):
        raise RemoteProtocolError(f"PROXY header is of the unknown or unserved kind 0x{byte:02x}")
    return family


def _addresses(
    family: int, data: bytes
) -> tuple[tuple[str, int] | None, tuple[str, int | None] | None]:
    """Client and server."""
    if family == _UNSPEC:
        return None, None
    if family == _UNIX:
        return None, (_path(data[_FIXED + _UNIX_PATH : _FIXED + 2 * _UNIX_PATH]), None)
    ports = _FIXED + _BLOCK[family] - 4
    size = (ports - _FIXED) // 2
    source, destination = data[_FIXED : _FIXED + size], data[_FIXED + size : ports]
    if family == _INET:
        hosts = str(IPv4Address(source)), str(IPv4Address(destination))
    else:
        hosts = _host6(IPv6Address(source)), _host6(IPv6Address(destination))
    return (
        (hosts[0], int.from_bytes(data[ports : ports + 2], "big")),
        (hosts[1], int.from_bytes(data[ports + 2 : ports + 4], "big")),
    )


def _path(name: bytes) -> str:
    """A sun_path: up to its first NUL; abstract ones begin with one (unix(7))."""
    end = name.find(b"\0", 1)
    name = name[: end if end >= 0 else None]
    return "" if name == b"\0" else name.decode("utf-8", "replace")


# -- type, length, value ---------------------------------------------------------------------------


def _each(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Type, start and end of each value; they fill ``data`` from ``at`` to its end."""
    while at < len(data):
        start = at + 3
        end = start + int.from_bytes(data[at + 1 : start], "big")
        if end > len(data):
            raise RemoteProtocolError("PROXY header has a value that is cut off")
        yield data[at], start, end
        at = end


def _values(data: bytes, at: int, known: frozenset[int]) -> dict[int, tuple[int, int]]:
    """Start and end of each value that we understand, by its type."""
    found: dict[int, tuple[int, int]] = {}
    for kind, start, end in _each(data, at):
        if kind in known:
            # Two of them might be read differently by someone else.
            if kind in found:
                raise RemoteProtocolError(f"PROXY header has the value 0x{kind:02x} twice")
            found[kind] = (start, end)
    return found


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"PROXY header has {what} that is not UTF-8") from None


def _facts(data: bytes, values: dict[int, tuple[int, int]]) -> dict[str, Any]:
    """What is told of the connection, whether with TLS or without."""
    facts: dict[str, Any] = {}
    if _AUTHORITY in values:
        facts["authority"] = _text(data[slice(*values[_AUTHORITY])], "an authority")
    if _ALPN in values:
        facts["alpn"] = _text(data[slice(*values[_ALPN])], "an ALPN")
    if _UNIQUE_ID in values:
        unique_id = facts["unique_id"] = data[slice(*values[_UNIQUE_ID])]
        if len(unique_id) > _MAX_UNIQUE_ID:
            raise RemoteProtocolError(f"PROXY header has an id of {len(unique_id)} bytes")
    return facts


def _tls(value: bytes) -> Extensions:
    """The ASGI TLS extension 0.2, if the client spoke TLS (section 2.2.6)."""
    if len(value) < 5:
        raise RemoteProtocolError("PROXY header has a value that is cut off")
    flags, verify = value[0], int.from_bytes(value[1:5], "big")
    told = {kind: value[slice(*at)] for kind, at in _values(value, 5, _KNOWN_SSL).items()}
    if not flags & _CLIENT_TLS:
        return {}
    # ghostunnel writes "TLS 1.3".
    version = told.get(_SSL_VERSION, b"").decode("ascii", "replace").replace("TLS ", "TLSv", 1)
    cipher = told.get(_SSL_CIPHER, b"").decode("ascii", "replace")
    tls: dict[str, Any] = {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": TLS_VERSIONS.get(version),
        "cipher_suite": CIPHER_SUITES.get(cipher),
    }
    if flags & _CLIENT_CERT:
        if _SSL_CERT in told:
            tls["client_cert_chain"] = [to_pem(told[_SSL_CERT])]
        if _SSL_CN in told:
            name = _text(told[_SSL_CN], "a common name")
            tls["client_cert_name"] = distinguished_name([[("commonName", name)]])
        if verify:
            # X509_V_ERR_* of OpenSSL, where the proxy uses that.
            tls["client_cert_error"] = f"the proxy could not verify it (error {verify})"
    return {"tls": tls}


# -- checksum --------------------------------------------------------------------------------------


def _make_table() -> tuple[int, ...]:
    """CRC32c, one byte at a time (RFC 3720 appendix B.4), polynomial 0x1EDC6F41 reflected."""
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _make_table()


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _check_crc(data: bytes, values: dict[int, tuple[int, int]]) -> None:
    """Section 2.2.3: of the whole header, with zeros where the checksum stands."""
    if _CRC32C not in values:
        return
    start, end = values[_CRC32C]
    if end - start != 4:
        raise RemoteProtocolError(f"PROXY header has a checksum of {end - start} bytes")
    if int.from_bytes(data[start:end], "big") != _crc32c(data[:start] + bytes(4) + data[end:]):
        raise RemoteProtocolError("PROXY header has a wrong checksum")
