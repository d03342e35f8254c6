"""Lifespan 2.0: one application, started and ended; with a real server around it in live.py."""

from __future__ import annotations

import asyncio

import pytest

from gunicorn_asgi.aio.lifespan import Lifespan, LifespanFailed
from kit.fakes import FakeLog
from kit.rig import ASGIApp, Message, Receive, Scope, Send, turns
from rfc.asgi.rule import KEPT, Rules, allowed, refuses

__all__ = ["RULES"]

RULES = Rules("lifespan")

UP, DOWN = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


def answering(*messages: Message) -> ASGIApp:
    """An application that answers each event with the next of these."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await receive()
            await send(message)
        await receive()

    return app


async def up(app: ASGIApp) -> tuple[Lifespan, FakeLog]:
    """A lifespan whose startup is over, well or not."""
    log = FakeLog()
    lifespan = Lifespan(app, log)
    KEPT.append(lifespan)
    await lifespan.startup()
    return lifespan, log


@RULES(
    "Scope",
    *("lifespan scope: type", "lifespan scope: asgi", "lifespan scope: asgi.version"),
    *("lifespan scope: asgi.spec_version", "lifespan scope: state"),
)
async def the_scope_has_its_version_and_an_empty_state() -> None:
    """ASGI 3.0, and 2.0 of this document; nothing else."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append({**scope, "state": dict(scope["state"])})
        await answering(UP)(scope, receive, send)

    lifespan, _ = await up(app)
    lifespan.cancel()
    versions = {"version": "3.0", "spec_version": "2.0"}
    assert scopes == [{"type": "lifespan", "asgi": versions, "state": {}}]
    assert allowed(scopes[0])


@RULES("Lifespan State", "lifespan scope: state")
async def the_state_is_what_the_application_has_put_there() -> None:
    """The same dict, whatever is put into it; requests get copies of it."""
    thing = object()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["thing"] = thing
        await answering(UP)(scope, receive, send)

    lifespan, _ = await up(app)
    lifespan.cancel()
    assert lifespan.scope_state == {"thing": thing}


@RULES("Startup", "lifespan.startup: type", "lifespan.shutdown: type")
async def events_have_a_type_and_nothing_else() -> None:
    """First the startup, then the shutdown."""
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in (UP, DOWN):
            received.append(await receive())
            await send(message)

    lifespan, log = await up(app)
    await lifespan.shutdown()
    assert received == [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    assert log.lines() == []


@RULES("Startup Complete", "lifespan.startup.complete: type")
async def startup_is_awaited_without_a_limit_of_its_own() -> None:
    """One that takes long has not failed."""
    ready = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await ready.wait()
        await answering(UP)(scope, receive, send)

    lifespan = Lifespan(app, FakeLog())
    starting = asyncio.ensure_future(lifespan.startup())
    await turns()
    assert not starting.done()
    ready.set()
    await starting
    assert lifespan.state.name == "UP"
    lifespan.cancel()


@RULES("Startup Failed", "lifespan.startup.failed: type", "lifespan.startup.failed: message")
async def startup_that_failed_is_told_with_its_message() -> None:
    """The message is optional."""
    for message, told in (({"message": "no database"}, "no database"), ({}, "no reason")):
        with pytest.raises(LifespanFailed, match=told):
            await up(answering({"type": "lifespan.startup.failed", **message}))


@RULES("Scope", "lifespan.startup: type")
async def an_application_that_raises_is_served_without_events() -> None:
    """It does not know lifespan; it gets no shutdown either, and its requests no state."""
    calls: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(scope["type"])
        raise NotImplementedError(scope["type"])

    lifespan, log = await up(app)
    await lifespan.shutdown()
    assert lifespan.state.name == "UNSUPPORTED"
    assert calls == ["lifespan"]
    assert log.lines("warning", "error") == []


@RULES("Scope", "lifespan scope: type")
async def an_application_that_returns_is_served_without_events() -> None:
    """Likewise; every other server takes it so."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    lifespan, log = await up(app)
    await lifespan.shutdown()
    assert lifespan.state.name == "UNSUPPORTED"
    assert log.lines("warning", "error") == []


@RULES("Startup", "lifespan.startup: type")
async def an_application_that_raises_behind_its_startup_has_failed() -> None:
    """It knew lifespan, and is half initialised: here the document is read strictly."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("no database")

    with pytest.raises(LifespanFailed, match="no database"):
        await up(app)


@RULES("Shutdown Complete", "lifespan.shutdown.complete: type")
async def shutdown_is_awaited() -> None:
    """The process does not end before."""
    closed = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(UP)
        await receive()
        await closed.wait()
        await send(DOWN)

    lifespan, _ = await up(app)
    ending = asyncio.ensure_future(lifespan.shutdown())
    await turns()
    assert not ending.done()
    closed.set()
    await ending
    assert lifespan.state.name == "DOWN"


@RULES("Shutdown Failed", "lifespan.shutdown.failed: type", "lifespan.shutdown.failed: message")
async def shutdown_that_failed_is_logged_and_ends_all_the_same() -> None:
    """With its message, which is optional."""
    for extra, told in (({"message": "disk full"}, "disk full"), ({}, "")):
        lifespan, log = await up(answering(UP, {"type": "lifespan.shutdown.failed", **extra}))
        await lifespan.shutdown()
        assert log.lines("error") == [f"Lifespan shutdown failed: {told}"]
        assert lifespan.state.name == "DOWN"


@RULES("Startup Complete; Shutdown Complete", "lifespan.startup.complete: type")
async def a_message_that_is_none_raises_out_of_send() -> None:
    """An unknown type, no message, or an answer to what was not asked."""
    tried: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await refuses(send, DOWN, {"type": "lifespan.shutdown.failed"})
        await send(UP)
        await refuses(send, UP, {"type": "lifespan.startup.failed"})
        for message in ({"type": "http.response.start"}, {}, None, {"type": None}, "text"):
            await refuses(send, message)
        tried.append("all")
        await receive()
        await send(DOWN)

    lifespan, log = await up(app)
    await lifespan.shutdown()
    assert tried == ["all"]
    assert log.lines() == []
