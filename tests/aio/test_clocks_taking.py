"""aio/clocks.py: how long a client may take for what it is sent, and whether it is still there."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gunicorn_asgi.aio.flow import bytes_taken
from kit.loopback import Peer, Serving, serving
from kit.rig import (
    Client,
    Message,
    Receive,
    Rig,
    Scope,
    Script,
    Send,
    body,
    both_loops,
    request,
    respond,
    scripted,
    start,
    turns,
    until,
)
from kit.wire import websocket_frame

__all__: list[str] = []

TICK = 0.25
FOR_EVER = 3600.0
LAST = request("GET", "/", {"Connection": "close"})
HANDSHAKE = request(
    "GET",
    "/ws",
    {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
)
STALLED = "Aborted a response to 192.0.2.1:50000: it is not taken"


async def passes(rig: Rig, client: Client, seconds: float) -> None:
    """Assert that the connection is not given up for so long."""
    rig.clock.advance(seconds)
    await turns()
    assert not client.ended


async def is_given_up(rig: Rig, client: Client, seconds: float) -> None:
    """Assert that it is given up ``seconds`` from now, and not before."""
    await passes(rig, client, seconds - 0.01)
    rig.clock.advance(0.01 + TICK)
    await until(lambda: client.ended, f"the end after {seconds} s")
    assert client.transport.aborted


def take(client: Client, size: int) -> None:
    """Let the client take so many bytes, which is not yet all."""
    client.transport.buffer_size -= size
    assert client.transport.buffer_size > client.transport.limits[1]


# -- while the application waits in send() ---------------------------------------------------------


async def stalled(data: bytes = LAST, **limits: Any) -> tuple[Rig, Client, asyncio.Task[None]]:
    """Have an application that sends more than its client takes."""
    rig, client, app = await scripted(data, **limits)
    client.transport.stall()
    await app.send(start())
    sending = asyncio.ensure_future(app.send(body(b"x" * 200_000, True)))
    await turns()
    assert not sending.done()
    return rig, client, sending


@both_loops
async def test_client_that_takes_nothing_is_given_up() -> None:
    """asgi_write_timeout: its connection, and the application's wait; one line says so."""
    rig, client, sending = await stalled(write=10.0)
    await is_given_up(rig, client, 10.0)
    await sending
    assert rig.complaints == [STALLED]
    assert [record.status for record in rig.records] == [499]


@pytest.mark.parametrize(
    ("rate", "enough", "little"), [(100, 1000, 999), (0, 1, 0), (1, 10, 9), (100, 5000, 0)]
)
@both_loops
async def test_client_has_to_take_so_much_in_each_window(
    rate: int, enough: int, little: int
) -> None:
    """asgi_write_timeout and asgi_min_data_rate."""
    rig, client, sending = await stalled(write=10.0, min_data_rate=rate)
    for _ in range(3):
        await passes(rig, client, 9.0)
        take(client, enough)
        await passes(rig, client, 1.0 + TICK)
    take(client, little)
    rig.clock.advance(10.0 + TICK)
    await until(lambda: client.ended)
    await sending


@both_loops
async def test_client_that_has_caught_up_is_not_timed() -> None:
    """A stream may be silent for as long as it likes."""
    rig, client, sending = await stalled(write=10.0)
    await passes(rig, client, 9.0)
    client.transport.catch_up()
    await sending
    await passes(rig, client, FOR_EVER)


@both_loops
async def test_window_begins_when_the_buffer_is_full() -> None:
    """Not with the response: what came before is no business of the client's."""
    rig, client, app = await scripted(LAST, write=10.0)
    client.transport.stall()
    await app.send(start())
    await app.send(body(b"x" * 10_000, True))
    await passes(rig, client, FOR_EVER)
    sending = asyncio.ensure_future(app.send(body(b"x" * 100_000, True)))
    await turns()
    await is_given_up(rig, client, 10.0)
    await sending


@pytest.mark.slow
@both_loops
async def test_client_that_is_given_up_is_reset() -> None:
    """A FIN would wait behind what it does not take, and the kernel would keep that for minutes."""
    script = Script()
    async with serving(script, write=0.2, min_data_rate=10**9) as server:
        with socket.create_connection(server.socks[0].getsockname()) as sock:
            sock.sendall(LAST)
            await until(lambda: script.task)
            await script.send(start())
            sending = asyncio.ensure_future(script.send(body(b"x" * 50_000_000, True)))

            def is_reset() -> bool:
                return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET

            await until(is_reset, "the reset")
            await asyncio.wait([sending])
            assert isinstance(sending.exception(), OSError)


# -- after the last answer -------------------------------------------------------------------------


@both_loops
async def test_answer_that_nobody_takes_does_not_keep_a_connection() -> None:
    """asgi_write_timeout; once all is written the application is long gone."""
    rig, client, app = await scripted(LAST, write=10.0)
    client.transport.stall()
    await app.respond(b"x" * 10_000)
    await turns()
    assert client.transport.closing
    await is_given_up(rig, client, 10.0)
    assert rig.complaints == [STALLED]
    assert [record.status for record in rig.records] == [200]


@both_loops
async def test_last_answer_may_be_taken_slowly() -> None:
    """Progress is what counts, here too."""
    rig, client, app = await scripted(LAST, write=10.0, min_data_rate=100)
    client.transport.stall()
    await app.respond(b"x" * 60_000)
    for _ in range(3):
        await passes(rig, client, 9.0)
        take(client, 1000)
        await passes(rig, client, 1.0 + TICK)
    client.transport.catch_up()
    await until(lambda: client.ended)
    assert not client.transport.aborted
    assert rig.complaints == []


@both_loops
async def test_large_last_answer_that_nobody_takes_is_told_once() -> None:
    """Two clocks have begun at the same moment: send() waits, and the connection is closed."""
    rig, client, app = await scripted(LAST, write=10.0)
    client.transport.stall()
    responding = asyncio.ensure_future(app.respond(b"x" * 200_000))
    await turns()
    await is_given_up(rig, client, 10.0)
    await responding
    assert rig.complaints == [STALLED]


@pytest.mark.parametrize("more", [False, True])
@both_loops
async def test_half_closed_client_that_does_not_read_is_given_up(more: bool) -> None:
    """Its FIN closes the connection, which waits for what is written: not for ever."""
    rig, client, app = await scripted(request(), write=10.0)
    client.transport.stall()
    await app.send(start())
    await app.send(body(b"x" * 50_000, more))
    await turns()
    client.eof()
    await is_given_up(rig, client, 10.0)


@both_loops
async def test_idle_connection_that_does_not_read_is_given_up() -> None:
    """keepalive closes it, and then it is as after a last answer."""
    rig, client, app = await scripted(request(), write=10.0, keep_alive=2.0)
    client.transport.stall()
    await app.respond(b"x" * 10_000)
    await turns()
    rig.clock.advance(2.0)
    assert client.transport.closing
    await is_given_up(rig, client, 10.0)


@pytest.mark.parametrize("more", [True, False])
@both_loops
async def test_without_a_write_timeout_clients_may_take_their_time(more: bool) -> None:
    """asgi_write_timeout is 0: before the end, and after it."""
    rig, client, app = await scripted(LAST, write=0.0)
    client.transport.stall()
    await app.send(start())
    sending = asyncio.ensure_future(app.send(body(b"x" * 100_000, more)))
    await passes(rig, client, FOR_EVER)
    assert client.transport.closing is not more
    assert not sending.done()
    client.transport.catch_up()
    await sending


@pytest.mark.parametrize("end", ["eof", "close frame", "denial"])
@both_loops
async def test_websocket_that_is_over_and_not_read_is_given_up(end: str) -> None:
    """asgi_write_timeout, whoever has ended it; open, less than the high-water mark may wait."""
    rig, client, app = await scripted(HANDSHAKE, write=10.0, websocket_ping_interval=0.0)
    await app.receive()
    if end == "denial":
        client.transport.stall()
        await app.send({"type": "websocket.http.response.start", "status": 403})
        await app.send({"type": "websocket.http.response.body", "body": b"x" * 10_000})
    else:
        await app.send({"type": "websocket.accept"})
        client.transport.stall()
        await app.send({"type": "websocket.send", "bytes": b"x" * 10_000})
        await passes(rig, client, FOR_EVER)
        if end == "eof":
            client.eof()
        else:
            client.send(websocket_frame(8, b"\x03\xe8"))
    await turns()
    if end == "denial":
        assert client.transport.eof_written
        rig.clock.advance(5.0)  # Limits.linger
    assert client.transport.closing
    await is_given_up(rig, client, 10.0)
    assert len(rig.complaints) == 1


# -- what a client has taken -----------------------------------------------------------------------


@both_loops
async def test_what_a_client_takes_out_of_the_kernels_buffers_counts() -> None:
    """A kernel holds megabytes, and takes no more before a good part of these is gone."""
    script = Script()
    async with serving(script) as server:
        sock = socket.create_connection(server.socks[0].getsockname())
        with sock:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, LAST)
            await until(lambda: script.task)
            await script.send(start())
            sending = asyncio.ensure_future(script.send(body(b"x" * 50_000_000, True)))
            (http,) = server.state.connections
            transport = http.transport  # type: ignore[attr-defined]

            def taken() -> int:
                return bytes_taken(transport, 0)

            def left() -> tuple[int, int]:
                return taken(), transport.get_write_buffer_size()

            await steady(left)
            before = taken()
            assert before > 0
            for _ in range(20):
                await loop.sock_recv(sock, 65536)
            await until(lambda: taken() - before > 100_000)
            sending.cancel()


async def steady(measure: Any) -> None:  # noqa: ANN401 - any function
    """Wait until ``measure()`` has not changed for a number of turns."""
    same, last = 0, None
    while same < 200:
        await asyncio.sleep(0)
        now = measure()
        same, last = (same + 1, now) if now == last else (0, now)


def test_without_a_socket_the_transport_is_asked() -> None:
    """And on a unix socket, on one that is closed, and on other systems."""
    from kit.fakes import FakeTransport

    closed = socket.socket()
    closed.close()
    pair = socket.socketpair()
    for sock in (None, closed, pair[0]):
        transport = FakeTransport(extra={"socket": sock})
        transport.buffer_size = 300
        assert bytes_taken(transport, 1000) == 700
    for each in pair:
        each.close()


# -- a client that leaves while its socket is not read ---------------------------------------------


class Deaf:
    """An application that does not read, until it is told that there is nobody any more."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.begun = 0
        self.ask = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer nothing; ask when the test says so."""
        self.begun += 1
        with suppress(OSError):
            await self.ask.wait()
            while not self.messages or self.messages[-1]["type"] != "http.disconnect":
                self.messages.append(await receive())
            await respond(send)


# What is not read while the application works. It has to fit into the kernel: a FIN behind bytes
# for which the window is closed cannot be seen by anybody.
BEHIND = {
    "body": request("POST", "/", {"Content-Length": "9000000"}) + b"x" * 50_000,
    "request": request() * 3,
    "handshake": request() + HANDSHAKE,
}


async def leave(peer: Peer, how: str) -> None:
    """Close, or reset, the connection."""
    if how == "reset":
        option = struct.pack("ii", 1, 0)
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        peer.writer.transport.abort()
    else:
        peer.writer.close()
    await until(lambda: peer.ended)


async def paused(server: Serving, app: Deaf, data: bytes) -> Peer:
    """Connect, and send more than is read."""
    peer = await server.connect()
    peer.send(data)

    def is_paused() -> bool:
        return app.begun == 1 and any(
            each.flow.reading_paused  # type: ignore[attr-defined]
            for each in server.state.connections
        )

    await until(is_paused)
    return peer


@pytest.mark.slow
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("name", BEHIND)
@both_loops
async def test_client_that_leaves_while_it_is_not_read_is_missed(name: str, how: str) -> None:
    """ASGI, "Disconnect"; it is looked for once a second, so the bound is a generous one."""
    app = Deaf()
    async with serving(app, read_buffer=1000, disconnect_grace=FOR_EVER) as server:
        peer = await paused(server, app, BEHIND[name])
        await leave(peer, how)
        await until(lambda: not server.state.connections, "the connection to be given up")
        app.ask.set()
        await until(lambda: not server.state.tasks)
        assert app.messages[-1] == {"type": "http.disconnect"}
        assert app.begun == 1


@pytest.mark.slow
@both_loops
async def test_client_of_a_unix_socket_is_missed_too(tmp_path: Path) -> None:
    """poll(2) knows of both."""
    app = Deaf()
    async with serving(app, path=tmp_path / "s", read_buffer=1000, disconnect_grace=0.0) as server:
        peer = await paused(server, app, BEHIND["body"])
        await leave(peer, "close")
        await until(lambda: not (server.state.connections or server.state.tasks))


@both_loops
async def test_client_that_stays_is_not_missed() -> None:
    """It is only looked for; what it has sent is there when it is asked for."""
    rig, client, app = await scripted(BEHIND["body"], read_buffer=1000)
    assert not client.transport.is_reading()
    await passes(rig, client, FOR_EVER)
    size = 0
    while size < 50_000:
        size += len((await app.receive())["body"])
    assert size == 50_000
