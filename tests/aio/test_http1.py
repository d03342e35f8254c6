"""aio/http1.py: a connection and the queue of its exchanges (RFC 9112)."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from kit.message import chunked
from kit.rig import (
    Receive,
    Rig,
    Scope,
    Script,
    Send,
    body,
    both_loops,
    hello,
    read_all,
    request,
    respond,
    scripted,
    start,
    turns,
    until,
)

__all__: list[str] = []

NUMBER: contextvars.ContextVar[str] = contextvars.ContextVar("NUMBER", default="none")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request body."""
    await respond(send, await read_all(receive) or b"")


# -- keep-alive and pipelining ---------------------------------------------------------------------


@both_loops
async def test_connection_serves_one_request_after_the_other() -> None:
    """RFC 9112 section 9.3: persistent by default."""
    rig = Rig()
    client = rig.connect()
    for number in range(1, 4):
        client.get(f"/{number}")
        response = await client.response(number)
        assert (response.body, response.keeps_alive) == (b"/%d" % number, True)
    assert rig.counted == 3
    assert not client.ended


@pytest.mark.parametrize("bytewise", [False, True])
@both_loops
async def test_pipelined_requests_are_answered_in_order(bytewise: bool) -> None:
    """RFC 9112 section 9.3.2: "MUST send the corresponding responses in the same order"."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        data = await read_all(receive)
        await turns(int(scope["path"][1:]))  # the first take longest
        await respond(send, scope["path"].encode() + b":" + (data or b""))

    client = Rig(app).connect()
    data = b"".join(
        request("GET", f"/{9 - number}")
        if number % 2
        else request("POST", f"/{9 - number}", {"Transfer-Encoding": "chunked"})
        + chunked(b"body %d" % number)
        for number in range(8)
    )
    if bytewise:
        for each in data:
            client.send(bytes([each]))
    else:
        client.send(data)
    await client.response(8)
    assert [response.body for response in client.responses()] == [
        b"/%d:" % (9 - number) + (b"" if number % 2 else b"body %d" % number) for number in range(8)
    ]


@both_loops
async def test_pipelined_answers_are_one_write_each_at_the_most() -> None:
    """No head is written without its body."""
    client = Rig().connect()
    client.send(request() * 100)
    await client.response(100)
    assert len(client.transport.writes) <= 100


@pytest.mark.parametrize("pipelined", [False, True])
@both_loops
async def test_each_request_has_a_fresh_context_and_a_task_of_its_own(pipelined: bool) -> None:
    """Nothing that one request sets is seen by the next, on the same connection neither."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen = NUMBER.get()
        NUMBER.set(scope["path"])
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is before
        assert NUMBER.get() == scope["path"]
        tasks.append(before)
        await respond(send, seen.encode())
        assert asyncio.current_task() is before
        NUMBER.set("set behind the answer")

    NUMBER.set("the server's")
    rig = Rig(app)
    NUMBER.set("of whoever feeds")
    client = rig.connect()
    if pipelined:
        client.send(b"".join(request("GET", f"/{number}") for number in range(3)))
    else:
        for number in range(3):
            client.get(f"/{number}")
            await client.response(number + 1)
    await client.response(3)
    assert [response.body for response in client.responses()] == [b"the server's"] * 3
    assert len(set(tasks)) == 3
    assert rig.complaints == []


@both_loops
async def test_next_request_is_served_while_background_work_runs() -> None:
    """A background task behind a response keeps nobody waiting, and is counted until it ends."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        if scope["path"] == "/work":
            await go_on.wait()

    rig = Rig(app)
    client = rig.connect()
    client.send(request("GET", "/work") + request("GET", "/next"))
    assert (await client.response(2)).body == b"/next"
    await turns()
    assert len(rig.state.tasks) == 1
    go_on.set()
    await until(lambda: not rig.state.tasks)


@both_loops
async def test_requests_behind_one_another_are_not_read_without_bound() -> None:
    """What waits for an answer is held back in the kernel, and comes in order later."""
    app = Script()
    rig = Rig(app)
    client = rig.connect()
    client.transport.chunk = len(request())
    client.send(request() * 50)
    assert len(client.transport.inbound) == len(request()) * 48
    await until(lambda: app.task)
    for number in range(1, 51):
        await app.respond()
        await client.response(number)
        await turns(5)
    assert rig.counted == 50
    assert client.transport.inbound == b""


@both_loops
async def test_client_that_leaves_takes_its_waiting_requests_with_it() -> None:
    """Nobody would read the answers."""
    rig, client, app = await scripted(request() * 3)
    client.leave()
    app.over.set()
    await until(lambda: not rig.state.tasks)
    assert rig.counted == 1
    assert not rig.state.connections


# -- flow control ----------------------------------------------------------------------------------


@both_loops
async def test_connection_goes_on_when_a_paused_body_was_answered_unread() -> None:
    """A body just over Limits.read_buffer pauses the socket as it is complete."""
    client = Rig(read_buffer=1000, discard_body=10_000).connect()
    client.send(request("POST", "/first", body=b"x" * 1001))
    await client.response(1)
    client.get("/second")
    assert (await client.response(2)).body == b"/second"


@both_loops
async def test_waiting_body_is_bounded_too() -> None:
    """An upload pipelined behind a slow request is not read into memory."""
    app = Script()
    client = Rig(app, read_buffer=1000).connect()
    client.transport.chunk = 500
    client.send(request() + request("POST", body=b"x" * 50_000))
    assert len(client.transport.inbound) > 49_000
    await until(lambda: app.task)
    first = app.task
    await app.respond()
    await until(lambda: app.task is not first)
    assert await read_all(app.receive) == b"x" * 50_000
    await app.respond(b"second")
    assert (await client.response(2)).body == b"second"


@both_loops
async def test_write_buffer_is_that_of_the_limits() -> None:
    """Limits.write_buffer: the transport is told where to pause."""
    client = Rig(write_buffer=12345).connect()
    assert client.transport.limits[0] == 12345


@both_loops
async def test_much_that_is_gathered_leaves_at_once() -> None:
    """A stream that never suspends is bounded by the transport, not by this turn of the loop."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(1000):
            await send(body(b"x" * 1000, True))

    client = Rig(app).connect()
    client.transport.stall()
    client.get()
    await turns()
    assert client.transport.buffer_size < 3 * 64 * 1024
    client.leave()


# -- the end, by the client's wish -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "headers", "alive"),
    [
        ("1.1", [], True),
        ("1.1", [("Connection", "close")], False),
        ("1.1", [("Connection", "Keep-Alive, Close")], False),
        ("1.0", [], False),
        ("1.0", [("Connection", "keep-alive")], True),
    ],
)
@both_loops
async def test_client_decides_whether_the_connection_lives_on(
    version: str, headers: list[tuple[str, str]], alive: bool
) -> None:
    """RFC 9112 section 9.3."""
    client = Rig().connect()
    client.get("/", *headers, version=version)
    response = await client.response()
    await turns()
    assert response.keeps_alive is alive
    assert client.ended is not alive
    # Nothing more will come from who has said so: a plain close, no lingering.
    assert not client.transport.eof_written


@pytest.mark.parametrize("after", [b"garbage\r\n\r\n", request("GET", "/late"), b"\0" * 100_000])
@pytest.mark.parametrize("together", [False, True])
@both_loops
async def test_what_follows_connection_close_is_ignored(together: bool, after: bytes) -> None:
    """RFC 9112 section 9.6: "MUST NOT process any further requests" - nor judge them."""
    rig, client, app = await scripted(
        request("GET", "/last", {"Connection": "close"}) + (after if together else b"")
    )
    if not together:
        client.send(after)
    await app.respond()
    # What was not asked for is read all the same: closing upon it would be a reset.
    await until(lambda: client.transport.eof_written)
    assert not client.ended
    assert [response.status for response in client.responses()] == [200]
    assert rig.counted == 1
    assert rig.complaints == []


@both_loops
async def test_upgrade_behind_connection_close_is_ignored() -> None:
    """A WebSocket handshake is a request, too."""
    upgrade = {"Connection": "upgrade", "Upgrade": "websocket"}
    rig, client, app = await scripted(
        request("GET", "/last", {"Connection": "close"}) + request("GET", "/ws", upgrade)
    )
    await app.respond()
    await until(lambda: client.transport.eof_written)
    assert rig.counted == 1


@pytest.mark.parametrize("wish", [b"close", b"Close, x-other"])
@both_loops
async def test_application_may_close_and_the_connection_lingers(wish: bytes) -> None:
    """RFC 9112 section 9.6: the client did not say that it was its last request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, headers=[(b"connection", wish)])

    rig = Rig(app)
    client = rig.connect()
    client.send(request() * 2)
    response = await client.response()
    assert not response.keeps_alive
    assert client.transport.eof_written
    assert not client.ended
    assert rig.counted == 1
    client.eof()
    await until(lambda: client.ended)


# -- half-closed -----------------------------------------------------------------------------------


@both_loops
async def test_answer_that_is_complete_reaches_a_client_that_has_said_eof() -> None:
    """`printf ... | nc`: request and FIN arrive in two turns, the answer is ready in between."""
    rig = Rig()
    client = rig.connect()
    client.get("/quick")
    while not rig.records:
        await asyncio.sleep(0)
    client.eof()
    await until(lambda: client.ended)
    assert client.responses()[0].body == b"/quick"
    assert client.transport.dropped == []


@both_loops
async def test_client_without_a_request_may_close() -> None:
    """A browser's spare connection, a health check."""
    rig = Rig()
    client = rig.connect()
    client.eof()
    await until(lambda: client.ended)
    assert rig.complaints == []
    assert not rig.state.connections


# -- the scope -------------------------------------------------------------------------------------


@both_loops
async def test_scope_is_made_of_connection_and_worker() -> None:
    """Peer, root_path and lifespan state (a shallow copy) of each request."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        scope["state"]["mine"] = True
        await hello(scope, receive, send)

    rig = Rig(app, root_path="/mount")
    rig.state.lifespan_state = {"pool": object()}
    client = rig.connect(peername=("192.0.2.9", 1234), sockname=("192.0.2.2", 80))
    client.send(request() * 2)
    await client.response(2)
    for scope in scopes:
        assert scope["client"] == ("192.0.2.9", 1234)
        assert scope["server"] == ("192.0.2.2", 80)
        assert scope["path"] == "/mount/"
    assert scopes[0]["state"] is not scopes[1]["state"]
    assert scopes[0]["state"]["pool"] is scopes[1]["state"]["pool"]
    assert list(rig.state.lifespan_state) == ["pool"]


@pytest.mark.parametrize("path", ["/run/app.sock", b"\0abstract"])
@both_loops
async def test_scope_on_a_unix_socket_names_its_path(path: str | bytes) -> None:
    """HTTP scope, `server`: [path, None]; there is no client."""
    rig, client, app = await scripted(request())
    client = rig.connect(unix=path, peername="", sockname="")
    client.get("/unix")
    await until(lambda: app.scope["path"] == "/unix")
    assert app.scope["client"] is None
    assert app.scope["server"] == (path if isinstance(path, str) else path.decode(), None)
