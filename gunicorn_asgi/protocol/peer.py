"""Who is at the other end of a connection, and whether it is believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["Networks", "Peer", "address_of", "unmapped"]

# So many addresses are remembered with what was found of them: to read one takes 5 us.
_REMEMBERED = 1024


class Peer(NamedTuple):
    """The two ends of a connection.

    Attributes:
        client: address and port of the peer, None on a unix socket.
        server: address and port of our end, or the socket's path and None.
        tls: whether the connection is encrypted.
        trusted: whether the peer may say where a request really came from; Gunicorn's
            ``forwarded_allow_ips``.
        extensions: what the connection adds to "extensions" of its scopes: "tls" and
            "proxy_protocol"; each scope gets shallow copies.
        address: the client as ``address_of()`` tells it.
    """

    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    tls: bool
    trusted: bool = False
    extensions: Mapping[str, dict[str, Any]] = MappingProxyType({})
    address: bytes = b""

    def known(self) -> dict[str, Any]:
        """What the access log can be told of a request that has no scope, as a piece of one."""
        extensions = {name: values.copy() for name, values in self.extensions.items()}
        return {"client": self.client, "server": self.server, "extensions": extensions}


def address_of(client: tuple[str, int] | None) -> bytes:
    """``address:port`` as in a URL, for who shows it; empty without an address."""
    if client is None:
        return b""
    host, port = client
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """``address``, as IPv4 if it is mapped (RFC 4291 section 2.5.5.2).

    A socket for both families calls its IPv4 peers ``::ffff:192.0.2.1``.
    """
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def _unmapped_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


@dataclass(frozen=True)
class Networks:
    """The peers of a setting such as Gunicorn's ``forwarded_allow_ips``.

    Attributes:
        anyone: "*" was among them.
        listed: the networks that were.
    """

    anyone: bool = False
    listed: tuple[IPv4Network | IPv6Network, ...] = ()
    _found: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Networks:
        """Out of addresses, networks in CIDR notation and "*".

        Raises:
            ValueError: an entry is neither, or has bits set behind its prefix, as in Gunicorn.
        """
        names = list(entries)
        listed = tuple(_unmapped_network(ip_network(each)) for each in names if each != "*")
        return cls("*" in names, listed)

    def trusts(self, host: str | None) -> bool:
        """Whether the peer with that address is one of them; None is a unix socket.

        Unix sockets always are, as Gunicorn documents: who may connect there is a matter of
        the file system. "*" trusts everybody, even an address that cannot be read.
        """
        if host is None or self.anyone:
            return True
        found = self._found.get(host)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[host] = self._look_up(host)
        return found

    def _look_up(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return self.lists(address)

    def lists(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether ``address`` is in one of the networks; "*" does not count here."""
        address = unmapped(address)
        # An address of the other family is in no network.
        return any(address in network for network in self.listed)
