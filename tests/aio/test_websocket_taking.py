"""aio/websocket.py: what the client takes, and has time to take: TCP, FIN and RST behind it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest

from gunicorn_asgi.aio.flow import bytes_taken, takes_more
from kit.fakes import FakeTransport
from kit.loopback import serving
from kit.rig import Client, Rig, Script, both_loops, turns, until
from kit.ws import Frame, arrived, close_frame, half_closed, handshake, opened, text_frame, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__: list[str] = []

OUR_PING = Frame(9, b"")
TICK = 0.3
DENIAL = "websocket.http.response."
# More than a client that does not read has room for, and less than what the kernel keeps for it.
LARGE = 400_000


@contextlib.contextmanager
def tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: our end, and that of a client that has room for little."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            theirs.settimeout(10)
            yield ours, theirs


# -- whether somebody is there ---------------------------------------------------------------------


async def takes(client: Client, sock: socket.socket, size: int) -> None:
    """Let the client read that much, and our kernel hear of it."""
    before = bytes_taken(client.transport, 0)
    while size > 0:
        size -= len(sock.recv(min(size, 65536)))
    await until(lambda: bytes_taken(client.transport, 0) > before, "an acknowledgement")


@both_loops
async def test_client_that_takes_what_the_kernel_holds_is_not_dead() -> None:
    """Our Ping is behind it, in the kernel as well: no Pong can come, but acknowledgements do."""
    with tcp() as (ours, theirs):
        rig, client, _ = await opened(extra={"socket": ours})
        assert ours.send(b"x" * LARGE) == LARGE
        assert client.transport.get_write_buffer_size() == 0
        for _ in range(4):
            rig.clock.advance(20.0)
            assert {frame.opcode for frame in await arrived(client)} <= {9}
            await takes(client, theirs, 40_000)
        assert await arrived(client)
        # It takes no more, and says nothing.
        rig.clock.advance(60.0)
        assert (await arrived(client))[-1].code == 1011


@both_loops
async def test_client_whose_kernel_has_taken_our_ping_has_to_answer() -> None:
    """An acknowledgement alone is no life: the process behind it may hang."""
    with tcp() as (ours, theirs):
        rig, client, _ = await opened(extra={"socket": ours})
        rig.clock.advance(20.0 + TICK)
        assert await arrived(client) == [OUR_PING]
        ours.send(b"\x89\x00")  # what the rig's transport has only kept
        await until(lambda: not takes_more(client.transport))
        assert theirs.recv(2) == b"\x89\x00"
        rig.clock.advance(20.0)
        assert (await arrived(client))[-1].code == 1011


def test_without_tcp_the_transport_is_asked() -> None:
    """On a unix socket, one that is closed, none at all, and on other systems."""
    closed = socket.socket()
    closed.close()
    pair = socket.socketpair()
    pair[0].send(b"unread")
    for sock in (None, closed, pair[0]):
        transport = FakeTransport(extra={"socket": sock})
        assert not takes_more(transport)
        transport.buffer_size = 1
        assert takes_more(transport)
    for each in pair:
        each.close()


# -- one that takes nothing ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("end", ["open", "closed"])
@both_loops
async def test_client_that_is_given_up_is_reset(end: str) -> None:
    """A FIN would wait behind what it does not take, and the kernel would keep that for minutes."""
    app = Script()
    async with serving(app, write=0.2, min_data_rate=10**9) as server:
        with socket.create_connection(server.socks[0].getsockname()) as sock:
            sock.sendall(handshake())
            await until(lambda: app.task)
            await app.send({"type": "websocket.accept"})
            message = {"type": "websocket.send", "bytes": b"x" * 50_000_000}
            sending = asyncio.ensure_future(app.send(message))
            await turns()
            assert not sending.done()
            if end == "closed":
                sock.sendall(close_frame())

            def is_reset() -> bool:
                return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET

            await until(is_reset, "the reset")
            await sending
            (line,) = server.log.lines("warning")
            assert line.startswith("Aborted a WebSocket that does not read: ")


# -- one whose handshake is refused, and that may still be sending ---------------------------------


async def refused(how: str, **limits: Any) -> tuple[Rig, Client]:
    """Answer a handshake with no WebSocket."""
    if how == "server":
        rig = Rig(**limits)
        client = rig.connect()
        client.send(handshake(Sec_WebSocket_Key=None))
        return rig, client
    rig, client, app = await waiting(**limits)
    if how == "application":
        await app.send({"type": "websocket.close"})
    else:
        await app.send({"type": DENIAL + "start", "status": 401})
        await app.send({"type": DENIAL + "body", "body": b"no"})
    await turns()
    return rig, client


every = pytest.mark.parametrize("how", ["server", "application", "denial"])


@every
@both_loops
async def test_client_that_is_refused_may_go_on_sending(how: str) -> None:
    """RFC 9112 9.6: closing with its bytes unread would reset, and destroy the answer."""
    rig, client = await refused(how)
    (response,) = client.responses()
    assert not response.keeps_alive
    for _ in range(4):
        client.send(text_frame("more") * 100)
        rig.clock.advance(1.0)
        await turns()
        assert not client.ended
    await half_closed(client)
    assert client.transport.unread_at_end == b""
    assert len(client.responses()) == len(rig.records) == 1


@every
@both_loops
async def test_client_that_is_refused_and_stays_is_closed(how: str) -> None:
    """asgi_linger_timeout."""
    rig, client = await refused(how, linger=3.0)
    rig.clock.advance(2.9)
    await turns()
    assert not client.ended
    rig.clock.advance(0.1 + TICK)
    await until(lambda: client.ended)
    assert not client.transport.aborted


@both_loops
async def test_what_held_a_refused_client_up_is_let_in() -> None:
    """More than read_buffer had come in before the answer; it is read and thrown away."""
    _, client, app = await waiting(text_frame("x" * 2000), read_buffer=1000)
    client.send(text_frame("y" * 2000))
    client.send(text_frame("z" * 2000))
    assert client.transport.inbound
    await app.send({"type": "websocket.close"})
    await until(lambda: not client.transport.inbound)
    await half_closed(client)
    assert [response.status for response in client.responses()] == [403]


@pytest.mark.slow
@both_loops
async def test_answer_to_a_client_that_goes_on_sending_arrives() -> None:
    """The same on a real socket: no reset, neither before the answer nor behind it."""
    async with serving() as server:
        peer = await server.connect()
        peer.send(handshake(Sec_WebSocket_Key=None))
        await until(lambda: peer.ended)  # we have said FIN
        for _ in range(50):
            peer.send(text_frame("x" * 50_000))
            await turns(5)
        assert not peer.writer.transport.is_closing()
        assert peer.received.startswith(b"HTTP/1.1 400 ")
        assert len(server.state.connections) == 1
        await peer.close()
        await until(lambda: not server.state.connections)
