"""A listening socket of a worker, and who the two ends of its connections are."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

from gunicorn_asgi.aio.tls import tls_extension
from gunicorn_asgi.protocol.peer import Peer, address_of

if TYPE_CHECKING:
    from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
    from gunicorn_asgi.protocol.proxy import ProxyHeader

__all__ = ["Address", "Listener"]

# What accept(2) says of the peer: a path, mostly empty, on a unix socket.
Address = tuple[Any, ...] | str | bytes


class _Stream(socket.socket):
    """An accepted connection: what kind it is need not be asked.

    ``socket.socket`` makes an enum member whenever it is, which is five times a connection, half a
    microsecond each.
    """

    __slots__ = ()

    type = socket.SOCK_STREAM


class _Stream4(_Stream):
    __slots__ = ()

    family = socket.AF_INET


class _Stream6(_Stream):
    __slots__ = ()

    family = socket.AF_INET6


class _StreamUnix(_Stream):
    __slots__ = ()

    family = socket.AF_UNIX


_KINDS: dict[int, type[_Stream4 | _Stream6 | _StreamUnix]] = {
    kind.family: kind for kind in (_Stream4, _Stream6, _StreamUnix)
}


class Listener:
    """One inherited listening socket.

    Attributes:
        sock: the socket; it stays the caller's, its backlog is never touched.
        tls: the context for its connections, None for plain ones; may be replaced at any time,
            for the connections that are accepted from then on.
        server_cert: the certificate of that context in PEM, for the ASGI TLS extension; None if
            it is not known.
    """

    __slots__ = ("_accept", "_kind", "_path", "server_cert", "sock", "tls")

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLContext | None = None,
        server_cert: str | None = None,
    ) -> None:
        self.sock = sock
        self.tls = tls
        self.server_cert = server_cert
        self._kind = _KINDS.get(sock.family)
        # Of the standard library alone, which has it from Python 3.0 on; see accept().
        self._accept = getattr(sock, "_accept", None) if type(sock) is socket.socket else None
        self._path: str | None = None
        if sock.family == socket.AF_UNIX:
            name = sock.getsockname()
            # An abstract socket's name comes as bytes, with a leading NUL.
            self._path = name.decode("utf-8", "replace") if isinstance(name, bytes) else name

    def accept(self) -> tuple[socket.socket, Address]:
        """Accept one connection, as ``socket.accept()`` does in twice the time.

        Raises:
            OSError: see accept(2).
        """
        if self._accept is None or self._kind is None:
            return self.sock.accept()
        fd, address = self._accept()
        return self._kind(self._kind.family, socket.SOCK_STREAM, 0, fd), address

    @property
    def is_unix(self) -> bool:
        """Whether its clients have no address."""
        return self._path is not None

    def peer(
        self,
        transport: asyncio.BaseTransport,
        policy: ForwardedPolicy,
        proxied: ProxyHeader | None = None,
    ) -> Peer:
        """Both ends of a connection that was accepted here.

        What its PROXY header tells, where it has one, is told of the client and not of the proxy:
        the addresses, and the TLS between these two. ``policy`` says whether the client, as it is
        then known, may have forwarded the requests of others.
        """
        client: tuple[str, int] | None = None
        server: tuple[str, int | None] | None = None
        if proxied is not None and proxied.server is not None:
            client, server = proxied.client, proxied.server
        elif self._path is not None:
            server = (self._path, None)
        else:
            peername = transport.get_extra_info("peername")
            sockname = transport.get_extra_info("sockname")
            client = (peername[0], peername[1]) if peername else None
            server = (sockname[0], sockname[1]) if sockname else None
        tls = self.tls is not None
        extensions: dict[str, dict[str, Any]] = {}
        if tls:
            # The context may have been replaced since the handshake began.
            same = transport.get_extra_info("sslcontext") is self.tls
            extensions["tls"] = tls_extension(transport, self.server_cert if same else None)
        if proxied is not None:
            tls = tls or proxied.tls
            extensions.update(proxied.extensions)
        trusted = self._trusts(policy, client, server)
        return Peer(client, server, tls, trusted, extensions, address_of(client))

    @staticmethod
    def _trusts(
        policy: ForwardedPolicy,
        client: tuple[str, int] | None,
        server: tuple[str, int | None] | None,
    ) -> bool:
        if client is not None:
            return policy.peers.trusts(client[0])
        # None is a unix socket; but a TCP peer that is gone already has no name either.
        return server is not None and server[1] is None and policy.peers.trusts(None)
