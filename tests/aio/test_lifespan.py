"""aio/lifespan.py: the ASGI lifespan protocol (specs/lifespan 2.0)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gunicorn_asgi.aio.lifespan import (
    TRANSITIONS,
    Lifespan,
    LifespanEvent,
    LifespanFailed,
    LifespanState,
)
from gunicorn_asgi.protocol.errors import LocalProtocolError
from kit.fakes import FakeLog
from kit.rig import ASGIApp, Message, Receive, Scope, Send, both_loops, turns

__all__: list[str] = []

UP = {"type": "lifespan.startup.complete"}
DOWN = {"type": "lifespan.shutdown.complete"}


async def supporting(scope: Scope, receive: Receive, send: Send) -> None:
    """Do everything right."""
    scope["state"]["pool"] = "open"
    assert (await receive())["type"] == "lifespan.startup"
    await send(UP)
    assert (await receive())["type"] == "lifespan.shutdown"
    await send(DOWN)


def raising(exc: BaseException, *, received: bool) -> ASGIApp:
    """Make an application that raises, before or after it has received lifespan.startup."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if received:
            await receive()
        raise exc

    return app


def sending(*messages: Message) -> ASGIApp:
    """Make an application that receives startup, sends these and waits for shutdown."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)
        await receive()

    return app


# -- the machine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", LifespanState)
@pytest.mark.parametrize("event", LifespanEvent)
def test_machine_follows_its_table(state: LifespanState, event: LifespanEvent) -> None:
    """Whatever the table does not name is refused, and changes nothing."""
    lifespan = Lifespan(supporting, FakeLog())
    lifespan.state = state
    if event in TRANSITIONS[state]:
        lifespan.fire(event)
        assert lifespan.state is TRANSITIONS[state][event]
    else:
        with pytest.raises(LocalProtocolError, match=f"{event.name} while {state.name}"):
            lifespan.fire(event)
        assert lifespan.state is state


# -- startup ---------------------------------------------------------------------------------------


@both_loops
async def test_lifespan_goes_up_and_down() -> None:
    """Sections "Startup" to "Shutdown Complete"; the application's state is kept."""
    log = FakeLog()
    lifespan = Lifespan(supporting, log)
    await lifespan.startup()
    assert lifespan.state.name == "UP"
    assert lifespan.scope_state == {"pool": "open"}
    await lifespan.shutdown()
    assert lifespan.state.name == "DOWN"
    assert log.lines() == []


@both_loops
async def test_scope_says_lifespan_2_0() -> None:
    """Section "Scope": spec_version is that of the lifespan document, which is 2.0."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope))
        await supporting(scope, receive, send)

    lifespan = Lifespan(app, FakeLog())
    await lifespan.startup()
    await lifespan.shutdown()
    assert seen == [
        {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": lifespan.scope_state,
        }
    ]


@both_loops
async def test_startup_has_no_time_limit() -> None:
    """A startup that takes long is not a failure: only the application ends the waiting."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await supporting(scope, receive, send)

    lifespan = Lifespan(app, FakeLog())
    startup = asyncio.ensure_future(lifespan.startup())
    await turns(500)
    assert not startup.done()
    assert lifespan.state.name == "STARTING"
    go_on.set()
    await startup
    assert lifespan.state.name == "UP"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"message": "no database"}, "no database"),
        ({"message": ""}, "the application gave no reason"),
        ({}, "the application gave no reason"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "on"])
@both_loops
async def test_startup_failed_is_a_failure_with_its_reason(
    mode: str, message: Message, reason: str
) -> None:
    """Section "Startup Failed"."""
    lifespan = Lifespan(sending({"type": "lifespan.startup.failed", **message}), FakeLog(), mode)
    with pytest.raises(LifespanFailed, match=f"^{reason}$"):
        await lifespan.startup()
    assert lifespan.state.name == "FAILED"
    lifespan.cancel()


@pytest.mark.parametrize(
    "app",
    [
        raising(RuntimeError("only http"), received=False),
        raising(SystemExit(1), received=False),
        sending({"type": "http.response.start", "status": 200}),
        sending({"type": "lifespan.begun"}),
    ],
    ids=["raises", "exits", "answers as to http", "sends an unknown message"],
)
@both_loops
async def test_application_without_lifespan_is_served_in_mode_auto(app: ASGIApp) -> None:
    """Section "Scope": an exception means no support, and the server continues without."""
    log = FakeLog()
    lifespan = Lifespan(app, log)
    await lifespan.startup()
    assert lifespan.state.name == "UNSUPPORTED"
    assert log.lines("error", "warning") == []
    await lifespan.shutdown()
    assert lifespan.state.name == "UNSUPPORTED"


@both_loops
async def test_application_that_returns_is_served_in_mode_auto() -> None:
    """An application that simply ignores the scope does not know it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    lifespan = Lifespan(app, FakeLog())
    await lifespan.startup()
    assert lifespan.state.name == "UNSUPPORTED"


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (raising(KeyError("db"), received=False), "KeyError: 'db'"),
        (sending({"type": "lifespan.begun"}), "LocalProtocolError: unknown.*lifespan.begun"),
        (raising(asyncio.CancelledError(), received=False), "cancelled"),
    ],
    ids=["raises", "sends an unknown message", "is cancelled"],
)
@both_loops
async def test_application_without_lifespan_fails_in_mode_on(app: ASGIApp, reason: str) -> None:
    """asgi_lifespan: "on" means required."""
    lifespan = Lifespan(app, FakeLog(), "on")
    with pytest.raises(LifespanFailed, match=reason):
        await lifespan.startup()


@both_loops
async def test_application_that_returns_fails_in_mode_on() -> None:
    """asgi_lifespan: "on" means required."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    lifespan = Lifespan(app, FakeLog(), "on")
    with pytest.raises(LifespanFailed, match="returned before startup was complete"):
        await lifespan.startup()


@pytest.mark.parametrize("exc", [OSError("port"), SystemExit(2), KeyboardInterrupt()])
@both_loops
async def test_startup_that_raises_half_way_is_a_failure(exc: BaseException) -> None:
    """One that has received lifespan.startup knows it, and is half initialised."""
    log = FakeLog()
    lifespan = Lifespan(raising(exc, received=True), log)
    with pytest.raises(LifespanFailed, match=f"^{type(exc).__name__}: "):
        await lifespan.startup()
    ((level, _, logged),) = log.records
    assert (level, logged) == ("error", exc)


@both_loops
async def test_startup_can_be_given_up() -> None:
    """A worker told to leave while it boots cancels the application's task."""
    cancelled: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    lifespan = Lifespan(app, FakeLog())
    lifespan.cancel()  # nothing to cancel yet
    startup = asyncio.ensure_future(lifespan.startup())
    await turns()
    lifespan.cancel()
    lifespan.cancel()
    await startup
    assert cancelled == [True]
    assert lifespan.state.name == "UNSUPPORTED"


# -- wrong messages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "lifespan.shutdown.complete"},
        {"type": "lifespan.shutdown.failed"},
        {"type": "lifespan.nonsense"},
    ],
    ids=lambda message: message.get("type", "no type"),
)
@both_loops
async def test_wrong_message_at_startup_is_raised_out_of_send(message: Message) -> None:
    """Core specification, "Error Handling": raise out of send(); it is no substitute for UP."""
    raised: list[Exception] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await send(message)
        except LocalProtocolError as exc:
            raised.append(exc)
        await send(UP)
        await receive()

    lifespan = Lifespan(app, FakeLog())
    await lifespan.startup()
    assert len(raised) == 1
    assert lifespan.state.name == "UP"
    lifespan.cancel()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.startup.failed", "message": "again"},
        {"type": "lifespan.nonsense"},
    ],
    ids=lambda message: message["type"],
)
@pytest.mark.parametrize("stopping", [False, True], ids=["while up", "at shutdown"])
@both_loops
async def test_wrong_message_later_is_raised_out_of_send(message: Message, stopping: bool) -> None:
    """Startup is answered once; its messages do not answer lifespan.shutdown."""
    raised: list[Exception] = []
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(UP)
        if stopping:
            await receive()
        try:
            await send(message)
        except LocalProtocolError as exc:
            raised.append(exc)
        if not stopping:
            await receive()
        await go_on.wait()
        await send(DOWN)

    lifespan = Lifespan(app, FakeLog())
    await lifespan.startup()
    shutdown = asyncio.ensure_future(lifespan.shutdown())
    await turns()
    assert len(raised) == 1
    assert lifespan.state.name == "STOPPING"
    go_on.set()
    await shutdown
    assert lifespan.state.name == "DOWN"


# -- shutdown --------------------------------------------------------------------------------------


@both_loops
async def test_shutdown_waits_for_the_answer() -> None:
    """Section "Shutdown Complete": awaited before the process ends."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(UP)
        await receive()
        await go_on.wait()
        await send(DOWN)

    lifespan = Lifespan(app, FakeLog())
    await lifespan.startup()
    shutdown = asyncio.ensure_future(lifespan.shutdown())
    await turns(500)
    assert not shutdown.done()
    go_on.set()
    await shutdown
    assert lifespan.state.name == "DOWN"


@both_loops
async def test_shutdown_before_startup_does_nothing() -> None:
    """A worker that leaves before its lifespan is up has none to end."""
    lifespan = Lifespan(supporting, FakeLog())
    await lifespan.shutdown()
    assert lifespan.state.name == "STARTING"


@both_loops
async def test_shutdown_failed_is_logged_with_its_reason() -> None:
    """Section "Shutdown Failed": log, then terminate."""
    log = FakeLog()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(UP)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "disk is full"})

    lifespan = Lifespan(app, log)
    await lifespan.startup()
    await lifespan.shutdown()
    assert log.lines("error") == ["Lifespan shutdown failed: disk is full"]
    assert lifespan.state.name == "DOWN"


@both_loops
async def test_shutdown_that_raises_is_logged_and_over() -> None:
    """Nobody waits for an application that has raised."""
    log = FakeLog()
    error = ValueError("at shutdown")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(UP)
        await receive()
        raise error

    lifespan = Lifespan(app, log)
    await lifespan.startup()
    await lifespan.shutdown()
    assert [(level, exc) for level, _, exc in log.records] == [("error", error)]
    assert lifespan.state.name == "DOWN"


@both_loops
async def test_application_that_returns_at_shutdown_is_down() -> None:
    """To return is an answer, if not the one that the specification wants."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(UP)
        await receive()

    lifespan = Lifespan(app, FakeLog())
    await lifespan.startup()
    await lifespan.shutdown()
    assert lifespan.state.name == "DOWN"


@pytest.mark.parametrize("exc", [None, LookupError("a task of the lifespan")])
@both_loops
async def test_lifespan_that_ends_while_serving_leaves_nothing_to_wait_for(
    exc: Exception | None,
) -> None:
    """Serving goes on; an exception is logged when it happens, shutdown does not hang."""
    log = FakeLog()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(UP)
        if exc is not None:
            raise exc

    lifespan = Lifespan(app, log)
    await lifespan.startup()
    await turns()
    assert lifespan.state.name == "UP"
    assert [each for _, _, each in log.records] == [exc for exc in [exc] if exc]
    await lifespan.shutdown()


@both_loops
async def test_shutdown_can_be_given_up() -> None:
    """What outlives its time is cancelled, and whoever waits for it is let go."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(UP)
        await receive()
        await asyncio.Event().wait()

    lifespan = Lifespan(app, FakeLog())
    await lifespan.startup()
    shutdown: asyncio.Future[Any] = asyncio.ensure_future(lifespan.shutdown())
    await turns()
    lifespan.cancel()
    await shutdown
    assert lifespan.state.name == "DOWN"
