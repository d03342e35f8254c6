"""aio/cycle.py: send() of one request, and the record of it (ASGI HTTP message format 2.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gunicorn_asgi.aio.state import Policy
from gunicorn_asgi.protocol.errors import ClientDisconnected
from kit.rig import (
    Message,
    Receive,
    Rig,
    Scope,
    Send,
    body,
    both_loops,
    hello,
    request,
    respond,
    scripted,
    start,
    turns,
    until,
)

__all__: list[str] = []

# -- send: what is written -------------------------------------------------------------------------


@both_loops
async def test_simple_response_is_one_write() -> None:
    """Head, framing and body together: one system call, one packet."""
    rig = Rig(hello)
    client = rig.connect()
    client.get("/path")
    response = await client.response()
    assert (response.status, response.body) == (200, b"/path")
    assert response.header("content-length") == b"5"
    assert len(client.transport.writes) == 1


@both_loops
async def test_stream_without_suspension_is_gathered() -> None:
    """100 small messages of one turn leave in one write, as 100 chunks."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for number in range(100):
            await send(body(b"%d;" % number, True))
        await send(body())

    client = Rig(app).connect()
    client.get()
    response = await client.response()
    assert response.body == b"".join(b"%d;" % number for number in range(100))
    assert len(response.chunks) == 100
    assert len(client.transport.writes) == 1


@both_loops
async def test_stream_with_suspension_leaves_as_it_is_sent() -> None:
    """An event of a stream is not held back until the next one."""
    _, client, app = await scripted(request())
    await app.send(start())
    await turns()
    assert client.received == b""  # so that an error may still become a 500
    for number in range(3):
        await app.send(body(b"data: %d\n\n" % number, True))
        await turns()
        assert client.received.endswith(b"data: %d\n\n\r\n" % number)
    assert len(client.transport.writes) == 3


@both_loops
async def test_large_piece_of_a_stream_leaves_complete() -> None:
    """Slices of a chunked body are chunks."""
    data = bytes(range(256)) * 4096

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(data, True))
        await send(body(b"end"))

    client = Rig(app).connect()
    client.get()
    assert (await client.response()).body == data + b"end"


@pytest.mark.parametrize("data", [b"x" * 100_000, b"x" * 1_000_000], ids=["small", "sliced"])
@both_loops
async def test_slow_reader_pauses_send(data: bytes) -> None:
    """Core, send(): back-pressure; memory is bounded by Limits.write_buffer and one message.

    A large one is not copied where it is held whole: test_cycle_large.py.
    """
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start(headers=[(b"content-length", b"%d" % (20 * len(data)))]))
        for number in range(20):
            await send(body(data, number < 19))
            sent += 1

    client = Rig(app).connect()
    client.transport.stall()
    client.get()
    await turns()
    assert sent <= 1
    assert client.transport.buffer_size <= 65536 + len(data)
    client.transport.catch_up()
    assert len((await client.response()).body) == 20 * len(data)
    assert sent == 20


@pytest.mark.parametrize("data", [b"x" * 100_000, b"x" * 1_000_000], ids=["small", "sliced"])
@both_loops
async def test_send_that_waits_for_a_slow_reader_ends_when_the_client_leaves(data: bytes) -> None:
    """The application is let go at once, and learns it from the exception."""
    _, client, app = await scripted(request())
    client.transport.stall()
    await app.send(start())
    waiting = asyncio.ensure_future(app.send(body(data, True)))
    await turns()
    assert not waiting.done()
    client.leave()
    results = await asyncio.gather(waiting, app.send(body(b"more")), return_exceptions=True)
    assert isinstance(results[1], ClientDisconnected)


@pytest.mark.parametrize(
    ("method", "status", "headers", "length"),
    [
        ("HEAD", 200, [], b"4"),
        ("HEAD", 200, [(b"content-length", b"99")], b"99"),
        ("GET", 204, [(b"content-length", b"4")], None),
        ("GET", 304, [(b"content-length", b"99")], b"99"),
        ("GET", 304, [], None),
    ],
)
@pytest.mark.parametrize("more", [False, True])
@both_loops
async def test_response_that_has_no_body_gets_none(
    method: str,
    status: int,
    headers: list[tuple[bytes, bytes]],
    length: bytes | None,
    more: bool,
) -> None:
    """RFC 9110 section 6.4.1: its bytes would be taken for the next response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/next":
            await hello(scope, receive, send)
            return
        await send(start(status, headers))
        await send(body(b"body", more))
        if more:
            await send(body(b""))

    rig = Rig(app)
    client = rig.connect()
    client.send(request(method) + request("GET", "/next"))
    await until(lambda: client.received.endswith(b"/next"))
    first, second = client.responses(method)
    assert (first.status, first.body, second.body) == (status, b"", b"/next")
    if headers or not more:
        assert first.header("content-length") == length
    assert rig.records[0].sent == 0


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@both_loops
async def test_body_may_be_any_kind_of_bytes(kind: Callable[[bytes], Any]) -> None:
    """The specification says byte string; aiofiles and others hand over buffers."""
    client = Rig(lambda scope, receive, send: respond(send, kind(b"bytes"))).connect()
    client.get()
    assert (await client.response()).body == b"bytes"


@both_loops
async def test_defaults_of_messages_are_those_of_the_specification() -> None:
    """HTTP, "Response Start" and "Response Body": headers, body and more_body may be left out."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201, "unknown": "ignored"})
        await send({"type": "http.response.body"})

    client = Rig(app).connect()
    client.get()
    response = await client.response()
    assert (response.status, response.body) == (201, b"")


@pytest.mark.parametrize("message", [start(), body(b"more"), {"type": "http.nonsense"}])
@both_loops
async def test_messages_behind_a_complete_response_are_ignored(message: Message) -> None:
    """HTTP, "Response Body": "any further messages on the channel will be ignored"."""
    _, client, app = await scripted(request())
    await app.respond()
    await app.send(message)
    await turns()
    assert len(client.responses()) == 1


@both_loops
async def test_http_1_0_gets_no_chunks() -> None:
    """RFC 9112 section 6.1: the end of such a body is the end of the connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"one", True))
        await send(body(b"two"))

    client = Rig(app).connect()
    client.get(version="1.0")
    await until(lambda: client.ended)
    (response,) = client.responses()
    assert (response.version, response.framing, response.body) == ("1.0", "close", b"onetwo")


# -- the record ------------------------------------------------------------------------------------


@both_loops
async def test_exchange_is_recorded_once_with_what_was_sent() -> None:
    """The access log: after the response, with its bytes and its time."""
    rig, client, app = await scripted(request("GET", "/path"))
    rig.clock.now += 1.5
    await respond(app.send, b"12345", 201, [(b"x-a", b"b")])
    await client.response()
    client.leave()
    (record,) = rig.records
    assert (record.status, record.sent, record.duration) == (201, 5, 1.5)
    assert record.headers == [(b"x-a", b"b")]
    assert record.scope is app.scope
    assert record.head.target == b"/path"


@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_client_that_left_is_recorded_as_499(begun: bool) -> None:
    """nginx's code; what had been sent counts."""
    rig, client, app = await scripted(request())
    if begun:
        await app.send(start())
        await app.send(body(b"123", True))
    client.leave()
    app.over.set()
    await until(lambda: not rig.state.tasks)
    assert [(record.status, record.sent) for record in rig.records] == [(499, 3 if begun else 0)]


@both_loops
async def test_nobody_need_record() -> None:
    """on_complete and on_request cost nothing where they are None."""
    rig = Rig()
    rig.state.on_complete = None
    client = rig.connect()
    client.get()
    assert (await client.response()).status == 200


@both_loops
async def test_request_is_announced_before_the_application_runs() -> None:
    """Gunicorn's pre_request."""
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        order.append("app")
        await respond(send)

    rig = Rig(app)
    rig.state.on_request = lambda head, scope: order.append(head.method + scope["path"])
    client = rig.connect()
    client.get("/a")
    await client.response()
    assert order == ["GET/a", "app"]


@pytest.mark.parametrize("field", [b"", b"x-request-id"], ids=["alone", "with an id"])
@pytest.mark.parametrize("headers", [[5], [(b"a",)], [(b"a", b"b", b"c")]], ids=repr)
@both_loops
async def test_headers_that_are_no_pairs_are_the_applications_mistake(
    headers: list[object], field: bytes
) -> None:
    """With and without an access log, with and without a field of ours behind them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    for logged in (True, False):
        rig = Rig(app, policy=Policy(request_id_response=field))
        if not logged:
            rig.state.on_complete = None
        client = rig.connect()
        client.get()
        assert (await client.response()).status == 500
        (line,) = rig.complaints
        assert line.startswith("The application raised LocalProtocolError")


@both_loops
async def test_the_applications_own_list_of_headers_is_left_alone() -> None:
    """It may send the same one again; a request's id is not its."""
    headers = [(b"x-own", b"1")]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    rig = Rig(app, policy=Policy(request_id_response=b"x-request-id"))
    rig.state.on_complete = None
    client = rig.connect()
    client.get()
    assert (await client.response()).status == 200
    assert headers == [(b"x-own", b"1")]
