"""aio/proxied.py: a PROXY header is read off a socket, and not one byte of what follows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from gunicorn_asgi.aio.proxied import read_proxy_header
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.proxy import ProxyHeader, ProxyPolicy
from kit.proxying import CLIENT, SERVER, binary, line, local, tlv, with_checksum
from kit.rig import Rig, both_loops, turns, until

__all__: list[str] = []

AUTO = ProxyPolicy(frozenset({1, 2}))
HEADERS = {
    "line": line(),
    "binary": binary(),
    "large": with_checksum(tlv(0x28, bytes(2000))),
    "local": local(),
}
by_header = pytest.mark.parametrize("name", HEADERS)
by_family = pytest.mark.parametrize("family", ["tcp", "unix"])


class Counting(socket.socket):
    """Counts how often it is read."""

    reads = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Count, and receive."""
        type(self).reads += 1
        return super().recv(size, flags)


@contextlib.contextmanager
def pair(family: str = "tcp") -> Iterator[tuple[socket.socket, Counting]]:
    """A proxy's end of a connection, and ours."""

    class Fresh(Counting):
        reads = 0

    if family == "unix":
        theirs, plain = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            theirs = socket.create_connection(server.getsockname())
            plain, _ = server.accept()
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours = Fresh(fileno=plain.detach())
    ours.setblocking(False)
    with theirs, ours:
        yield theirs, ours


def reading(
    sock: socket.socket, policy: ProxyPolicy = AUTO, timeout: float = 0.0
) -> asyncio.Task[tuple[ProxyHeader | None, bytes]]:
    """Begin to read a header."""
    loop = asyncio.get_running_loop()
    return loop.create_task(read_proxy_header(loop, sock, policy, timeout))


async def rest(sock: socket.socket, size: int) -> bytes:
    """What is left in the socket, once there are so many bytes, and that there are no more."""

    def there() -> int:
        with contextlib.suppress(BlockingIOError):
            return len(sock.recv(65536, socket.MSG_PEEK))
        return 0

    await until(lambda: there() >= size)
    return sock.recv(65536)


@by_header
@by_family
@both_loops
async def test_what_follows_the_header_stays_in_the_socket(family: str, name: str) -> None:
    """The TLS handshake, or the first request, is somebody else's."""
    behind = b"\x16\x03\x01\r\nPROXY" * 100
    with pair(family) as (proxy, sock):
        proxy.sendall(HEADERS[name] + behind)
        header, early = await reading(sock)
        assert header is not None
        assert header.client == (None if name == "local" else CLIENT)
        assert header.server == (None if name == "local" else SERVER)
        assert early == b""
        assert await rest(sock, len(behind)) == behind


@by_header
@by_family
@both_loops
async def test_a_header_may_come_byte_by_byte(family: str, name: str) -> None:
    """And while nothing comes, nothing is done: two looks and one taking for each byte."""
    data = HEADERS[name][:200]
    with pair(family) as (proxy, sock):
        task = reading(sock)
        for at in range(len(data)):
            before = sock.reads
            proxy.sendall(data[at : at + 1])
            await until(lambda before=before: task.done() or sock.reads > before)  # type: ignore[misc]
            await turns(5)
        assert task.done() == (len(data) == len(HEADERS[name]))
        idle = sock.reads
        assert idle <= 4 * len(data)
        await turns(100)
        assert sock.reads == idle
        proxy.sendall(HEADERS[name][200:] + b"G")
        assert (await task)[0] is not None
        assert await rest(sock, 1) == b"G"


@pytest.mark.parametrize(
    ("pieces", "early"),
    [
        ([b"GET / HTTP/1.1\r\n"], b""),
        ([b"PROPFIND / HTTP/1.1\r\n"], b""),
        ([b"PRO", b"PFIND / HTTP/1.1\r\n"], b"PRO"),
        ([b"P", b"R", b"OPFIND"], b"PR"),
        ([b"\r\n", b"\r\nGET / HTTP/1.1\r\n"], b"\r\n"),
        ([b"\r\n\r\n\0\r\nQUIT", b"!\n"], b"\r\n\r\n\0\r\nQUIT"),
        ([b"\x16\x03\x01"], b""),
    ],
    ids=["GET", "PROPFIND", "PRO-PFIND", "P-R-OPFIND", "blank lines", "nearly", "TLS"],
)
@by_family
@both_loops
async def test_what_is_no_header_is_given_back(
    family: str, pieces: list[bytes], early: bytes
) -> None:
    """What was taken before that was certain, and what was not."""
    with pair(family) as (client, sock):
        task = reading(sock)
        for piece in pieces:
            await turns(20)
            before = sock.reads
            client.sendall(piece)
            await until(lambda before=before: sock.reads > before)  # type: ignore[misc]
            await turns(20)
        assert await task == (None, early)
        left = b"".join(pieces)[len(early) :]
        assert await rest(sock, len(left)) == left


@both_loops
async def test_only_the_versions_of_the_policy_are_read() -> None:
    """Gunicorn's proxy_protocol."""
    for versions, data in (({1}, binary()), ({2}, line())):
        with pair() as (proxy, sock):
            proxy.sendall(data)
            assert await reading(sock, ProxyPolicy(frozenset(versions))) == (None, b"")
            assert await rest(sock, len(data)) == data


@pytest.mark.parametrize(
    "data",
    [b"PROXY TCP4 nonsense\r\n", b"PROXY " + b"x" * 101, binary(command=0x2F), binary(length=9000)],
    ids=["line", "endless", "command", "length"],
)
@both_loops
async def test_a_broken_header_is_refused(data: bytes) -> None:
    """Without waiting for more."""
    with pair() as (proxy, sock):
        proxy.sendall(data)
        with pytest.raises(RemoteProtocolError):
            await reading(sock)


@by_family
@both_loops
async def test_a_connection_that_ends_before_its_header_is_over(family: str) -> None:
    """A health check of the simplest sort connects and closes."""
    with pair(family) as (proxy, sock):
        task = reading(sock)
        await turns()
        proxy.close()
        with pytest.raises(ConnectionAbortedError):
            await task


@by_header
@by_family
@both_loops
async def test_a_connection_that_ends_within_its_header_is_refused(family: str, name: str) -> None:
    """Section 2.2: "must also reject incoming connections containing partial headers"."""
    with pair(family) as (proxy, sock):
        proxy.sendall(HEADERS[name][:-1])
        proxy.close()
        with pytest.raises(RemoteProtocolError, match="incomplete: closed by the peer"):
            await reading(sock)


@both_loops
async def test_a_reset_is_an_error_of_the_socket() -> None:
    """It is neither a header nor anybody's fault."""
    with pair() as (proxy, sock):
        task = reading(sock)
        await turns()
        proxy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        proxy.close()
        with pytest.raises(ConnectionResetError):
            await task


@both_loops
async def test_a_silent_connection_is_given_up() -> None:
    """asgi_first_byte_timeout."""
    with pair() as (_, sock), pytest.raises(TimeoutError):
        await reading(sock, timeout=0.02)


@both_loops
async def test_whoever_is_given_up_leaves_nothing_behind() -> None:
    """Neither a reader, for the number of the descriptor is soon another's, nor a timer."""
    rig = Rig()
    loop = rig.state.loop
    for timeout in (0.0, 3600.0):
        with pair() as (_, sock):
            task = loop.create_task(read_proxy_header(loop, sock, AUTO, timeout))
            await turns()
            assert rig.clock.pending == bool(timeout)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
            assert not loop.remove_reader(sock.fileno())
            assert rig.clock.pending == 0


@both_loops
async def test_each_wait_is_only_as_long_as_the_rest_of_the_time() -> None:
    """And its timer is gone when it is over."""
    rig = Rig()
    loop = rig.state.loop
    with pair() as (proxy, sock):
        task = loop.create_task(read_proxy_header(loop, sock, AUTO, 10.0))
        for byte in b"PROX":
            await turns()
            rig.clock.advance(2.0)
            assert rig.clock.pending == 1
            before = sock.reads
            proxy.sendall(bytes((byte,)))
            await until(lambda before=before: sock.reads >= before + 3)  # type: ignore[misc]
        rig.clock.advance(1.9)
        await turns()
        assert not task.done()
        rig.clock.advance(0.2)
        with pytest.raises(RemoteProtocolError, match="incomplete: it took too long"):
            await task


@both_loops
async def test_the_socket_can_be_read_by_a_transport_afterwards() -> None:
    """No reader of ours is left, and both loops take the socket as it is."""
    received = bytearray()

    class Protocol(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.extend(data)

    loop = asyncio.get_running_loop()
    with pair() as (proxy, sock):
        task = reading(sock)
        await turns()
        proxy.sendall(line() + b"first")
        assert (await task)[0] is not None
        transport, _ = await loop.connect_accepted_socket(Protocol, sock)
        await until(lambda: received == b"first")
        proxy.sendall(b", second")
        await until(lambda: received == b"first, second")
        transport.close()
        await turns()
