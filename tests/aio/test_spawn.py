"""The first step of a request's task: at once where Python can (aio/spawn.py, aio/state.py)."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gunicorn_asgi.aio.inflight import owner_of
from gunicorn_asgi.aio.spawn import CAN_START_AT_ONCE
from gunicorn_asgi.aio.state import Owner, ServerState
from gunicorn_asgi.protocol.limits import Limits
from kit.fakes import FakeLog
from kit.rig import Receive, Rig, Scope, Send, body, both_loops, hello, request, start, turns, until

__all__: list[str] = []

NUMBER: contextvars.ContextVar[int] = contextvars.ContextVar("NUMBER", default=0)


def plainly(function: Callable[..., None], *args: object) -> None:
    """Call it as a loop calls a protocol: inside of no task."""
    asyncio.get_running_loop().call_soon(function, *args)


def new_owner() -> Owner:
    return cast("Owner", SimpleNamespace(task=None, scope={}))


@both_loops
async def test_the_first_step_is_taken_at_once_where_python_can() -> None:
    """The task is the current one before and after it waits, in a context of its own."""
    state = ServerState(hello, FakeLog(), Limits())
    owner, go_on = new_owner(), asyncio.Event()
    seen: list[Any] = []
    tasks = []

    async def app() -> None:
        tasks.append(asyncio.current_task())
        NUMBER.set(NUMBER.get() + 1)
        seen.append(owner_of(state, []))
        await go_on.wait()
        tasks.append(asyncio.current_task())
        seen.append(owner_of(state, []))
        seen.append(NUMBER.get())

    def begin() -> None:
        state.start_at_once(app(), owner)
        assert bool(tasks) is CAN_START_AT_ONCE
        assert state.tasks == {owner.task: owner}
        assert state.starting is None
        assert NUMBER.get() == 0

    plainly(begin)
    await turns()
    go_on.set()
    await turns()
    assert tasks == [owner.task, owner.task]
    assert seen == [owner, owner, 1]


@both_loops
async def test_a_task_that_is_done_with_its_first_step_leaves_nothing() -> None:
    """Most are."""
    state = ServerState(hello, FakeLog(), Limits())
    owner = new_owner()

    async def app() -> None:
        task = asyncio.current_task()
        assert task is not None
        if owner.task is not None:
            state.end_task(owner.task)  # as HTTPCycle does

    plainly(state.start_at_once, app(), owner)
    await turns()
    assert (state.tasks, state.starting) == ({}, None)
    assert (owner.task is None) is CAN_START_AT_ONCE


@both_loops
@pytest.mark.parametrize("why", ["in a task", "factory"])
async def test_else_it_waits_for_the_next_turn(why: str) -> None:
    """A pipelined request begins while the task of the one before still runs, and stacks would
    grow with each; and a task factory has its own ideas."""
    state = ServerState(hello, FakeLog(), Limits())
    owner = new_owner()
    stepped: list[bool] = []

    async def app() -> None:
        stepped.append(True)

    def begin() -> None:
        state.start_at_once(app(), owner)
        assert not stepped

    if why == "factory":
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **told: asyncio.Task(coro, loop=loop, **told))
        plainly(begin)
    else:
        begin()
    await turns()
    assert stepped == [True]


@both_loops
async def test_thousands_of_pipelined_requests_are_answered_in_order() -> None:
    """However they are started: the stack does not grow with them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(scope["raw_path"]))

    client = Rig(app).connect()
    count = 3000
    plainly(client.send, b"".join(request(path=f"/{number}") for number in range(count)))
    await until(lambda: client.received.count(b"HTTP/1.1 200") == count)
    await turns()
    assert [each.body for each in client.responses()] == [b"/%d" % n for n in range(count)]
