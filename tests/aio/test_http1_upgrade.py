"""aio/http1.py: the transport is handed over to a WebSocket (RFC 6455, RFC 9110 section 7.8)."""

from __future__ import annotations

import pytest

from gunicorn_asgi.aio.websocket import WebSocketProtocol
from kit.rig import (
    Receive,
    Rig,
    Scope,
    Send,
    both_loops,
    hello,
    request,
    scripted,
    turns,
    until,
)
from kit.ws import ACCEPT, KEY, handshake, parse_frames, text_frame

__all__: list[str] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Greet, and echo text."""
    if scope["type"] == "http":
        await hello(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("early", [b"", text_frame("early")], ids=["alone", "with a frame"])
@both_loops
async def test_handshake_is_answered_in_its_turn(early: bytes, before: int) -> None:
    """Behind requests that are still unanswered; what follows it in the packet is not lost."""
    rig = Rig(app)
    client = rig.connect()
    client.send(request("GET", "/http") * before + handshake() + early)
    await until(lambda: ACCEPT in client.received)
    if not early:
        client.send(text_frame("early"))
    await until(lambda: b"early" in client.received)
    http, _, rest = client.received.partition(b"HTTP/1.1 101 ")
    assert http.count(b"\r\n\r\n/http") == before
    assert [frame.payload for frame in parse_frames(rest.partition(b"\r\n\r\n")[2])] == [b"early"]
    assert rig.counted == before + 1


@both_loops
async def test_nothing_is_read_behind_a_handshake_that_waits() -> None:
    """Frames of the next protocol stay in the kernel until somebody speaks it."""
    rig, client, script = await scripted(request("GET", "/first") + handshake())
    client.send(text_frame("early"))
    assert client.transport.inbound != b""
    assert client.http in rig.state.connections
    await script.respond()
    await until(lambda: script.scope["type"] == "websocket")
    (connection,) = rig.state.connections
    assert isinstance(connection, WebSocketProtocol)
    await script.send({"type": "websocket.accept"})
    await until(lambda: client.transport.inbound == b"")
    assert await script.receive() == {"type": "websocket.connect"}
    assert await script.receive() == {"type": "websocket.receive", "text": "early"}
    client.leave()
    assert not rig.state.connections


@both_loops
async def test_data_that_a_waiting_handshake_could_not_hold_back_is_ignored() -> None:
    """A TLS transport may still deliver what it has decrypted; it is not HTTP."""
    rig, client, script = await scripted(request("GET", "/first") + handshake())
    client.http.data_received(b"\x81\x85nonsense\r\n\r\n")
    await turns()
    assert client.received == b""
    assert rig.complaints == []
    script.over.set()
    await until(lambda: client.transport.eof_written)
    assert [response.status for response in client.responses()] == [500]


@both_loops
async def test_upgrade_to_anything_else_is_ignored() -> None:
    """RFC 9110 section 7.8: "A server MAY ignore a received Upgrade header field"."""
    client = Rig(app).connect()
    fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""}
    client.send(request("GET", "/plain", fields) + request("GET", "/next"))
    assert (await client.response(2)).body == b"/next"


FIELDS = {
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


@pytest.mark.parametrize(
    ("fields", "version", "upgraded"),
    [
        # RFC 6455 4.2.1: an Upgrade and a Connection field "containing" or "including" the token.
        ([("Connection", "Upgrade"), ("Upgrade", "websocket")], "1.1", True),
        ([("upgrade", "WebSocket"), ("connection", "uPGRADE")], "1.1", True),
        ([("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")], "1.1", True),
        ([("Connection", "Upgrade,"), ("Upgrade", ", websocket")], "1.1", True),
        # RFC 9110 5.3: a list may be spread over several lines.
        (
            [("Connection", "keep-alive"), ("Connection", "Upgrade"), ("Upgrade", "websocket")],
            "1.1",
            True,
        ),
        (
            [("Connection", "Upgrade"), ("Connection", "keep-alive"), ("Upgrade", "websocket")],
            "1.1",
            True,
        ),
        ([("Connection", "Upgrade"), ("Upgrade", "h2c, websocket")], "1.1", True),
        ([("Connection", "Upgrade"), ("Upgrade", "websocket, h2c")], "1.1", True),
        ([("Connection", "Upgrade"), ("Upgrade", "h2c"), ("Upgrade", "websocket")], "1.1", True),
        # RFC 9110 7.8: what is no upgrade to WebSocket is a request.
        ([], "1.1", False),
        ([("Upgrade", "websocket")], "1.1", False),
        ([("Connection", "Upgrade")], "1.1", False),
        ([("Connection", "keep-alive"), ("Upgrade", "websocket")], "1.1", False),
        ([("Connection", "Upgrades"), ("Upgrade", "websocket")], "1.1", False),
        ([("Connection", "Upgrade"), ("Upgrade", "websockets")], "1.1", False),
        ([("Connection", "Upgrade"), ("Upgrade", "h2c")], "1.1", False),
        ([("Connection", "Upgrade"), ("Upgrade", "websocket")], "1.0", False),
    ],
    ids=lambda value: ", ".join(f"{n}={v}" for n, v in value) if isinstance(value, list) else None,
)
@both_loops
async def test_upgrade_to_websocket_is_found_in_every_form(
    fields: list[tuple[str, str]], version: str, upgraded: bool
) -> None:
    """In whichever lines and letters; else the request is served without."""
    client = Rig(app).connect()
    client.send(request("GET", "/either", [*fields, *FIELDS.items()], version=version))
    await until(lambda: client.received)
    if upgraded:
        assert client.received.startswith(b"HTTP/1.1 101 ")
        assert ACCEPT in client.received
    else:
        assert (await client.response()).body == b"/either"


@pytest.mark.parametrize("code", [1001, 1012])
@both_loops
async def test_handshake_on_a_draining_connection_is_closed_as_the_others_were(code: int) -> None:
    """An idle connection lives on for Limits.drain_linger; what it becomes must not outlive it."""
    rig = Rig(app)
    client = rig.connect()
    client.get("/http")
    await client.response()
    rig.drain(code)
    client.send(handshake())
    await until(lambda: client.received.partition(b"HTTP/1.1 101 ")[2].partition(b"\r\n\r\n")[2])
    tail = client.received.partition(b"HTTP/1.1 101 ")[2].partition(b"\r\n\r\n")[2]
    assert [frame.code for frame in parse_frames(tail)] == [code]


@both_loops
async def test_slow_reader_is_told_to_the_flow_control() -> None:
    """asyncio's callbacks arrive there."""
    rig = Rig()
    client = rig.connect()
    client.transport.fill()
    assert client.http.flow.write_paused
    client.transport.drain()
    assert not client.http.flow.write_paused


@both_loops
async def test_parser_that_is_lost_in_the_middle_is_released() -> None:
    """Neither connection nor parser waits for the garbage collector."""
    rig = Rig()
    client = rig.connect()
    client.send(b"GET /half")
    client.leave()
    assert not rig.state.connections
    await turns()
    assert rig.complaints == []
