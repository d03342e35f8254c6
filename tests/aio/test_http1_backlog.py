"""aio/http1.py: a client that asks and asks, and does not read: what it can make us hold."""

from __future__ import annotations

import pytest

from kit.rig import (
    Client,
    Receive,
    Rig,
    Scope,
    Send,
    both_loops,
    request,
    respond,
    scripted,
    turns,
    until,
)
from kit.wire import websocket_frame

__all__: list[str] = []

TICK = 0.25
LARGE = 200_000
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


class Large:
    """An application whose answers are large; it remembers what it was asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer without reading."""
        self.paths.append(scope["path"])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
        else:
            await respond(send, b"x" * LARGE)


def asking(count: int) -> bytes:
    """So many requests, each for its own path."""
    return b"".join(request("GET", f"/{number}") for number in range(count))


async def deaf(data: bytes, *, together: bool = True) -> tuple[Rig, Client, Large]:
    """Have a client that sends ``data`` and reads nothing."""
    app = Large()
    rig = Rig(app)
    client = rig.connect()
    client.transport.stall()
    for piece in [data] if together else data.splitlines(keepends=True):
        client.send(piece)
        await turns(3)
    await turns()
    return rig, client, app


@pytest.mark.parametrize("together", [True, False])
@both_loops
async def test_answers_that_nobody_reads_do_not_pile_up(together: bool) -> None:
    """Limits.write_buffer: what is asked next waits until the client takes what it has."""
    rig, client, app = await deaf(asking(50), together=together)
    assert client.transport.buffer_size < 2 * LARGE
    assert app.paths == ["/0"]
    assert len(rig.state.tasks) <= 1


@pytest.mark.parametrize("together", [True, False])
@both_loops
async def test_whoever_reads_again_gets_all_of_them_in_order(together: bool) -> None:
    """RFC 9112 9.3.2."""
    _, client, app = await deaf(asking(20), together=together)
    client.transport.catch_up()
    assert (await client.response(20)).body == b"x" * LARGE
    assert app.paths == [f"/{number}" for number in range(20)]
    assert client.transport.is_reading()


@both_loops
async def test_whoever_reads_a_little_gets_the_next_one() -> None:
    """Step by step, with one answer in the buffer all the time."""
    _, client, app = await deaf(asking(5))
    for number in range(1, 5):
        client.transport.drain()
        await turns()
        assert app.paths[-1] == f"/{number}"
        assert len(app.paths) == number + 1


@both_loops
async def test_handshake_waits_for_its_turn_too() -> None:
    """The WebSocket would not know that the transport is full."""
    _, client, app = await deaf(request("GET", "/0") + HANDSHAKE + websocket_frame(1, b"early"))
    assert app.paths == ["/0"]
    client.transport.catch_up()
    await until(lambda: app.paths == ["/0", "/ws"])
    await until(lambda: b"101 Switching Protocols" in client.received)


@both_loops
async def test_handshake_behind_an_answer_that_is_not_read_waits() -> None:
    """It comes in when the answer is long written."""
    _, client, app = await deaf(request("GET", "/0"))
    client.send(HANDSHAKE)
    await turns()
    assert app.paths == ["/0"]
    client.transport.catch_up()
    await until(lambda: app.paths == ["/0", "/ws"])


@pytest.mark.parametrize("how", ["leave", "eof"])
@both_loops
async def test_whoever_leaves_takes_what_waits_with_it(how: str) -> None:
    """It is never begun."""
    rig, client, app = await deaf(asking(3))
    if how == "leave":
        client.leave()
    else:
        client.transport.resume_reading()
        client.eof()
        await turns()
        client.transport.catch_up()
    await until(lambda: client.ended and not rig.state.tasks)
    assert app.paths == ["/0"]
    assert not rig.state.connections


@both_loops
async def test_whoever_never_reads_is_given_up_with_all_it_has_asked() -> None:
    """asgi_write_timeout."""
    rig, client, app = await deaf(asking(3))
    rig.clock.advance(60.0 + TICK)
    await until(lambda: client.ended and not rig.state.tasks)
    assert app.paths == ["/0"]
    assert rig.complaints == ["Aborted a response to 192.0.2.1:50000: it is not taken"]


@both_loops
async def test_request_that_waits_for_its_client_is_not_idle() -> None:
    """A drain does not cut it, and whoever makes room looks for another one."""
    rig, client, _ = await deaf(asking(2))
    assert not client.http.idle
    rig.drain()
    rig.clock.advance(30.0)
    await turns()
    assert not client.transport.closing
    client.http.retire()
    client.transport.catch_up()
    assert not (await client.response(2)).keeps_alive


@both_loops
async def test_malformed_one_behind_them_is_refused_in_its_turn() -> None:
    """After the answers to those before it."""
    rig, client, _ = await deaf(asking(2) + b"nonsense\r\n\r\n")
    assert rig.complaints == []
    client.transport.catch_up()
    await until(lambda: client.transport.eof_written)
    assert [response.status for response in client.responses()] == [200, 200, 400]


@both_loops
async def test_flood_of_requests_is_not_parsed_before_its_turn() -> None:
    """A request of 26 bytes takes a kilobyte once it is parsed."""
    one = b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"
    rig, client, app = await scripted(one * 5000)
    assert not client.transport.is_reading()
    for _ in range(3):
        await app.respond()
        await turns()
    assert rig.counted == 4
    app.over.set()
    client.leave()
    await until(lambda: not rig.state.tasks)
    assert rig.counted == 4


@both_loops
async def test_body_behind_a_request_that_waits_is_its_own() -> None:
    """It is read when its turn comes, and what is behind it after that."""
    data = request("POST", "/1", body=b"one") + request("POST", "/2", body=b"two") * 2
    _, client, app = await scripted(request("GET", "/0") + data)
    bodies = []
    for _ in range(3):
        await app.respond()
        seen = app.task
        await until(lambda seen=seen: app.task is not seen)  # type: ignore[misc]
        bodies.append((await app.receive())["body"])
    assert bodies == [b"one", b"two", b"two"]
    await app.respond()
    assert (await client.response(4)).status == 200
