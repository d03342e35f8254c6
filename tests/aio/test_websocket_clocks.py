"""aio/websocket.py: keep-alive, deadlines, control frames a second; a clock set by hand."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gunicorn_asgi.protocol.errors import ClientDisconnected
from kit.rig import Client, Message, Receive, Rig, Scope, Send, both_loops, turns, until
from kit.wire import websocket_frame
from kit.ws import (
    Frame,
    arrived,
    close_frame,
    disconnect,
    half_closed,
    handshake,
    opened,
    text_frame,
    waiting,
)

__all__: list[str] = []

ACCEPTING = {"type": "websocket.accept"}
OUR_PING = Frame(9, b"")
PONG = websocket_frame(10, b"")
# One turn of the sweep that looks at the clocks, and a bit.
TICK = 0.3
HOUR = 3600.0


async def after(rig: Rig, client: Client, seconds: float) -> list[Frame]:
    """What has arrived when so much time has gone by."""
    rig.clock.advance(seconds)
    return await arrived(client)


def text(size: int) -> Message:
    """A message of that size."""
    return {"type": "websocket.send", "text": "x" * size}


# -- Pings -----------------------------------------------------------------------------------------


@both_loops
async def test_silent_client_gets_a_ping() -> None:
    """asgi_ws_ping_interval."""
    rig, client, _ = await opened()
    assert await after(rig, client, 19.9) == []
    assert await after(rig, client, TICK) == [OUR_PING]
    assert await after(rig, client, 19.0) == [OUR_PING]


@pytest.mark.parametrize(
    "data",
    [text_frame("t"), b"\x81", PONG, websocket_frame(9, b"p")],
    ids=["a message", "one byte of one", "a Pong nobody asked for", "a Ping"],
)
@both_loops
async def test_any_byte_ends_the_silence(data: bytes) -> None:
    """The interval begins with it, whenever it came."""
    rig, client, app = await opened()
    rig.clock.advance(13.0)
    client.send(data)
    if data == text_frame("t"):
        await app.receive()
    rig.clock.advance(19.9)
    assert OUR_PING not in await arrived(client)
    assert OUR_PING in await after(rig, client, TICK)


@pytest.mark.parametrize("data", [PONG, b"\x81", text_frame("t")], ids=["a Pong", "a byte", "text"])
@both_loops
async def test_client_that_answers_is_kept_for_ever(data: bytes) -> None:
    """RFC 6455 5.5.3 has the Pong; any byte shows as well that somebody is there."""
    rig, client, _ = await opened()
    for count in range(1, 6):
        pings = await after(rig, client, 20.0 + TICK)
        assert pings == [OUR_PING] * count
        client.send(data if count == 1 else PONG)
        if data == b"\x81":
            data = PONG
            client.send(b"\x80key!")  # the rest of an empty text
    assert not client.ended
    assert client.transport.eof_written is False


@both_loops
async def test_client_that_does_not_answer_is_closed() -> None:
    """asgi_ws_ping_timeout: 1011 for the client, 1006 for the application (RFC 6455 7.1.5)."""
    rig, client, app = await opened()
    task = asyncio.ensure_future(app.receive())
    assert await after(rig, client, 20.0 + TICK) == [OUR_PING]
    assert await after(rig, client, 19.5) == [OUR_PING]
    assert not task.done()
    ping, close = await after(rig, client, 2 * TICK)
    assert (ping, close.code) == (OUR_PING, 1011)
    assert close.payload[2:] == b"keepalive ping timeout"
    assert await task == disconnect(1006)
    with pytest.raises(ClientDisconnected):
        await app.send(text(1))
    assert client.transport.eof_written
    assert not client.ended
    client.send(PONG)  # too late
    assert await after(rig, client, 4.0) == [ping, close]
    assert not client.ended
    rig.clock.advance(2.0)  # Limits.linger
    await until(lambda: client.ended)
    assert [record.status for record in rig.records] == [101, 1006]
    assert rig.complaints == []


@both_loops
async def test_pings_go_on_at_their_interval_however_long_the_timeout() -> None:
    """A proxy in between closes what is silent for longer, whatever we would wait for."""
    rig, client, _ = await opened(websocket_ping_interval=2.0, websocket_ping_timeout=60.0)
    for count in range(1, 6):
        assert await after(rig, client, 2.0 + TICK) == [OUR_PING] * count
        client.send(PONG)
    assert not client.ended


@pytest.mark.parametrize("interval", [2.0, 7.0, 59.0])
@both_loops
async def test_a_timeout_longer_than_the_interval_is_waited_for(interval: float) -> None:
    """One Ping is enough for somebody who does not answer."""
    rig, client, _ = await opened(websocket_ping_interval=interval, websocket_ping_timeout=60.0)
    assert await after(rig, client, interval + TICK) == [OUR_PING]
    for _ in range(59):
        assert await after(rig, client, 1.0) == [OUR_PING]
    ping, close = await after(rig, client, 1.0 + TICK)
    assert (ping, close.code) == (OUR_PING, 1011)


@both_loops
async def test_without_an_interval_nobody_is_asked() -> None:
    """0 is off."""
    rig, client, _ = await opened(websocket_ping_interval=0.0)
    assert await after(rig, client, HOUR) == []
    assert not client.ended


@both_loops
async def test_without_a_timeout_nobody_is_closed() -> None:
    """0 is off: Pings go on, for the proxies in between."""
    rig, client, _ = await opened(websocket_ping_timeout=0.0)
    assert await after(rig, client, 200.0 + 10 * TICK) == [OUR_PING] * 10
    assert not client.ended


@both_loops
async def test_ping_goes_out_at_once_behind_what_was_gathered() -> None:
    """In its order."""
    rig, client, app = await opened()
    await app.send(text(1))
    rig.clock.advance(20.0 + TICK)
    assert client.received.endswith(b"\x81\x01x\x89\x00")


# -- no false alarm --------------------------------------------------------------------------------


@both_loops
async def test_client_whose_bytes_we_do_not_read_is_not_dead() -> None:
    """An application that does not receive holds the socket up; its client's Pongs are behind."""
    rig, client, app = await opened(text_frame("x" * 70_000))
    client.send(text_frame("behind"))
    assert client.transport.inbound
    frames = await after(rig, client, 200.0)
    assert {frame.opcode for frame in frames} == {9}
    assert not client.transport.eof_written
    assert len((await app.receive())["text"]) == 70_000
    assert (await app.receive())["text"] == "behind"
    await turns()
    assert not client.transport.inbound
    # From now on it counts.
    assert (await after(rig, client, 41.0))[-1].code == 1011


@both_loops
async def test_client_whose_bytes_wait_in_the_kernel_is_not_dead() -> None:
    """The loop was busy: the Pong is there, and nobody has had the time to read it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rig, client, _ = await opened(extra={"socket": ours})
        rig.clock.advance(20.0 + TICK)
        theirs.send(PONG)
        assert {frame.opcode for frame in await after(rig, client, 60.0)} == {9}
        ours.recv(100)
        assert (await after(rig, client, 41.0))[-1].code == 1011


@both_loops
async def test_client_that_takes_a_large_message_slowly_is_not_dead() -> None:
    """The Ping is behind it; as long as it takes some of it, somebody is there."""
    rig, client, app = await opened()
    client.transport.stall()
    await app.send(text(60_000))
    await turns()
    for _ in range(20):
        rig.clock.advance(10.0)
        client.transport.buffer_size -= 2000
    assert not client.transport.eof_written
    frames = await arrived(client)
    assert {frame.opcode for frame in frames} == {1, 9}
    # It takes no more, and says nothing.
    assert (await after(rig, client, 41.0))[-1].code == 1011


@both_loops
async def test_loop_that_was_stuck_for_longer_than_the_timeout_asks_first() -> None:
    """Nobody is closed for a time in which nobody was asked."""
    rig, client, _ = await opened()
    rig.clock.now += 100.0
    assert await after(rig, client, TICK) == [OUR_PING]
    client.send(PONG)
    assert await after(rig, client, 19.0) == [OUR_PING]


# -- the closing handshake -------------------------------------------------------------------------


@both_loops
async def test_client_that_goes_on_sending_does_not_put_the_end_off() -> None:
    """Limits.websocket_close is for all of the closing handshake."""
    rig, client, app = await opened(websocket_close=10.0)
    await app.send({"type": "websocket.close"})
    for _ in range(9):
        client.send(text_frame("crossing") + PONG)
        rig.clock.advance(1.0)
    await turns()
    assert not client.ended
    client.send(text_frame("crossing"))
    rig.clock.advance(1.0 + TICK)
    await until(lambda: client.ended)
    assert client.transport.aborted


@both_loops
async def test_closing_connection_gets_no_pings() -> None:
    """RFC 6455 5.5.1: "The application MUST NOT send any more data frames" behind its Close."""
    rig, client, app = await opened(websocket_close=100.0)
    await app.send({"type": "websocket.close"})
    assert [frame.code for frame in await after(rig, client, 90.0)] == [1000]


@pytest.mark.parametrize("extra", [{}, {"sslcontext": object()}], ids=["TCP", "TLS"])
@both_loops
async def test_client_that_broke_a_rule_and_stays_is_closed(extra: dict[str, object]) -> None:
    """asgi_linger_timeout, whatever it goes on sending; TLS has no half to close."""
    rig, client, _ = await opened(extra=extra)
    client.send(websocket_frame(3, b""))
    for _ in range(8):
        assert [frame.code for frame in await after(rig, client, 0.5)] == [1002]
        client.send(text_frame("more"))
    assert client.transport.eof_written is not bool(extra)
    rig.clock.advance(0.9)
    await turns()
    assert not client.ended
    rig.clock.advance(0.1 + TICK)
    await until(lambda: client.ended)
    assert not client.transport.aborted


@pytest.mark.parametrize("broken", [True, False], ids=["a broken frame", "a refused handshake"])
@both_loops
async def test_client_over_tls_need_not_wait_for_our_end_once_it_is_silent(broken: bool) -> None:
    """RFC 6455 7.1.1: it waits for the server's, and FIN cannot be said before."""
    tls = {"sslcontext": object()}
    if broken:
        rig, client, _ = await opened(extra=tls)
        client.send(websocket_frame(3, b""))
    else:
        rig = Rig()
        client = rig.connect(extra=tls)
        client.send(handshake(Sec_WebSocket_Key=None))
    rig.clock.advance(0.7)
    await turns()
    client.send(close_frame())
    rig.clock.advance(0.9)
    await turns()
    assert not client.ended
    rig.clock.advance(0.1 + TICK)
    await until(lambda: client.ended)
    assert not client.transport.aborted


@both_loops
async def test_fault_is_told_although_the_application_does_not_receive() -> None:
    """Limits.websocket_close: what came before is not waited for without end."""
    rig, client, app = await opened(text_frame("unread") + websocket_frame(3, b""))
    client.send(text_frame("more"))
    assert await after(rig, client, 9.0) == []
    (close,) = await after(rig, client, 1.0 + TICK)
    assert close.code == 1002
    assert await app.receive() == disconnect(1002, "unknown opcode 3")
    with pytest.raises(ClientDisconnected):
        await app.send(text(1))


@both_loops
async def test_client_that_does_not_take_our_end_is_cut_off() -> None:
    """Clock.CLOSE, as for HTTP: what waits for it has asgi_write_timeout to be taken."""
    rig, client, app = await opened()
    client.transport.stall()
    await app.send(text(1000))
    client.send(close_frame())
    assert (await app.receive())["code"] == 1000
    await turns()
    assert client.transport.closing
    rig.clock.advance(59.0)
    await turns()
    assert not client.ended
    rig.clock.advance(1.0 + TICK)
    await until(lambda: client.ended)
    assert client.transport.aborted


# -- writing ---------------------------------------------------------------------------------------


@both_loops
async def test_client_that_does_not_read_is_aborted() -> None:
    """asgi_write_timeout, told in the log; the application's send() ends."""
    rig, client, app = await opened(write=60.0, websocket_ping_interval=0.0)
    client.transport.stall()
    task = asyncio.ensure_future(app.send(text(100_000)))
    await turns()
    rig.clock.advance(59.0)
    await turns()
    assert not task.done()
    rig.clock.advance(1.0 + TICK)
    await until(lambda: client.ended)
    assert client.transport.aborted
    await task
    with pytest.raises(ClientDisconnected):
        await app.send(text(1))
    (line,) = rig.complaints
    assert line.startswith("Aborted a WebSocket that does not read: GET '/ws'")


@both_loops
async def test_client_that_reads_slowly_is_kept() -> None:
    """asgi_min_data_rate: 240 bytes a second are enough."""
    rig, client, app = await opened(write=60.0, websocket_ping_interval=0.0)
    client.transport.stall()
    task = asyncio.ensure_future(app.send(text(200_000)))
    await turns()
    for _ in range(5):
        client.transport.buffer_size -= 15_000
        rig.clock.advance(60.0 + TICK)
    assert not client.ended
    client.transport.catch_up()
    await task
    rig.clock.advance(HOUR)
    assert not client.ended


# -- the opening handshake -------------------------------------------------------------------------


@both_loops
async def test_handshake_that_is_not_answered_in_time_is_504() -> None:
    """asgi_request_timeout; the application is cancelled."""
    rig, client, app = await waiting(request=5.0)
    rig.clock.advance(4.9)
    await turns()
    assert client.received == b""
    rig.clock.advance(TICK)
    await half_closed(client)
    assert [response.status for response in client.responses()] == [504]
    assert app.task is not None
    await until(app.task.done)
    assert app.task.cancelled() or app.task.exception() is None
    assert [record.status for record in rig.records] == [504]
    name = f"GET '/ws' (request {app.scope['extensions']['gunicorn_asgi.request']['id']})"
    assert rig.complaints == [f"Not accepted within asgi_request_timeout: {name}"]


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.http.response.start"])
@both_loops
async def test_handshake_that_is_answered_in_time_has_no_limit_more(kind: str) -> None:
    """A WebSocket may last; a denial has the write clock."""
    rig, client, app = await waiting(request=5.0)
    await app.send({"type": kind, "status": 403})
    rig.clock.advance(15.0)
    await turns()
    assert not client.ended
    assert rig.complaints == []


# -- control frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [9, 10], ids=["Ping", "Pong"])
@both_loops
async def test_flood_of_control_frames_is_1008(opcode: int) -> None:
    """Limits.websocket_control_rate: the application sees nothing of them."""
    _, client, app = await opened(websocket_control_rate=10)
    one = websocket_frame(opcode, b"p")
    client.send(one * 10)
    assert 8 not in {frame.opcode for frame in await arrived(client)}
    client.send(one)
    close = (await arrived(client))[-1]
    assert (close.code, close.payload[2:]) == (1008, b"too many control frames")
    assert await app.receive() == disconnect(1008, "too many control frames")
    client.send(close_frame(1008))
    await until(lambda: client.ended)


@both_loops
async def test_flood_in_one_read_is_1008_after_a_quiet_hour_too() -> None:
    """What was sent before does not earn it."""
    rig, client, _ = await opened(websocket_control_rate=10, websocket_ping_interval=0.0)
    for _ in range(5):
        client.send(PONG)
        rig.clock.advance(720.0)
    client.send(PONG * 10)
    assert await arrived(client) == []
    rig.clock.advance(720.0)
    client.send(PONG * 11)
    assert [frame.code for frame in await arrived(client)] == [1008]


@both_loops
async def test_so_many_a_second_are_no_flood() -> None:
    """For as long as one likes."""
    rig, client, _ = await opened(websocket_control_rate=10)
    for _ in range(50):
        client.send(PONG * 10)
        rig.clock.advance(1.0)
    assert await arrived(client) == []


@both_loops
async def test_without_a_rate_nothing_is_counted() -> None:
    """0 is off."""
    _, client, _ = await opened(websocket_control_rate=0)
    client.send(websocket_frame(9, b"") * 5000)
    assert await arrived(client) == [Frame(10, b"")] * 5000


@both_loops
async def test_client_that_asks_and_does_not_read_is_read_no_more() -> None:
    """Else its answers would be all ours to hold."""
    _, client, app = await opened(websocket_control_rate=0)
    client.transport.stall()
    client.transport.chunk = 6000
    asking = websocket_frame(9, b"x" * 100) * 5000
    client.send(asking)
    await until(lambda: client.transport.reading is False)
    await turns()
    assert client.transport.buffer_size < 100_000
    assert len(client.transport.inbound) > len(asking) // 2
    client.transport.catch_up()
    await until(lambda: not client.transport.inbound)
    assert len(await arrived(client)) == 5000
    client.send(text_frame("and on"))
    assert (await app.receive())["text"] == "and on"


# -- who is served by whom -------------------------------------------------------------------------


@both_loops
async def test_application_that_never_receives_keeps_its_client() -> None:
    """A feed that only sends: Pings and Pongs are none of its business."""

    async def feed(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTING)
        await asyncio.Event().wait()

    rig = Rig(feed)
    client = rig.connect()
    client.send(handshake())
    await until(lambda: client.received)
    for count in range(1, 10):
        assert await after(rig, client, 20.0 + TICK) == [OUR_PING] * count
        client.send(PONG)
    assert not client.ended
