"""aio/cycle.py: what an application does wrong, and what its client gets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from kit.fakes import LoopKind, new_loop
from kit.message import WireError
from kit.rig import (
    Message,
    Receive,
    Rig,
    Scope,
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

__all__: list[str] = []

FAULTS = [
    ValueError("oops"),
    LocalProtocolError("oops"),
    asyncio.CancelledError(),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.TimeoutError(),
]
by_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda exc: type(exc).__name__)


# -- wrong messages --------------------------------------------------------------------------------

NO_MESSAGES: list[Any] = [None, "http.response.start", b"bytes", 5, [], ["type"], ("type", 1)]
BEFORE_START: list[Any] = [
    *NO_MESSAGES,
    {},
    {"type": None},
    {"type": 5},
    {"type": ["http.response.start"]},
    {"type": "http.nonsense"},
    {"type": "websocket.accept"},
    body(b"early"),
    {"type": "http.response.start"},
    start(99),
    start(1000),
    {"type": "http.response.start", "status": "200"},
    {"type": "http.response.start", "status": None},
    {"type": "http.response.start", "status": 200, "headers": None},
    {"type": "http.response.start", "status": 200, "headers": [(b"a",)]},
    {"type": "http.response.start", "status": 200, "headers": [b"a: b"]},
    {"type": "http.response.start", "status": 200, "headers": [("a", "b")]},
    {"type": "http.response.start", "status": 200, "headers": [(b"a", "b")]},
    start(headers=[(b"a", b"b\r\nset-cookie: split=1")]),
    start(headers=[(b"a", b"b\nset-cookie: split=1")]),
    start(headers=[(b"a", b"b\0")]),
    start(headers=[(b"a b", b"c")]),
    start(headers=[(b"", b"c")]),
    start(headers=[(b"a\r\nb", b"c")]),
    start(headers=[(b"content-length", b"five")]),
    start(headers=[(b"content-length", b"-1")]),
    start(headers=[(b"content-length", b"5"), (b"content-length", b"6")]),
]
AFTER_START: list[Any] = [
    *NO_MESSAGES,
    {},
    {"type": "http.nonsense"},
    start(),
    {"type": "http.response.body", "body": "text"},
    {"type": "http.response.body", "body": None},
    {"type": "http.response.body", "body": [1, 2]},
]


@pytest.mark.parametrize("message", BEFORE_START, ids=repr)
@both_loops
async def test_wrong_message_is_raised_out_of_send_and_the_client_gets_500(
    message: Message,
) -> None:
    """Core, "Error Handling": at once; and the client gets an answer, not silence."""
    rig, client, app = await scripted(request())
    with pytest.raises(LocalProtocolError):
        await app.send(message)
    assert client.received == b""
    app.over.set()  # it has swallowed the exception, and answers nothing
    response = await client.response()
    assert (response.status, response.keeps_alive) == (500, False)
    assert b"split" not in client.received
    assert len(rig.log.lines("error")) == 1


@pytest.mark.parametrize("message", AFTER_START, ids=repr)
@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_wrong_message_after_the_start_is_raised_out_of_send(
    begun: bool, message: Message
) -> None:
    """It changes nothing: who goes on rightly ends rightly."""
    _, client, app = await scripted(request())
    await app.send(start())
    if begun:
        await app.send(body(b"first;", True))
    with pytest.raises(LocalProtocolError):
        await app.send(message)
    await app.send(body(b"last"))
    response = await client.response()
    assert response.body == (b"first;last" if begun else b"last")
    assert response.keeps_alive


@both_loops
async def test_application_may_answer_after_a_refused_start() -> None:
    """An error page of the framework's: nothing of the refused one is left."""
    _, client, app = await scripted(request())
    with pytest.raises(LocalProtocolError):
        await app.send(start(headers=[(b"x-good", b"1"), (b"x-bad", b"\r\n")]))
    await respond(app.send, b"sorry", 500)
    response = await client.response()
    assert (response.status, response.body, response.header("x-good")) == (500, b"sorry", None)


# -- lengths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 4, 6, 99])
@pytest.mark.parametrize("size", [5, 600_000], ids=["small", "sliced"])
@both_loops
async def test_wrong_length_known_at_once_becomes_500_or_an_aborted_response(
    length: int, size: int
) -> None:
    """RFC 9110 section 8.6: never other than content-length many bytes; nothing is garbled."""
    wrong = [(b"content-length", b"%d" % length)]
    rig = Rig(lambda scope, receive, send: respond(send, b"x" * size, headers=wrong))
    client = rig.connect()
    client.send(request() + request("GET", "/next"))
    await until(lambda: client.ended or client.transport.eof_written)
    if size == 5:
        (response,) = client.responses()
        assert response.status == 500
    else:
        with pytest.raises(WireError):
            client.responses()  # cut off, or refused: not a whole 200 with the wrong body
            (refused,) = client.responses()
            assert refused.status == 500
            raise WireError("a 500 is as good")
    assert client.received.count(b"HTTP/1.1 ") == 1
    assert len(rig.log.lines("error")) == 1


@pytest.mark.parametrize(
    ("pieces", "sent"),
    [([b"123", b"456"], b"123"), ([b"123", b""], b"123"), ([b"12345", b"6"], b"12345")],
    ids=["too long", "too short", "too long by one"],
)
@both_loops
async def test_wrong_length_found_on_the_way_cuts_the_response_off(
    pieces: list[bytes], sent: bytes
) -> None:
    """The client sees fewer bytes than promised and the end: an error, not a garbled answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(headers=[(b"content-length", b"5")]))
        for piece in pieces:
            await send(body(piece, piece is pieces[0]))

    rig = Rig(app)
    client = rig.connect()
    client.send(request() + request("GET", "/next"))
    await until(lambda: client.ended)
    if pieces[0] == b"12345":
        # All of what was promised has left before the fault: a whole response, and the last.
        assert client.responses()[0].body == sent
    assert client.received.endswith(b"\r\n\r\n" + sent)
    assert rig.records[0].status == 200


@both_loops
async def test_right_length_in_pieces_is_right() -> None:
    """The counterpart: pieces that add up."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(headers=[(b"content-length", b"5")]))
        for piece in (b"12", b"", b"345"):
            await send(body(piece, True))
        await send(body())

    client = Rig(app).connect()
    client.get()
    response = await client.response()
    assert (response.body, response.keeps_alive) == (b"12345", True)


# -- exceptions ------------------------------------------------------------------------------------


@by_fault
@pytest.mark.parametrize("started", [False, True])
@both_loops
async def test_fault_before_anything_was_sent_becomes_500(
    started: bool, fault: BaseException
) -> None:
    """Core, "Error Handling"; the loop lives on, the text of the exception stays with us."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fine":
            await respond(send)
            return
        if started:
            await send(start(200, [(b"x-mine", b"1")]))
        raise fault

    rig = Rig(app)
    client = rig.connect()
    client.get()
    response = await client.response()
    assert (response.status, response.keeps_alive) == (500, False)
    assert response.body == b"Internal Server Error\n"
    assert response.header("x-mine") is None
    assert [exc for level, _, exc in rig.log.records if level == "error"] == [fault]
    assert [record.status for record in rig.records] == [500]
    other = rig.connect()
    other.get("/fine")
    assert (await other.response()).status == 200


@by_fault
@pytest.mark.parametrize("length", [[], [(b"content-length", b"9")]], ids=["chunked", "length"])
@both_loops
async def test_fault_in_the_middle_cuts_the_response_off(
    length: list[tuple[bytes, bytes]], fault: BaseException
) -> None:
    """RFC 9112 section 8: without last chunk, with fewer bytes: visibly incomplete."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(headers=length))
        await send(body(b"begun", True))
        raise fault

    rig = Rig(app)
    client = rig.connect()
    client.send(request() + request("GET", "/next"))
    await until(lambda: client.ended)
    assert b"begun" in client.received
    with pytest.raises(WireError):
        client.responses()
    assert client.received.count(b"HTTP/1.1 ") == 1
    assert [exc for level, _, exc in rig.log.records if level == "error"] == [fault]
    assert [record.status for record in rig.records] == [200]
    assert not client.transport.aborted


@both_loops
async def test_fault_in_the_middle_resets_http_1_0() -> None:
    """A clean end would look like the end of the body (RFC 9112 section 8)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"begun", True))
        raise ValueError

    client = Rig(app).connect()
    client.get(version="1.0")
    await until(lambda: client.ended)
    assert client.transport.aborted


@by_fault
@both_loops
async def test_fault_behind_the_response_is_logged_and_the_client_unharmed(
    fault: BaseException,
) -> None:
    """A background task of Starlette's that raises: the answer has left, the connection lives."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send)
        raise fault

    rig = Rig(app)
    client = rig.connect()
    for count in (1, 2):
        client.get()
        assert (await client.response(count)).status == 200
        await until(lambda count=count: len(rig.log.lines("error")) == count)  # type: ignore[misc]


@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_application_that_returns_too_early_is_an_error(begun: bool) -> None:
    """Nothing, or half a response: the client does not wait for ever."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send(start())
            await send(body(b"half", True))

    rig = Rig(app)
    client = rig.connect()
    client.get()
    await until(lambda: client.ended or client.transport.eof_written)
    if begun:
        with pytest.raises(WireError):
            client.responses()
    else:
        assert [response.status for response in client.responses()] == [500]
    assert rig.log.lines("error") == [
        f"The application returned without completing the response: {rig.named()}"
    ]


@both_loops
async def test_log_line_cannot_be_forged_by_the_request() -> None:
    """The target is the client's word (CVE-2020-7694)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError

    rig = Rig(app)
    client = rig.connect()
    client.send(b"GET /%0a?\xc3\xa9'x HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: rig.log.lines("error") or rig.complaints)
    assert all(line.isprintable() and "\n" not in line for line in rig.complaints)


@both_loops
async def test_hook_that_raises_is_an_error_of_this_request_alone() -> None:
    """A pre_request hook is the user's code."""
    rig = Rig()

    def on_request(head: object, scope: Scope) -> None:
        raise LookupError("hook")

    rig.state.on_request = on_request
    client = rig.connect()
    client.get()
    assert (await client.response()).status == 500
    rig.state.on_request = None
    other = rig.connect()
    other.get()
    assert (await other.response()).status == 200


# -- the end of a drain ----------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_request_cancelled_by_the_drain_gets_503(begun: bool) -> None:
    """RFC 9110 section 15.6.4, if nothing was sent; else it is cut off. A warning, no traceback."""
    rig, client, app = await scripted(request())
    if begun:
        await app.send(start())
        await app.send(body(b"begun", True))
    rig.drain()
    assert app.task is not None
    app.task.cancel()
    await until(lambda: client.ended or client.transport.eof_written)
    if begun:
        with pytest.raises(WireError):
            client.responses()
    else:
        assert [response.status for response in client.responses()] == [503]
    line = f"Cancelled at the end of the drain: {rig.named()}"
    assert rig.log.records[-1] == ("warning", line, None)


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
        rig.connect().get()
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
