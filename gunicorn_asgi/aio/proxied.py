"""Reading a PROXY header off a socket that nobody else reads yet.

What follows the header is not ours: the TLS handshake, or the first request, is read later and by
someone else. So each byte is looked at first (MSG_PEEK) and then taken if it belongs to the
header. What belongs to it is taken at once, even if the rest is still to come: a socket with
bytes in it is readable, and waiting for more of them would be a busy loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.proxy import MAX_HEADER, ProxyHeader, ProxyPolicy, measure, parse

__all__ = ["read_proxy_header"]


async def read_proxy_header(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    policy: ProxyPolicy,
    timeout: float = 0.0,
) -> tuple[ProxyHeader | None, bytes]:
    """Read the PROXY header in front of what comes in on ``sock``.

    Args:
        loop: the running loop.
        sock: connected, not blocking, without a transport.
        policy: which versions are read; its peers are the caller's matter.
        timeout: seconds for the whole header; 0 is no limit.

    Returns:
        The header, and nothing. Or None, if there is none, and what was taken before that was
        certain: the first bytes of something that begins as a header does.

    Raises:
        RemoteProtocolError: it is broken, or its end did not come.
        OSError: the connection ended, or the time, before the first byte.
    """
    due = loop.time() + timeout if timeout else 0.0
    taken = b""
    try:
        while True:
            peeked = await _peek(loop, sock, due)
            if not peeked:
                raise ConnectionAbortedError("closed by the peer")
            extent = measure(taken + peeked, policy.versions)
            if extent is None:
                return None, taken
            taken += sock.recv(extent.size - len(taken))
            if extent.whole and len(taken) == extent.size:
                return parse(taken), b""
    except (ConnectionAbortedError, TimeoutError) as exc:
        if not taken:
            raise
        raise RemoteProtocolError(f"PROXY header is incomplete: {exc}") from None


async def _peek(loop: asyncio.AbstractEventLoop, sock: socket.socket, due: float) -> bytes:
    while True:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            return sock.recv(MAX_HEADER, socket.MSG_PEEK)
        await _readable(loop, sock.fileno(), due)


async def _readable(loop: asyncio.AbstractEventLoop, fd: int, due: float) -> None:
    waiter: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _wake, waiter)
    timer = loop.call_at(due, _expire, waiter) if due else None
    try:
        await waiter
    finally:
        # A cancelled waiter must leave nothing behind: the number is someone else's soon.
        loop.remove_reader(fd)
        if timer is not None:
            timer.cancel()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError("it took too long"))
