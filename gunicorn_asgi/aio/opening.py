"""From a socket that was accepted to a connection: PROXY header, TLS handshake, transport."""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
from collections.abc import Callable
from typing import Any

from gunicorn_asgi.aio.http1 import HTTP1Protocol
from gunicorn_asgi.aio.listener import Address, Listener
from gunicorn_asgi.aio.proxied import read_proxy_header
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.proxy import ProxyHeader

__all__ = ["Opening", "PlainOpening", "open_connection"]


class PlainOpening:
    """Makes a connection where nobody has to be waited for, and so without a Task.

    A plain connection is there with the next turn of the loop. A Task for that costs as much again:
    its context, its name, the set of all Tasks, and a turn before its first step. What runs here
    may not ask for the current Task, and the loops do not.
    """

    __slots__ = ("_coroutine", "_done", "_future", "_sock", "_state")

    def __init__(
        self,
        state: ServerState,
        listener: Listener,
        sock: socket.socket,
        done: Callable[[PlainOpening], None],
    ) -> None:
        """``done`` is called with this once there is a connection, or will be none."""
        self._state = state
        self._sock = sock
        self._done = done
        self._future: asyncio.Future[Any] | None = None
        make = functools.partial(HTTP1Protocol, state, listener)
        self._coroutine = state.loop.connect_accepted_socket(make, sock, ssl=None)

    def step(self, _future: asyncio.Future[Any] | None = None) -> None:
        """Begin; and go on when what it waits for is there. Raises nothing, as below."""
        try:
            future: asyncio.Future[Any] = self._coroutine.send(None)
        except StopIteration:
            pass
        except (OSError, asyncio.CancelledError) as exc:
            _failed(self._state, self._sock, exc)
        else:
            self._future = future
            future.add_done_callback(self.step)
            return
        self._future = None
        self._done(self)

    def cancel(self) -> None:
        """As ``Task.cancel()``: what it waits for raises a CancelledError, in the next turn."""
        if self._future is not None:
            self._future.cancel()


# What is not a connection yet, by who makes it one.
Opening = asyncio.Task[None] | PlainOpening


async def open_connection(
    state: ServerState, listener: Listener, sock: socket.socket, address: Address
) -> None:
    """Make a connection of what was accepted, or close it; in any case ``sock`` is taken care of.

    Raises nothing: what goes wrong is the peer's doing, and is logged.
    """
    try:
        proxied, early = None, b""
        if state.proxy.versions:
            sock.setblocking(False)  # else the loops do that
            proxied, early = await _read_header(state, listener, sock, address)
        tls = listener.tls  # that of this very moment
        await state.loop.connect_accepted_socket(
            functools.partial(_make_protocol, state, listener, proxied, early),
            sock,
            ssl=tls,
            **(_tls_times(state.loop, state.limits) if tls is not None else {}),
        )
    except RemoteProtocolError as exc:
        # Without an answer (PROXY protocol, section 2). !r: the text may quote the peer.
        state.totals.refused_connections += 1
        state.refusals.tell("Refused a connection from %s: %r", _name(address), str(exc))
        sock.close()
    except (OSError, UnicodeError, asyncio.CancelledError) as exc:
        # ssl.SSLError is an OSError: a peer that does not speak TLS, or left in between. The
        # loops read the client's certificate for themselves, and one with odd names is too much.
        _failed(state, sock, exc)


def _failed(state: ServerState, sock: socket.socket, exc: BaseException) -> None:
    sock.close()
    state.totals.refused_connections += 1
    state.log.debug("A connection could not be opened: %r", exc)


async def _read_header(
    state: ServerState, listener: Listener, sock: socket.socket, address: Address
) -> tuple[ProxyHeader | None, bytes]:
    """The PROXY header, if there is one and its sender is believed; and bytes of the request."""
    policy = state.proxy
    if not policy.peers.trusts(None if listener.is_unix else str(address[0])):
        if policy.required:
            raise RemoteProtocolError("it is not one of proxy_allow_ips")
        return None, b""
    try:
        header, early = await read_proxy_header(state.loop, sock, policy, state.limits.first_byte)
    except TimeoutError:
        if policy.required:
            raise RemoteProtocolError("it sent no PROXY header in time") from None
        raise
    if header is None and policy.required:
        raise RemoteProtocolError("it sent no PROXY header")
    if early and listener.tls is not None:
        # What was taken is neither's first byte, and cannot be given back.
        raise RemoteProtocolError("it sent neither a PROXY header nor TLS")
    return header, early


class _EarlyProtocol(HTTP1Protocol):
    """A connection whose first bytes were taken in search of a PROXY header.

    They are fed before the transport reads, so that nothing can come in between.
    """

    __slots__ = ("early",)

    early: bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the transport is there."""
        super().connection_made(transport)
        self.data_received(self.early)


def _make_protocol(
    state: ServerState, listener: Listener, proxied: ProxyHeader | None, early: bytes
) -> HTTP1Protocol:
    if not early:
        return HTTP1Protocol(state, listener, proxied)
    protocol = _EarlyProtocol(state, listener, proxied)
    protocol.early = early
    return protocol


def _tls_times(loop: asyncio.AbstractEventLoop, limits: Limits) -> dict[str, float | None]:
    """How long the handshake and the goodbye of TLS may take; None is the loop's own time."""
    times: dict[str, float | None] = {"ssl_handshake_timeout": limits.tls_handshake or None}
    if sys.version_info >= (3, 11) or not isinstance(loop, asyncio.BaseEventLoop):
        times["ssl_shutdown_timeout"] = limits.linger or None
    return times


def _name(address: Address) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix socket"
