"""aio/websocket.py: how a WebSocket ends (RFC 6455 section 7), and how it does in a drain."""

from __future__ import annotations

import asyncio

import pytest

from gunicorn_asgi.protocol.errors import ClientDisconnected
from kit.fakes import LoopKind, new_loop
from kit.rig import Message, Receive, Rig, Scope, Send, both_loops, turns, until
from kit.ws import (
    Frame,
    arrived,
    close_frame,
    disconnect,
    frames,
    handshake,
    opened,
    text_frame,
    waiting,
)

__all__: list[str] = []

ACCEPTING = {"type": "websocket.accept"}
# What the log calls the handshake of the kit.
WS = "GET '/ws'"
FAULTS = [
    ValueError("oops"),
    asyncio.CancelledError(),
    SystemExit(3),
    KeyboardInterrupt(),
]


# -- by the client ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        (close_frame(1000), 1000, ""),
        (close_frame(4321, "bye, ü"), 4321, "bye, ü"),
        (close_frame(None), 1005, ""),
    ],
    ids=["code", "code and reason", "neither"],
)
@pytest.mark.parametrize("is_waiting", [False, True])
@both_loops
async def test_close_of_the_client_is_answered_and_delivered(
    is_waiting: bool, frame: bytes, code: int, reason: str
) -> None:
    """RFC 6455 section 5.5.1 and 7.1.5; the server closes TCP first (7.1.1)."""
    rig, client, app = await opened()
    task = asyncio.ensure_future(app.receive())
    if is_waiting:
        await turns()
    client.send(frame)
    (answer,) = await arrived(client)
    assert answer.code == code
    assert await task == disconnect(code, reason)
    await until(lambda: client.ended)
    assert await app.receive() == disconnect(code, reason)
    assert [record.status for record in rig.records] == [101, code]


@both_loops
async def test_messages_before_the_close_are_delivered_first() -> None:
    """In the order in which they came."""
    _, client, app = await opened()
    client.send(text_frame("one") + text_frame("two") + close_frame(1001))
    received = [await app.receive() for _ in range(3)]
    assert [message.get("text") for message in received[:2]] == ["one", "two"]
    assert received[2] == disconnect(1001)


@pytest.mark.parametrize("how", ["leave", "eof"])
@pytest.mark.parametrize("is_waiting", [False, True])
@both_loops
async def test_lost_connection_is_1006(is_waiting: bool, how: str) -> None:
    """RFC 6455 section 7.1.5: no Close frame was received."""
    rig, client, app = await opened()
    task = asyncio.ensure_future(app.receive())
    if is_waiting:
        await turns()
    getattr(client, how)()
    await until(lambda: client.ended)
    assert await task == disconnect(1006)
    assert not rig.state.connections


@both_loops
async def test_connection_lost_before_accept_is_recorded_as_499() -> None:
    """Nobody has answered the handshake."""
    rig, client, app = await waiting()
    client.leave()
    assert await app.receive() == {"type": "websocket.connect"}
    assert await app.receive() == disconnect(1006)
    assert [record.status for record in rig.records] == [499]
    with pytest.raises(ClientDisconnected):
        await app.send(ACCEPTING)


@pytest.mark.parametrize("how", ["leave", "close_frame"])
@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "late"},
        {"type": "websocket.close"},
        ACCEPTING,
        {"type": "websocket.http.response.start", "status": 200},
    ],
    ids=lambda message: message["type"],
)
@both_loops
async def test_send_after_the_end_raises_an_oserror(message: Message, how: str) -> None:
    """WebSocket message format 2.4; each time, and nothing is written."""
    _, client, app = await opened()
    if how == "leave":
        client.leave()
    else:
        client.send(close_frame())
    before = client.received
    for _ in range(2):
        with pytest.raises(ClientDisconnected) as caught:
            await app.send(message)
        assert isinstance(caught.value, OSError)
    assert client.received == before
    assert client.transport.dropped == []


# -- by the application ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ({}, 1000, b""),
        ({"code": 3000, "reason": "enough"}, 3000, b"enough"),
        ({"code": 1001, "reason": None}, 1001, b""),
    ],
)
@both_loops
async def test_close_of_the_application_waits_for_the_clients(
    message: Message, code: int, reason: bytes
) -> None:
    """RFC 6455 section 7.1.2: both halves of the handshake, then TCP."""
    _, client, app = await opened(text_frame("unread"))
    await app.send({"type": "websocket.close", **message})
    (frame,) = await arrived(client)
    assert (frame.code, frame.payload[2:]) == (code, reason)
    assert await app.receive() == disconnect(code, reason.decode())
    with pytest.raises(ClientDisconnected):
        await app.send({"type": "websocket.send", "text": "late"})
    client.send(text_frame("crossing"))
    assert not client.ended
    client.send(close_frame(code))
    await until(lambda: client.ended)
    assert not client.transport.aborted
    assert await arrived(client) == [frame]


@both_loops
async def test_connect_comes_first_although_it_is_over_already() -> None:
    """Who accepts and closes without having received it still gets it, and then the end."""
    _, _, app = await waiting(text_frame("early"))
    await app.send(ACCEPTING)
    await app.send({"type": "websocket.close"})
    assert await app.receive() == {"type": "websocket.connect"}
    assert await app.receive() == disconnect(1000)


@both_loops
async def test_client_that_does_not_answer_our_close_is_cut_off() -> None:
    """Limits.websocket_close."""
    rig, client, app = await opened(websocket_close=10.0)
    await app.send({"type": "websocket.close"})
    rig.clock.advance(9.9)
    await turns()
    assert not client.ended
    rig.clock.advance(0.5)
    await until(lambda: client.ended)
    assert client.transport.aborted


@both_loops
async def test_close_is_read_although_the_queue_was_full() -> None:
    """The answer to our Close is behind the messages that held the socket up."""
    _, client, app = await opened()
    client.send(text_frame("unread") * 200)
    client.transport.chunk = 100
    client.send(text_frame("unread") * 200)
    assert client.transport.inbound
    await app.send({"type": "websocket.close"})
    await until(lambda: not client.transport.inbound)
    client.send(close_frame())
    await until(lambda: client.ended)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda exc: type(exc).__name__)
@both_loops
async def test_application_that_raises_closes_with_1011(fault: BaseException) -> None:
    """WebSocket, "Close"; RFC 6455 section 7.4.1. Not a bare end of TCP."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTING)
        raise fault

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    await until(lambda: client.received and frames(client))
    assert [frame.code for frame in await arrived(client)] == [1011]
    assert [exc for level, _, exc in rig.log.records if level == "error"] == [fault]


@both_loops
async def test_application_that_returns_closes_with_1000() -> None:
    """Who is done need not say so."""
    rig, client, app = await opened()
    app.over.set()
    await until(lambda: frames(client))
    assert [frame.code for frame in await arrived(client)] == [1000]
    assert rig.complaints == []


@both_loops
async def test_application_that_returns_behind_its_close_adds_nothing() -> None:
    """One Close frame."""
    rig, client, app = await opened()
    await app.send({"type": "websocket.close", "code": 4000})
    app.over.set()
    await until(lambda: not rig.state.tasks)
    assert [frame.code for frame in await arrived(client)] == [4000]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("closing", [False, True])
@both_loops
async def test_disconnect_that_comes_back_out_is_no_error(closing: bool, wrapped: bool) -> None:
    """The usual end of an application that only sends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTING)
        try:
            while True:
                await send({"type": "websocket.send", "text": "tick"})
                await asyncio.sleep(0)
        except OSError:
            if wrapped:
                raise RuntimeError("the framework's own") from None
            raise

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    await turns()
    if closing:
        rig.drain()
    else:
        client.leave()
    await until(lambda: not rig.state.tasks)
    assert rig.complaints == []


@both_loops
async def test_error_after_the_end_is_logged() -> None:
    """That nobody listens any more does not make it right."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTING)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        raise KeyError("a bug")

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    await turns()
    client.leave()
    await until(lambda: not rig.state.tasks)
    (line,) = rig.log.lines("error")
    assert line == f"The WebSocket application raised: {rig.named(WS)}"


@both_loops
async def test_application_is_cancelled_some_time_after_the_client_has_left() -> None:
    """asgi_disconnect_grace_period."""
    rig, client, app = await opened(disconnect_grace=3.0)
    client.leave()
    rig.clock.advance(2.9)
    await turns()
    assert app.task is not None
    assert not app.task.done()
    rig.clock.advance(0.2)
    await until(app.task.done)
    assert rig.complaints == []


@both_loops
async def test_application_that_ends_within_the_grace_period_is_not_cancelled() -> None:
    """Its timer goes with it."""
    rig, client, app = await opened()
    client.leave()
    app.over.set()
    await until(lambda: not rig.state.tasks)
    rig.clock.advance(1.0)
    await until(lambda: rig.clock.pending == 0)


@both_loops
async def test_application_that_goes_on_reading_does_not_stop_the_loop() -> None:
    """`while True: await receive()` never suspends by itself; it has to be cancellable."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTING)
        while True:
            await receive()

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    await turns()
    client.leave()
    await turns()
    rig.clock.advance(60)
    await until(lambda: not rig.state.tasks)
    assert rig.complaints == []


def test_application_that_is_closed_after_its_loop_is_left_alone(loop_kind: LoopKind) -> None:
    """At the end of the process the collector closes what never ended: nothing can be sent."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
            await receive()
        except GeneratorExit:
            raise RuntimeError("on the way out") from None

    async def scenario() -> tuple[Rig, asyncio.Task[None]]:
        rig = Rig(app)
        rig.connect().send(handshake())
        await turns()
        (task,) = rig.state.tasks
        return rig, task

    loop = new_loop(loop_kind)
    rig, task = loop.run_until_complete(scenario())
    loop.close()
    coroutine = task.get_coro()
    assert coroutine is not None
    coroutine.close()
    assert rig.log.lines() == []
    task._log_destroy_pending = False  # type: ignore[attr-defined]


# -- in a drain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1001, 1012])
@both_loops
async def test_drain_closes_with_its_code(code: int) -> None:
    """RFC 6455 section 7.4.1: 1001 going away; the IANA registry: 1012 service restart."""
    rig, client, app = await opened(text_frame("unread"))
    rig.drain(code)
    assert [frame.code for frame in await arrived(client)] == [code]
    assert await app.receive() == disconnect(code)
    client.send(close_frame(code))
    await until(lambda: client.ended)
    rig.drain(code)


@both_loops
async def test_drain_wakes_an_application_that_waits() -> None:
    """It can clean up at once."""
    rig, _, app = await opened()
    task = asyncio.ensure_future(app.receive())
    await turns()
    rig.drain(1012)
    assert await task == disconnect(1012)


@pytest.mark.parametrize("early", [b"", text_frame("early")], ids=["nothing", "a message"])
@both_loops
async def test_drain_during_the_handshake_closes_once_it_is_accepted(early: bytes) -> None:
    """A Close frame needs a WebSocket; the application's answer is waited for."""
    rig, client, app = await waiting(early)
    rig.drain(1012)
    await turns()
    assert client.received == b""
    await app.receive()
    await app.send(ACCEPTING)
    assert [frame.code for frame in await arrived(client)] == [1012]
    assert await app.receive() == disconnect(1012)


@both_loops
async def test_drain_that_nears_its_end_tells_who_has_not_accepted() -> None:
    """Whoever still waits for something else in receive() gets disconnect."""
    rig, _, app = await waiting()
    await app.receive()
    task = asyncio.ensure_future(app.receive())
    await turns()
    assert not task.done()
    rig.state.told = True
    (connection,) = rig.state.connections
    connection.tell()
    assert (await task)["type"] == "websocket.disconnect"


@pytest.mark.parametrize("accepted", [False, True])
@both_loops
async def test_application_cancelled_by_the_drain_is_a_warning(accepted: bool) -> None:
    """As with HTTP: 503 if the handshake is unanswered, and no traceback."""
    rig, client, app = await (opened() if accepted else waiting())
    rig.drain(1012)
    assert app.task is not None
    app.task.cancel()
    await until(app.task.done)
    if accepted:
        assert [frame.code for frame in await arrived(client)] == [1012]
    else:
        assert [response.status for response in client.responses()] == [503]
    request_id = app.scope["extensions"]["gunicorn_asgi.request"]["id"]
    cancelled = f"Cancelled at the end of the drain: {WS} (request {request_id})"
    assert rig.log.records == [("warning", cancelled, None)]


@both_loops
async def test_abort_closes_at_once() -> None:
    """The end of the schedule."""
    rig, client, app = await opened()
    (connection,) = rig.state.connections
    connection.flush()
    connection.abort()
    await until(lambda: client.ended)
    assert client.transport.aborted
    assert await app.receive() == disconnect(1006)
    assert await arrived(client) == list[Frame]()
