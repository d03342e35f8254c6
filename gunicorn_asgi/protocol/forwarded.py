"""What a trusted proxy says about the request behind it, and what everybody else may not say.

All of these fields can be made up by any client, so two things have to hold before one counts:
the peer is in Gunicorn's ``forwarded_allow_ips`` (``Peer.trusted``), and the proxy overwrites
the field, or appends to it. Of a list, therefore, only what was appended last is believed: the
right-most member, and of the addresses the right-most one that is not a proxy of our own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from gunicorn_asgi.protocol.authority import is_authority, split_authority
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.peer import Networks, Peer, unmapped
from gunicorn_asgi.protocol.rfc7239 import Element, parse_forwarded

__all__ = ["ForwardedPolicy", "Networks", "Origin", "drop_or_refuse", "origin"]

Client = tuple[str, int]
Headers = list[tuple[bytes, bytes]]

# Hops that are looked at, from the right. Longer chains are made up.
_HOPS = 100
# The longest that can be: a mapped IPv6 address in brackets with a port has 54 characters.
_LONGEST = 64

# RFC 3986 3.3: what a path consists of, and bytes of UTF-8, which not every proxy encodes. No
# comma: of a list, the right-most member counts here as everywhere.
_PREFIX = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+;=:@/\x80-\xff]|%[0-9A-Fa-f]{2})*\Z")
# The same again when decoded: no control characters, no backslash, no second slash in front.
_DECODED_PREFIX = re.compile(r"/(?!/)[^\x00-\x1f\x7f-\x9f\\]*\Z")

_IPV4 = re.compile(r"([0-9.]+)(?::([0-9]{1,5}))?\Z")
# No zone (RFC 4007): it means something on its own host only.
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?\Z|([0-9A-Fa-f:.]+)\Z")
_HIDDEN_PORT = re.compile(r":_[A-Za-z0-9._-]+\Z")

_LOOPBACK = Networks.parse(["127.0.0.1", "::1"])


@dataclass(frozen=True)
class ForwardedPolicy:
    """Whom and what a worker believes; the defaults are Gunicorn's. Names in lower case.

    Attributes:
        peers: the trusted proxies; ``forwarded_allow_ips``.
        secure_schemes: fields and the values that mean https; ``secure_scheme_headers``.
        forwarder_headers: fields with "_" in their names that a trusted proxy may send, b"*" for
            all; ``forwarder_headers``.
        header_map: what happens to all others with "_" in their names; ``header_map``.
        fields: further fields that are believed; ``asgi_forwarded_fields``.
        request_id_field: the field with a request's id; ``asgi_request_id_field``. b"" for no ids.
    """

    peers: Networks = _LOOPBACK
    secure_schemes: dict[bytes, bytes] = field(
        default_factory=lambda: {
            b"x-forwarded-protocol": b"ssl",
            b"x-forwarded-proto": b"https",
            b"x-forwarded-ssl": b"on",
        }
    )
    forwarder_headers: frozenset[bytes] = frozenset({b"script_name", b"path_info"})
    header_map: Literal["drop", "refuse", "dangerous"] = "drop"
    fields: frozenset[bytes] = frozenset()
    request_id_field: bytes = b"x-request-id"

    @cached_property
    def believed(self) -> frozenset[bytes]:
        """Names of the fields that ``origin`` reads."""
        names = set(self.fields)
        if b"forwarded" not in names:
            names |= {b"x-forwarded-for", *self.secure_schemes}
        if self.forwards(b"script_name"):
            names.add(b"script_name")
        return frozenset(names)

    @cached_property
    def noted(self) -> frozenset[bytes]:
        """Names of the fields that the parser has to note."""
        if not self.request_id_field:
            return self.believed
        return self.believed | {self.request_id_field, b"traceparent"}

    def forwards(self, name: bytes) -> bool:
        """Whether a trusted proxy may send ``name``, which has an "_" in it."""
        return name in self.forwarder_headers or b"*" in self.forwarder_headers


class Origin(NamedTuple):
    """Where a request really came from, as far as its proxies tell.

    Attributes:
        client: address and port, 0 if that is unknown; None for an unknown client.
        secure: whether the client spoke https; None if nobody says.
        host: what the Host field said in front of the proxies; None if nobody says.
        root_path: what the proxies have mounted the application on; None if nobody says.
    """

    client: Client | None
    secure: bool | None
    host: bytes | None
    root_path: str | None


def origin(
    head: RequestHead, peer: Peer, policy: ForwardedPolicy, authority: bytes | None = None
) -> Origin:
    """Where a request of a trusted ``peer`` came from.

    X-Forwarded-Port is added to the forwarded host, else to ``authority``, which is the one of
    an absolute-form target, else to the Host field's value.

    Raises:
        RemoteProtocolError: a field that would count has no meaning, or two contradict.
    """
    lines: dict[bytes, list[bytes]] = {}
    believed = policy.believed
    for name, value in head.noted:
        if name in believed:
            lines.setdefault(name, []).append(value)
    client, secure, forwarded_host = peer.client, None, None
    if b"forwarded" in policy.fields:
        if b"forwarded" in lines:
            elements = parse_forwarded(lines[b"forwarded"])
            client, secure, forwarded_host = _by_elements(elements, client, policy.peers)
    else:
        if b"x-forwarded-for" in lines:
            client = _by_addresses(lines[b"x-forwarded-for"], client, policy.peers)
        secure = _secure(lines, policy.secure_schemes)
    if forwarded_host is None and b"x-forwarded-host" in lines:
        forwarded_host = _host(_last(lines[b"x-forwarded-host"]))
    if b"x-forwarded-port" in lines:
        port = _port(_last(lines[b"x-forwarded-port"]))
        https = peer.tls if secure is None else secure
        forwarded_host = _with_port(forwarded_host or authority or _host_of(head), port, https)
    # The one that was named on purpose wins: SCRIPT_NAME is among Gunicorn's defaults.
    mount = lines.get(b"x-forwarded-prefix") or lines.get(b"script_name")
    return Origin(client, secure, forwarded_host, _prefix(_last(mount)) if mount else None)


def drop_or_refuse(headers: Headers, policy: ForwardedPolicy, trusted: bool) -> Headers:
    """The fields that the application may see; Gunicorn's ``header_map``.

    Whoever turns "-" into "_", as CGI does, cannot tell X_Forwarded_For from X-Forwarded-For
    (CVE-2024-45614).

    Raises:
        RemoteProtocolError: there is a field with "_" in its name, and they are refused.
    """
    if policy.header_map == "dangerous":
        return headers
    passed = []
    for pair in headers:
        if b"_" not in pair[0] or (trusted and policy.forwards(pair[0])):
            passed.append(pair)
        elif policy.header_map == "refuse":
            raise RemoteProtocolError("a field name with an underscore")
    return passed


# -- addresses -----------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _hop(text: str) -> tuple[Client, IPv4Address | IPv6Address] | None:
    """An address with or without a port, the first also as text; None if it is neither."""
    address: IPv4Address | IPv6Address
    try:
        match = _IPV4.match(text)
        if match is not None:
            address = IPv4Address(match[1])
        else:
            match = _IPV6.match(text)
            if match is None:
                return None
            address = unmapped(IPv6Address(match[1] or match[3]))
    except ValueError:
        return None
    port = int(match[2] or 0)
    return None if port > 65535 else ((str(address), port), address)


def _by_addresses(lines: list[bytes], client: Client | None, proxies: Networks) -> Client | None:
    """X-Forwarded-For: the right-most address that is not one of the listed proxies.

    "*" believes whoever connects to us, and nobody further away. What is no address ends the
    walk: all that stands to the left of it was written by somebody unknown.
    """
    elements = b",".join(lines).rsplit(b",", _HOPS)
    for element in elements[: -_HOPS - 1 : -1]:
        text = element.strip(b" \t").decode("latin-1")
        hop = _hop(text) if len(text) <= _LONGEST else None
        if hop is None:
            break
        client = hop[0]
        if not proxies.lists(hop[1]):
            break
    return client


def _by_elements(
    elements: list[Element], client: Client | None, proxies: Networks
) -> tuple[Client | None, bool | None, bytes | None]:
    """Forwarded: the walk of X-Forwarded-For along the "for" parameters.

    "proto" and "host" are those of the element at which it ends. That one was written by the
    last proxy that is trusted, even if its "for" is hidden ("unknown", "_name"); what it does
    not say is not looked for elsewhere.
    """
    chosen: Element = {}
    for chosen in elements[: -_HOPS - 1 : -1]:
        # RFC 7239 6.2: a port may be hidden too.
        text = _HIDDEN_PORT.sub("", chosen.get("for", ""))
        hop = _hop(text) if len(text) <= _LONGEST else None
        if hop is None:
            break
        client = hop[0]
        if not proxies.lists(hop[1]):
            break
    host = chosen.get("host")
    return (
        client,
        _proto(chosen.get("proto")),
        None if host is None else _host(host.encode("latin-1")),
    )


# -- everything else -----------------------------------------------------------------------------


def _last(lines: list[bytes]) -> bytes:
    """The member of a list that the nearest proxy has written."""
    return lines[-1].rpartition(b",")[2].strip(b" \t")


def _secure(lines: dict[bytes, list[bytes]], schemes: dict[bytes, bytes]) -> bool | None:
    """As in gunicorn/http/message.py: every field that is there says https or http.

    Two things are added: lists, and "wss", which Traefik calls a WebSocket under TLS.
    """
    said = set()
    for name, expected in schemes.items():
        for line in lines.get(name, ()):
            value = _last([line])
            said.add(value == expected or (value == b"wss" and expected == b"https"))
    if len(said) > 1:
        raise RemoteProtocolError("contradictory scheme fields")
    return said.pop() if said else None


def _proto(proto: str | None) -> bool | None:
    if proto is None:
        return None
    scheme = proto.lower()
    if scheme not in ("http", "https", "ws", "wss"):
        raise RemoteProtocolError("Forwarded with an unknown proto")
    return scheme in ("https", "wss")


def _host(value: bytes) -> bytes:
    if not is_authority(value):
        raise RemoteProtocolError("malformed forwarded host")
    return value


def _host_of(head: RequestHead) -> bytes | None:
    for name, value in head.noted:
        if name == b"host":
            return value
    return None


def _port(value: bytes) -> int:
    if not value.isdigit() or len(value) > 5 or not 1 <= int(value) <= 65535:
        raise RemoteProtocolError("malformed X-Forwarded-Port")
    return int(value)


def _with_port(authority: bytes | None, port: int, https: bool) -> bytes | None:
    if authority is None:
        return None
    host, own = split_authority(authority)
    if own is not None or port == (443 if https else 80):
        return authority
    return b"%b:%d" % (host, port)


def _prefix(value: bytes) -> str:
    """A mount point, decoded as a path is, without a slash at its end; "" for the root.

    Raises:
        RemoteProtocolError: an application would build links to elsewhere out of it.
    """
    if not value:
        return ""
    if _PREFIX.match(value) is None:
        raise RemoteProtocolError("malformed forwarded prefix")
    try:
        path = unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError("malformed forwarded prefix") from None
    if _DECODED_PREFIX.match(path) is None or ".." in path.split("/"):
        raise RemoteProtocolError("malformed forwarded prefix")
    return path.rstrip("/")
