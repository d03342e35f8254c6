"""aio/cycle.py: clients that leave, or turn out to be malformed, before the answer is complete."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gunicorn_asgi.protocol.errors import ClientDisconnected
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

# -- the client leaves -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [start(), body(b"more", True), body(b"end"), body(b"x" * 10**6)],
    ids=["start", "body", "end", "large"],
)
@pytest.mark.parametrize("how", ["leave", "eof"])
@both_loops
async def test_send_after_the_client_has_left_raises_an_oserror(how: str, message: Message) -> None:
    """HTTP message format 2.4; each time, and nothing is written."""
    _, client, app = await scripted(request())
    if message["type"] == "http.response.body":
        await app.send(start())
    getattr(client, how)()
    for _ in range(2):
        with pytest.raises(ClientDisconnected) as caught:
            await app.send(message)
        assert isinstance(caught.value, OSError)
    await turns()
    assert client.received == b""
    assert client.transport.dropped == []


def _plain(exc: ClientDisconnected) -> BaseException:
    return exc


def _wrapped(exc: ClientDisconnected) -> BaseException:
    wrapper = RuntimeError("the framework's own ClientDisconnect")
    wrapper.__context__ = exc
    return wrapper


@pytest.mark.parametrize("wrap", [_plain, _wrapped])
@both_loops
async def test_disconnect_that_comes_back_out_is_no_error(
    wrap: Callable[[ClientDisconnected], BaseException],
) -> None:
    """HTTP, "Disconnected Client": the server must not log it as one, wrapped or not."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        try:
            await respond(send)
        except ClientDisconnected as exc:
            raise wrap(exc) from None

    rig = Rig(app)
    client = rig.connect()
    client.get()
    await turns()
    client.leave()
    await until(lambda: not rig.state.tasks)
    assert rig.complaints == []
    assert rig.log.lines("debug") == [f"The client left {rig.named()}"]


@both_loops
async def test_other_error_after_the_client_has_left_is_logged() -> None:
    """That nobody waits for the answer does not make it right."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise KeyError("a bug")

    rig = Rig(app)
    client = rig.connect()
    client.get()
    await turns()
    client.leave()
    await until(lambda: not rig.state.tasks)
    assert rig.log.lines("error") == [f"The application raised KeyError: {rig.named()}"]


@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_application_is_cancelled_some_time_after_the_client_has_left(begun: bool) -> None:
    """asgi_disconnect_grace_period: it has that long to end by itself."""
    rig, client, app = await scripted(request(), disconnect_grace=3.0)
    if begun:
        await app.send(start())
        await app.send(body(b"begun", True))
    client.leave()
    rig.clock.advance(2.9)
    await turns()
    assert app.task is not None
    assert not app.task.done()
    rig.clock.advance(0.2)
    await until(app.task.done)
    assert rig.complaints == []


@both_loops
async def test_grace_period_of_0_cancels_at_once() -> None:
    """asgi_disconnect_grace_period: 0."""
    rig, client, app = await scripted(request(), disconnect_grace=0.0)
    client.leave()
    rig.clock.advance(0)
    await until(lambda: not rig.state.tasks)
    assert not app.over.is_set()


@both_loops
async def test_application_that_ends_within_the_grace_period_is_not_cancelled() -> None:
    """Its timer goes with it."""
    rig, client, app = await scripted(request())
    client.eof()
    client.leave()
    assert rig.clock.pending >= 1
    app.over.set()
    await until(lambda: app.task is not None and app.task.done())
    rig.clock.advance(1.0)
    await until(lambda: rig.clock.pending == 0)


@both_loops
async def test_client_that_leaves_while_its_body_is_discarded_has_got_its_answer() -> None:
    """The response is complete: neither 499 nor a cancelled application."""
    rig, client, app = await scripted(request("POST", headers={"Content-Length": "9"}) + b"one")
    await app.respond()
    await client.response()
    client.leave()
    rig.clock.advance(60)
    await turns()
    assert [record.status for record in rig.records] == [200]
    assert app.task is not None
    assert not app.task.done()


@both_loops
async def test_background_work_is_not_cancelled_when_the_client_leaves() -> None:
    """The response is complete: who leaves then has got what was asked for."""
    rig, client, app = await scripted(request())
    await app.respond()
    await client.response()
    client.leave()
    rig.clock.advance(60)
    await turns()
    assert app.task is not None
    assert not app.task.done()
    app.over.set()
    await until(lambda: not rig.state.tasks)
    assert rig.complaints == []


@both_loops
async def test_task_that_was_over_when_the_client_left_is_left_alone() -> None:
    """A response that was cut off, and then the end of the connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"half", True))
        raise ValueError

    rig = Rig(app)
    client = rig.connect()
    client.get()
    await until(lambda: client.ended and not rig.state.tasks)
    rig.clock.advance(1.0)
    assert rig.clock.pending == 0


# -- malformed on the way --------------------------------------------------------------------------

BROKEN_BODY = request("POST", headers={"Transfer-Encoding": "chunked"}) + b"3\r\nabc\r\nZZ\r\n"


@pytest.mark.parametrize("started", [False, True])
@both_loops
async def test_application_with_a_malformed_body_is_disconnected_and_then_cancelled(
    started: bool,
) -> None:
    """Its client has got a 400: whatever it would still send has no place to go."""
    rig, client, app = await scripted(BROKEN_BODY.partition(b"ZZ")[0])
    if started:
        await app.send(start())
    client.send(b"ZZ\r\n")
    assert await app.receive() == {"type": "http.disconnect"}
    with pytest.raises(ClientDisconnected):
        await app.send(body(b"late") if started else start())
    assert (await client.response()).status == 400
    rig.clock.advance(60)
    await until(lambda: not rig.state.tasks)
    assert [record.status for record in rig.records] == [400]
    assert rig.log.lines("error") == []
