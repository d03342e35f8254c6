"""The authority of a URI, which is what a Host field holds (RFC 3986 section 3.2).

A server that does not check it hands ``Host: a/b?c`` to an application that builds URLs from it,
and the path of ``request.url`` is then the client's to choose (CVE-2026-48710).
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

from gunicorn_asgi.protocol.errors import RemoteProtocolError

__all__ = ["is_authority", "split_authority"]

# RFC 3986 3.2.2: reg-name, which an IPv4 address is too; but RFC 9110 4.2.1: not an empty one.
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+\Z")
# No IPvFuture, which nobody has ever used, and no zone: it means something on its own host only.
_IPV6 = re.compile(rb"\[([0-9A-Fa-f:.]+)\]\Z")

# A name in the DNS has 253 characters, a port 6 with its colon. What is longer may be an
# authority all the same, but the cache must not become the peer's memory to fill.
_CACHED = 260


def is_authority(value: bytes) -> bool:
    """Whether ``value`` is ``uri-host [":" port]`` (RFC 9110 section 7.2), host not empty."""
    return _cached(value) if len(value) <= _CACHED else _split(value) is not None


def split_authority(value: bytes) -> tuple[bytes, int | None]:
    """Host, an IPv6 address with its brackets, and port; None if that is left out or empty.

    Raises:
        RemoteProtocolError: no authority.
    """
    parts = _split(value)
    if parts is None:
        raise RemoteProtocolError("malformed authority")
    return parts


@lru_cache(maxsize=1024)
def _cached(value: bytes) -> bool:
    return _split(value) is not None


def _split(value: bytes) -> tuple[bytes, int | None] | None:
    bracket = value.rfind(b"]")
    colon = value.rfind(b":")
    host, port = (value[:colon], value[colon + 1 :]) if colon > bracket else (value, b"")
    if bracket >= 0:
        if not _is_ipv6(host):
            return None
    elif _HOST.match(host) is None:
        return None
    if not port:
        return host, None
    # RFC 3986 3.2.3: *DIGIT, so leading zeros are fine.
    if not port.isdigit() or len(port.lstrip(b"0")) > 5 or int(port[-5:]) > 65535:
        return None
    return host, int(port[-5:])


def _is_ipv6(literal: bytes) -> bool:
    match = _IPV6.match(literal)
    if match is None:
        return False
    try:
        IPv6Address(match[1].decode("ascii"))
    except ValueError:
        return False
    return True
