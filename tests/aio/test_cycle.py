"""aio/cycle.py: receive() of one request (ASGI HTTP message format 2.5)."""

from __future__ import annotations

import asyncio

import pytest

from kit.message import WireError, chunked
from kit.rig import (
    Receive,
    Rig,
    Scope,
    Send,
    body,
    both_loops,
    parse_responses,
    read_all,
    request,
    scripted,
    start,
    turns,
    until,
)

__all__: list[str] = []

DISCONNECT = {"type": "http.disconnect"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


# -- receive ---------------------------------------------------------------------------------------


@both_loops
async def test_request_without_body_is_one_empty_message() -> None:
    """HTTP, "Request": body b"", more_body False; a second receive() waits."""
    _, _, app = await scripted(request())
    assert await app.receive() == {"type": "http.request", "body": b"", "more_body": False}
    second = asyncio.ensure_future(app.receive())
    await turns()
    assert not second.done()
    await app.respond()
    assert await second == DISCONNECT


@pytest.mark.parametrize("coding", ["length", "chunked"])
@both_loops
async def test_body_comes_as_it_arrives(coding: str) -> None:
    """HTTP, "Request": streamed, de-chunked, the last message with more_body False."""
    if coding == "length":
        head, pieces = request("POST", headers={"Content-Length": "9"}), [b"one", b"two", b"end"]
    else:
        head = request("POST", headers={"Transfer-Encoding": "chunked"})
        pieces = [chunked(b"one", last=False), chunked(b"two", last=False), chunked(b"end")]
    _, client, app = await scripted(head)
    for piece, expected in zip(pieces[:2], (b"one", b"two"), strict=True):
        waiting = asyncio.ensure_future(app.receive())
        await turns()
        assert not waiting.done()
        client.send(piece)
        assert await waiting == {"type": "http.request", "body": expected, "more_body": True}
    client.send(pieces[2])
    assert await app.receive() == {"type": "http.request", "body": b"end", "more_body": False}


@both_loops
async def test_pieces_that_wait_are_put_together() -> None:
    """What has arrived meanwhile is one message."""
    _, client, app = await scripted(request("POST", headers={"Content-Length": "6"}))
    client.send(b"abc")
    client.send(b"def")
    assert await app.receive() == {"type": "http.request", "body": b"abcdef", "more_body": False}


@both_loops
async def test_two_tasks_may_wait_in_receive() -> None:
    """Frameworks listen for the disconnect beside the handler; both are woken."""
    _, client, app = await scripted(request("POST", headers={"Content-Length": "3"}))
    both = [asyncio.ensure_future(app.receive()) for _ in range(2)]
    await turns()
    client.send(b"abc")
    await turns()
    assert [task.done() for task in both].count(True) == 1
    client.leave()
    messages = await asyncio.gather(*both)
    assert {"type": "http.request", "body": b"abc", "more_body": False} in messages
    assert DISCONNECT in messages


@pytest.mark.parametrize("arrived", [b"", b"abc"])
@pytest.mark.parametrize("how", ["leave", "eof"])
@both_loops
async def test_broken_off_body_is_never_reported_complete(how: str, arrived: bytes) -> None:
    """HTTP, "Request": an incomplete body ends in http.disconnect, not in more_body False."""
    _, client, app = await scripted(request("POST", headers={"Content-Length": "6"}) + arrived)
    getattr(client, how)()
    assert [await app.receive() for _ in range(3)] == [DISCONNECT] * 3


@both_loops
async def test_waiting_application_is_told_promptly_that_the_client_has_left() -> None:
    """HTTP, "Disconnect": receive() returns when the connection closes, not at the next send."""
    _, client, app = await scripted(request("POST", headers={"Content-Length": "6"}))
    waiting = asyncio.ensure_future(app.receive())
    await turns()
    client.leave()
    assert await waiting == DISCONNECT


@pytest.mark.parametrize("data", [b"", b"abc"])
@pytest.mark.parametrize("how", ["leave", "eof"])
@both_loops
async def test_complete_body_is_readable_after_the_client_has_left(how: str, data: bytes) -> None:
    """A fire-and-forget POST: all of it has arrived, and may be processed."""
    _, client, app = await scripted(request("POST", "/", {"Content-Length": str(len(data))}, data))
    getattr(client, how)()
    assert await app.receive() == {"type": "http.request", "body": data, "more_body": False}
    assert await app.receive() == DISCONNECT


@both_loops
async def test_receive_after_the_response_says_disconnect() -> None:
    """HTTP, "Disconnect": also when the body was never read."""
    _, _, app = await scripted(request("POST", headers={"Content-Length": "3"}) + b"abc")
    await app.respond()
    assert [await app.receive() for _ in range(2)] == [DISCONNECT] * 2


# -- 100 Continue ----------------------------------------------------------------------------------

EXPECTING = request("PUT", headers={"Expect": "100-continue", "Content-Length": "3"})


@both_loops
async def test_continue_is_sent_when_the_application_reads_and_once() -> None:
    """RFC 9110 section 10.1.1: not before somebody wants the body."""
    _, client, app = await scripted(EXPECTING)
    await turns()
    assert client.received == b""
    reading = asyncio.ensure_future(read_all(app.receive))
    await until(lambda: client.received)
    client.send(b"ab")
    await turns()
    client.send(b"c")
    assert await reading == b"abc"
    assert client.received == CONTINUE
    await app.respond()
    await until(lambda: client.received != CONTINUE)
    assert client.responses()[1].keeps_alive


@both_loops
async def test_continue_is_not_sent_to_an_application_that_does_not_read() -> None:
    """RFC 9110 section 10.1.1: a final status instead; the body may or may not come, so close."""
    _, client, app = await scripted(EXPECTING)
    await app.respond(b"no")
    response = await client.response()
    assert (response.status, response.body, response.keeps_alive) == (200, b"no", False)


@both_loops
async def test_continue_is_not_sent_after_the_response_has_begun() -> None:
    """A 1xx comes before the final status, not in the middle of it."""
    _, client, app = await scripted(EXPECTING)
    await app.send(start())
    await app.send(body(b"begun", True))
    waiting = asyncio.ensure_future(app.receive())
    await turns()
    assert CONTINUE not in client.received
    client.send(b"abc")
    assert (await waiting)["body"] == b"abc"


@both_loops
async def test_continue_is_not_sent_to_http_1_0() -> None:
    """RFC 9110 section 10.1.1: such an expectation of HTTP/1.0 is ignored."""
    headers = {"Expect": "100-continue", "Content-Length": "3"}
    _, client, app = await scripted(request("PUT", headers=headers, version="1.0"))
    reading = asyncio.ensure_future(read_all(app.receive))
    await turns()
    client.send(b"abc")
    assert await reading == b"abc"
    assert client.received == b""


@both_loops
async def test_continue_is_not_needed_for_a_body_that_is_there() -> None:
    """RFC 9110 section 10.1.1: "MAY omit sending a 100 if it has already received" the content."""
    _, client, app = await scripted(EXPECTING + b"abc")
    assert await read_all(app.receive) == b"abc"
    await turns()
    assert client.received == b""


def test_parser_of_these_tests_is_strict() -> None:
    """An incomplete response must not pass for one."""
    for data in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1234"):
        with pytest.raises(WireError):
            parse_responses(data)


# -- bodies that nobody reads ----------------------------------------------------------------------


@both_loops
async def test_application_that_does_not_read_stops_the_upload_at_the_read_buffer() -> None:
    """A bounded buffer, and on again as soon as the application reads. A piece counts for a little
    more than its bytes."""
    head = request("POST", headers={"Content-Length": "500000"})
    _, client, app = await scripted(head, read_buffer=100_000)
    client.transport.chunk = 10_000
    client.send(b"x" * 500_000)
    assert len(client.transport.inbound) == 500_000 - 100_000
    await turns()
    assert len(client.transport.inbound) == 500_000 - 100_000
    message = await app.receive()
    assert (len(message["body"]), message["more_body"]) == (100_000, True)
    assert await read_all(app.receive) == b"x" * 400_000
    assert client.transport.inbound == b""
    assert client.transport.pauses == client.transport.resumes


@both_loops
async def test_body_that_was_not_read_is_discarded_and_the_connection_goes_on() -> None:
    """RFC 9112 section 9.3: it has to be read, or the connection closed."""
    rig, client, app = await scripted(request("POST", headers={"Content-Length": "9"}) + b"one")
    await app.respond()
    await client.response()
    client.send(b"two")
    assert not client.ended
    client.send(b"end" + request("GET", "/next"))
    await until(lambda: app.scope["path"] == "/next")
    assert rig.counted == 2
    await app.respond(b"next")
    assert (await client.response(2)).body == b"next"


@pytest.mark.parametrize("together", [False, True])
@both_loops
async def test_more_than_the_limit_is_not_discarded(together: bool) -> None:
    """Limits.discard_body: then the connection ends, and what follows is not served."""
    length = {"Content-Length": "3000"}
    rig, client, app = await scripted(request("POST", headers=length), discard_body=1000)
    await app.respond()
    await client.response()
    client.send(b"x" * 1000)
    assert not client.transport.eof_written
    if together:
        client.send(b"x" * 2000 + request("GET", "/next"))
    else:
        client.send(b"x" * 2000)
        client.send(request("GET", "/next"))
    await turns()
    await until(lambda: client.transport.eof_written)
    assert rig.counted == 1
    assert len(client.responses()) == 1
    assert client.transport.inbound == b""


# -- told, in a drain ------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [False, True])
@both_loops
async def test_draining_worker_tells_a_stream_that_waits(waiting: bool) -> None:
    """An SSE stream that listens for http.disconnect ends by itself, and rightly."""
    rig, client, app = await scripted(request())
    await app.receive()
    task = asyncio.ensure_future(app.receive())
    if waiting:
        await turns()
    rig.state.told = True
    client.http.tell()
    assert await task == DISCONNECT
    await app.respond(b"bye")
    response = await client.response()
    assert response.body == b"bye"


@both_loops
async def test_draining_worker_lets_an_upload_finish() -> None:
    """Told is who has read the request: a body under way is no stream that waits."""
    rig, client, app = await scripted(request("POST", headers={"Content-Length": "6"}) + b"abc")
    rig.state.told = True
    client.http.tell()
    assert await app.receive() == {"type": "http.request", "body": b"abc", "more_body": True}
    client.send(b"def")
    assert await app.receive() == {"type": "http.request", "body": b"def", "more_body": False}
    assert await app.receive() == DISCONNECT


@both_loops
async def test_application_that_goes_on_reading_does_not_stop_the_loop() -> None:
    """`while True: await receive()` never suspends by itself; it has to be cancellable."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await receive()

    rig = Rig(app)
    client = rig.connect()
    client.get()
    await turns()
    client.leave()
    await turns()
    rig.clock.advance(60)
    await until(lambda: not rig.state.tasks)
    assert rig.complaints == []
