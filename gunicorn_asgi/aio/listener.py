"""A listening socket of a worker, and who the two ends of its connections are."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

from gunicorn_asgi.aio.tls import tls_extension
from gunicorn_asgi.protocol.peer import Peer

if TYPE_CHECKING:
    from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
    from gunicorn_asgi.protocol.proxy import ProxyHeader

__all__ = ["Listener"]


class Listener:
    """One inherited listening socket.

    Attributes:
        sock: the socket; it stays the caller's, its backlog is never touched.
        tls: the context for its connections, None for plain ones; may be replaced at any time,
            for the connections that are accepted from then on.
        server_cert: the certificate of that context in PEM, for the ASGI TLS extension; None if
            it is not known.
    """

    __slots__ = ("_path", "server_cert", "sock", "tls")

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLContext | None = None,
        server_cert: str | None = None,
    ) -> None:
        self.sock = sock
        self.tls = tls
        self.server_cert = server_cert
        self._path: str | None = None
        if sock.family == socket.AF_UNIX:
            name = sock.getsockname()
            # An abstract socket's name comes as bytes, with a leading NUL.
            self._path = name.decode("utf-8", "replace") if isinstance(name, bytes) else name

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
        return Peer(client, server, tls, self._trusts(policy, client, server), extensions)

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
