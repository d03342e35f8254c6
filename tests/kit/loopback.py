"""The real Server on real sockets of this machine, in the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.server import Server
from gunicorn_asgi.aio.state import ASGIApp, Policy, ServerState
from gunicorn_asgi.protocol.limits import Limits
from kit.fakes import FakeLog
from kit.message import Response, request
from kit.rig import hello, parse_responses, turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

__all__ = ["Peer", "Serving", "anonymous_tls", "listen", "serving"]

Bind = str | tuple[str, int]


def listen(bind: Bind, kind: type[socket.socket] = socket.socket) -> socket.socket:
    """Make a listening socket as Gunicorn hands it over: bound, listening, not blocking."""
    if isinstance(bind, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
    sock = kind(family)
    sock.bind(bind)
    sock.listen(64)
    sock.setblocking(False)
    return sock


def anonymous_tls(side: int = ssl.PROTOCOL_TLS_SERVER) -> ssl.SSLContext:
    """Make a context that needs no certificate: anonymous Diffie-Hellman, for tests only."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH:@SECLEVEL=0")
    return context


class Peer:
    """A client of the test's own loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over a connection."""
        self.reader = reader
        self.writer = writer
        self.received = b""
        self.ended = False
        self._task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self.reader.read(65536):
                self.received += data
        self.ended = True

    def send(self, data: bytes) -> None:
        """Send."""
        self.writer.write(data)

    async def get(self, path: str = "/") -> Response:
        """Send a GET and read the answer."""
        before = self.received
        self.send(request("GET", path))
        await until(lambda: self.received != before, f"an answer to GET {path}")
        return parse_responses(self.received)[-1]

    async def close(self) -> None:
        """Close."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
        await self._task


class Serving:
    """A Server, its state and its clients."""

    def __init__(self, app: ASGIApp, socks: Iterable[socket.socket], **limits: Any) -> None:
        """Take ``tls`` for the listeners and a ``policy``; the rest is for Limits."""
        self.log = FakeLog()
        self.tls: ssl.SSLContext | None = limits.pop("tls", None)
        policy: Policy = limits.pop("policy", Policy())
        self.state = ServerState(app, self.log, Limits(**limits), policy)
        self.socks = list(socks)
        self.server = Server(self.state, [Listener(sock, self.tls) for sock in self.socks])
        self.peers: list[Peer] = []

    async def connect(self, number: int = 0, *, tls: bool = False) -> Peer:
        """Connect to one of the sockets."""
        sock = self.socks[number]
        options: dict[str, Any] = {}
        if tls:
            options["ssl"] = anonymous_tls(ssl.PROTOCOL_TLS_CLIENT)
        if sock.family == socket.AF_UNIX:
            client = socket.socket(socket.AF_UNIX)
            client.connect(sock.getsockname())  # uvloop takes no abstract names
            streams = await asyncio.open_unix_connection(sock=client, **options)
        else:
            host, port = sock.getsockname()[:2]
            streams = await asyncio.open_connection(host, port, **options)
        peer = Peer(*streams)
        self.peers.append(peer)
        return peer


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp = hello,
    *,
    path: Path | None = None,
    binds: Iterable[Bind] | None = None,
    kind: type[socket.socket] = socket.socket,
    **limits: Any,
) -> AsyncIterator[Serving]:
    """Serve ``app`` until the end of the block; ``path`` is that of a unix socket."""
    chosen = binds if binds is not None else [("127.0.0.1", 0) if path is None else str(path)]
    serving = Serving(app, [listen(bind, kind) for bind in chosen], **limits)
    serving.server.start()
    try:
        yield serving
    finally:
        try:
            await _end(serving)
        finally:
            for sock in serving.socks:
                sock.close()


async def _end(serving: Serving) -> None:
    serving.server.suspend()
    # A connection that was made in this very turn would, on uvloop, never be reported as lost.
    await turns()
    serving.server.stop()
    for task in list(serving.state.tasks):
        task.cancel()
    for peer in serving.peers:
        await peer.close()
    await until(lambda: not (serving.state.connections or serving.state.tasks))
