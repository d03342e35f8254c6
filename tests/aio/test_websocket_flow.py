"""aio/websocket.py: frames gathered into writes, compression, and what the access log is told."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from gunicorn_asgi.aio.state import Policy
from gunicorn_asgi.protocol.accesslog import AccessRecord
from kit.rig import Client, Receive, Rig, Scope, Send, both_loops, turns, until
from kit.wire import websocket_frame
from kit.ws import (
    Frame,
    arrived,
    close_frame,
    frames,
    half_closed,
    handshake,
    opened,
    parse_frames,
    text_frame,
    waiting,
)

__all__: list[str] = []

ACCEPTING = {"type": "websocket.accept"}
DENIAL = "websocket.http.response."
DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}


def text(data: str) -> dict[str, str]:
    """A message."""
    return {"type": "websocket.send", "text": data}


def writes(client: Client) -> list[list[Frame]]:
    """The frames of each write behind the 101."""
    return [parse_frames(data) for data in client.transport.writes[1:]]


# -- one write for each turn -----------------------------------------------------------------------


@both_loops
async def test_what_one_turn_sends_is_one_write() -> None:
    """Messages, answers to Pings and the Close frame, in their order."""
    _, client, app = await opened()
    client.send(websocket_frame(9, b"p"))
    for letter in "abc":
        await app.send(text(letter))
    await app.send({"type": "websocket.close"})
    assert client.transport.writes[1:] == []
    await turns(3)
    (write,) = writes(client)
    assert [frame.opcode for frame in write] == [10, 1, 1, 1, 8]
    assert [frame.payload for frame in write[1:4]] == [b"a", b"b", b"c"]


@both_loops
async def test_each_turn_has_its_own_write() -> None:
    """Nothing waits for a message that may never come."""
    _, client, app = await opened()
    for letter in "abc":
        await app.send(text(letter))
        await turns(3)
    assert writes(client) == [[Frame(1, letter)] for letter in (b"a", b"b", b"c")]


@both_loops
async def test_the_101_and_what_follows_at_once_are_one_write() -> None:
    """A greeting costs no packet of its own."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTING)
        await send(text("hello"))
        await asyncio.Event().wait()

    client = Rig(app).connect()
    client.send(handshake())
    await until(lambda: client.received)
    assert len(client.transport.writes) == 1
    assert frames(client) == [Frame(1, b"hello")]


@both_loops
async def test_much_goes_out_before_the_turn_is_over() -> None:
    """An application that sends without end is bounded by its client, not by its turn."""
    _, client, app = await opened()
    for _ in range(10):
        await app.send(text("x" * 30_000))
    assert [len(write) for write in writes(client)] == [3, 3, 3]
    assert len(await arrived(client)) == 10


@both_loops
async def test_application_that_floods_a_client_is_stopped() -> None:
    """send() waits although every message is small, and the turn is never over."""
    _, client, app = await opened()
    client.transport.stall()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await app.send(text("x" * 100))
            sent += 1

    task = asyncio.ensure_future(flood())
    await turns()
    assert 600 < sent < 1500
    task.cancel()


@both_loops
async def test_what_was_gathered_is_dropped_with_the_connection() -> None:
    """There is nobody to send it to."""
    rig, client, app = await opened()
    await app.send(text("late"))
    client.leave()
    await turns()
    assert writes(client) == []
    assert rig.complaints == []


@pytest.mark.parametrize("own", [False, True], ids=["added", "the application's own"])
@both_loops
async def test_id_of_the_request_is_in_the_101_if_that_is_wanted(own: bool) -> None:
    """asgi_request_id_response."""
    rig, client, app = await waiting(policy=Policy(request_id_response=b"x-request-id"))
    headers = [(b"X-Request-ID", b"mine")] if own else []
    await app.send({**ACCEPTING, "headers": headers})
    await until(lambda: client.received)
    (response,) = client.responses()
    given = app.scope["extensions"]["gunicorn_asgi.request"]["id"].encode()
    assert response.all(b"x-request-id") == [b"mine" if own else given]
    assert len(rig.records) == 1


# -- compression -----------------------------------------------------------------------------------


@both_loops
async def test_messages_are_compressed_both_ways_if_that_was_agreed() -> None:
    """RFC 7692; small ones are not."""
    _, client, app = await opened(headers=DEFLATE)
    assert (
        b"\r\nsec-websocket-extensions: permessage-deflate; server_max_window_bits=12; "
        b"client_max_window_bits=12\r\n"
    ) in client.received.lower()
    stream = zlib.compressobj(wbits=-12)
    payload = stream.compress(b"squeezed " * 100) + stream.flush(zlib.Z_SYNC_FLUSH)
    client.send(websocket_frame(1, payload[:-4], rsv=4))
    assert (await app.receive())["text"] == "squeezed " * 100
    await app.send(text("small"))
    await app.send(text("squeezed " * 100))
    small, large = await arrived(client)
    assert small == Frame(1, b"small")
    assert len(large.payload) < 50
    tail = b"\0\0\xff\xff"
    assert zlib.decompressobj(-12).decompress(large.payload + tail) == b"squeezed " * 100


@both_loops
async def test_without_a_level_nothing_is_compressed() -> None:
    """asgi_ws_deflate_level = 0."""
    _, client, app = await opened(headers=DEFLATE, websocket_deflate_level=0)
    assert b"extensions" not in client.received.lower()
    await app.send(text("x" * 1000))
    assert await arrived(client) == [Frame(1, b"x" * 1000)]


@both_loops
async def test_bomb_is_closed_with_1009() -> None:
    """websocket_max_message_size, of what comes out."""
    _, client, app = await opened(headers=DEFLATE, websocket_message=10_000)
    stream = zlib.compressobj(wbits=-12)
    bomb = stream.compress(bytes(1_000_000)) + stream.flush(zlib.Z_SYNC_FLUSH)
    client.send(websocket_frame(2, bomb[:-4], rsv=4))
    assert [frame.code for frame in await arrived(client)] == [1009]
    assert (await app.receive())["code"] == 1009


# -- the access log --------------------------------------------------------------------------------


def figures(record: AccessRecord) -> tuple[int, int, int]:
    """Messages received and sent, and bytes received."""
    assert record.figures is not None
    return record.figures.received, record.figures.sent, record.figures.bytes_received


@both_loops
async def test_opening_is_told_at_once_and_the_end_with_its_figures() -> None:
    """101 and the close code; seconds since the handshake came in."""
    rig, client, app = await waiting()
    rig.clock.advance(1.0)
    assert rig.records == []
    await app.send({**ACCEPTING, "headers": [(b"x-a", b"b")]})
    (opening,) = rig.records
    assert (opening.status, opening.sent, opening.figures) == (101, 0, None)
    assert opening.headers == [(b"x-a", b"b")]
    assert opening.duration == 1.0
    assert opening.opening
    rig.clock.advance(2.0)
    came = text_frame("one") + websocket_frame(2, b"two") + websocket_frame(9, b"") + close_frame()
    await app.send(text("x" * 200))
    await app.send({"type": "websocket.send", "bytes": b"x"})
    client.send(came)
    _, end = rig.records
    assert (end.status, end.head, end.scope) == (1000, opening.head, app.scope)
    assert end.duration == 3.0
    assert figures(end) == (2, 2, len(came))
    assert end.sent == 204 + 3
    assert not end.opening
    await until(lambda: client.ended)
    assert len(rig.records) == 2


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("client", 4000),
        ("client without a code", 1005),
        ("application", 3000),
        ("fault", 1002),
        ("lost", 1006),
        ("drain", 1012),
    ],
)
@both_loops
async def test_end_is_told_with_its_code(how: str, code: int) -> None:
    """RFC 6455 7.1.5, as the application is told it."""
    rig, client, app = await opened()
    if how == "client":
        client.send(close_frame(4000))
    elif how == "client without a code":
        client.send(close_frame(None))
    elif how == "application":
        await app.send({"type": "websocket.close", "code": 3000})
        client.send(close_frame(3000))
    elif how == "fault":
        client.send(websocket_frame(3, b""))
    elif how == "drain":
        rig.drain(1012)
    if how in ("fault", "lost", "drain"):
        client.leave()
    await until(lambda: client.ended)
    assert [record.status for record in rig.records] == [101, code]
    assert (await app.receive())["code"] == code


@both_loops
async def test_handshake_that_did_not_open_has_one_line() -> None:
    """A denial of the application's, with the bytes of its body."""
    rig, client, app = await waiting()
    await app.send({"type": DENIAL + "start", "status": 401})
    await app.send({"type": DENIAL + "body", "body": b"no"})
    await half_closed(client)
    assert [(each.status, each.sent, each.figures) for each in rig.records] == [(401, 2, None)]
    assert not rig.records[0].opening


@both_loops
async def test_nothing_is_recorded_for_nobody() -> None:
    """Without an access log and hooks."""
    rig, client, app = await waiting()
    rig.state.on_complete = None
    await app.send(ACCEPTING)
    client.leave()
    await turns()
    assert rig.records == []
    assert rig.complaints == []
