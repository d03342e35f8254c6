"""aio/readycheck.py: one request to the application itself, and what is taken for ready."""

from __future__ import annotations

import asyncio

import pytest

from gunicorn_asgi.aio.readycheck import NotReady, ready_check
from kit.rig import Message, Receive, Rig, Scope, Send, body, both_loops, respond, start, turns

__all__: list[str] = []


@pytest.mark.parametrize("status", [200, 204, 301, 404, 499])
@both_loops
async def test_a_status_below_500_is_ready(status: int) -> None:
    """404 too: an application that answers is there (asgi_ready_check)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, status=status)

    await ready_check(Rig(app).state, "/ready")


@pytest.mark.parametrize("status", [500, 503, 599])
@both_loops
async def test_a_status_of_500_or_more_is_not(status: int) -> None:
    """With path and status."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, status=status)

    with pytest.raises(NotReady, match=f"^/ready answered with {status}$"):
        await ready_check(Rig(app).state, "/ready")


@both_loops
async def test_no_answer_is_not_ready() -> None:
    """An application that returns without a word."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(NotReady, match=r"^/ready answered with nothing$"):
        await ready_check(Rig(app).state, "/ready")


@both_loops
async def test_an_exception_of_the_application_comes_through() -> None:
    """With its own traceback, which is what the log then shows."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no database")

    with pytest.raises(LookupError, match="no database"):
        await ready_check(Rig(app).state, "/ready")


@both_loops
async def test_the_application_sees_a_request_like_any_other() -> None:
    """HTTP scope: every key; with root_path and lifespan state, and a name of its own."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await respond(send)

    rig = Rig(app, root_path="/api")
    rig.state.lifespan_state = {"pool": 1}
    await ready_check(rig.state, "/ready?full=1")
    (scope,) = scopes
    assert (scope["type"], scope["method"], scope["http_version"]) == ("http", "GET", "1.1")
    assert (scope["path"], scope["raw_path"]) == ("/api/ready", b"/ready")
    assert (scope["query_string"], scope["root_path"]) == (b"full=1", "/api")
    assert scope["state"] == {"pool": 1}
    assert (scope["client"], scope["server"], scope["scheme"]) == (("127.0.0.1", 0), None, "http")
    # RFC 2606, 2: .invalid is nobody's name.
    assert dict(scope["headers"])[b"host"].endswith(b".invalid")
    assert b"user-agent" in dict(scope["headers"])


@both_loops
async def test_the_body_is_empty_and_the_end_comes_after_the_answer() -> None:
    """HTTP, `http.disconnect`: an application that listens for it beside its answer."""
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        listening = asyncio.ensure_future(receive())
        await turns()
        assert not listening.done(), "nobody has left yet"
        await send(start())
        await send(body(b"o", more=True))
        await turns()
        assert not listening.done(), "the answer is not complete"
        await send(body(b"k"))
        received.append(await listening)
        received.append(await receive())

    await ready_check(Rig(app).state, "/ready")
    end = {"type": "http.disconnect"}
    assert received == [{"type": "http.request", "body": b"", "more_body": False}, end, end]


@both_loops
async def test_work_behind_the_answer_is_waited_for() -> None:
    """It may fail, and it is the application's own idea of being ready."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send)
        await turns()
        raise LookupError("in the background")

    with pytest.raises(LookupError):
        await ready_check(Rig(app).state, "/ready")


@both_loops
async def test_nothing_is_counted_or_logged() -> None:
    """No connection, no task, no access log: it is nobody's request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send)

    rig = Rig(app)
    await ready_check(rig.state, "/")
    assert not rig.state.connections
    assert not rig.state.tasks
    assert rig.records == []
