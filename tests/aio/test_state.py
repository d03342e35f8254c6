"""aio/state.py: what the connections of one worker share."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gunicorn_asgi.aio import spawn
from gunicorn_asgi.aio.state import Owner, ServerState
from gunicorn_asgi.protocol.limits import Limits
from kit.fakes import FakeLog
from kit.rig import Rig, both_loops, hello, turns, until

__all__: list[str] = []

NUMBER: contextvars.ContextVar[int] = contextvars.ContextVar("NUMBER", default=0)


class FakeConnection:
    """Counts what the state tells it."""

    def __init__(self) -> None:
        self.deadline = 0.0
        self.pipelining = False
        self.flushes = 0

    def flush(self) -> None:
        """Count."""
        self.flushes += 1

    def expire(self) -> None:
        """Never happens here."""
        raise AssertionError("expired")

    def drain(self, code: int) -> None:
        """Never happens here."""
        raise AssertionError(code)

    def tell(self) -> None:
        """Never happens here."""
        raise AssertionError("told")

    def abort(self) -> None:
        """Never happens here."""
        raise AssertionError("aborted")


def new_state(**limits: Any) -> ServerState:
    """Make one on the running loop."""
    return ServerState(hello, FakeLog(), Limits(**limits))


@both_loops
async def test_the_date_is_an_imf_fixdate(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 5.6.7, by its own example."""
    monkeypatch.setattr(time, "time", lambda: 784111777.9)
    assert new_state().date_line() == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


@both_loops
async def test_the_date_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object for all answers of a second, which may begin at any time of our clock."""
    state = new_state()
    wall = 0.25
    monkeypatch.setattr(time, "time", lambda: wall)
    first = state.date_line(100.0)
    assert first == b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    assert state.date_line(100.74) is first
    wall = 1.0
    assert state.date_line(100.75) == b"date: Thu, 01 Jan 1970 00:00:01 GMT\r\n"


@both_loops
async def test_connections_are_flushed_once_at_the_end_of_the_turn() -> None:
    """What an application sends without suspension leaves in one write."""
    state = new_state()
    first, second = FakeConnection(), FakeConnection()
    state.gather(first)
    state.gather(second)
    assert (first.flushes, second.flushes) == (0, 0)
    await turns()
    assert (first.flushes, second.flushes) == (1, 1)
    state.gather(first)
    await turns()
    assert (first.flushes, second.flushes) == (2, 1)


@both_loops
async def test_a_connection_waits_a_turn_for_the_answer_to_a_pipelined_request() -> None:
    """And only one, if none comes."""
    state = new_state()
    connection = FakeConnection()
    connection.pipelining = True
    state.gather(connection)
    await asyncio.sleep(0)
    assert (connection.flushes, connection.pipelining) == (0, False)
    await asyncio.sleep(0)
    assert connection.flushes == 1


@pytest.mark.parametrize("version", [sys.version_info[:2], (3, 10)], ids=["this", "3.10"])
@pytest.mark.parametrize("factory", [False, True], ids=["", "factory"])
@both_loops
async def test_task_has_a_fresh_context_of_the_worker(
    factory: bool, version: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the starter has set is not seen, what the worker has set is, and nothing leaks."""
    # A Task takes a context since Python 3.11; the way of 3.10 works everywhere.
    monkeypatch.setattr(spawn, "sys", SimpleNamespace(version_info=version))
    if factory:
        asyncio.get_running_loop().set_task_factory(
            lambda *args, **told: asyncio.Task(*args[1:], loop=args[0], **told)
        )
    worker = contextvars.ContextVar[str]("worker")
    worker.set("ours")
    state = new_state()
    seen: list[object] = []

    async def app(number: int) -> None:
        seen.append((worker.get(), NUMBER.get()))
        NUMBER.set(number)
        await asyncio.sleep(0)
        seen.append(NUMBER.get())
        if number < 3:
            state.start_task(app(number + 1))

    NUMBER.set(99)
    state.start_task(app(1))
    await until(lambda: len(seen) == 6)
    assert seen == [("ours", 0), 1, ("ours", 0), 2, ("ours", 0), 3]
    assert NUMBER.get() == 99


@both_loops
async def test_tasks_are_known_while_they_run() -> None:
    """The drain counts them, background work behind a response included."""
    state = new_state()
    go_on = asyncio.Event()

    async def app() -> None:
        await go_on.wait()

    task = state.start_task(app())
    assert state.tasks == {task: None}
    await turns()
    assert state.tasks == {task: None}
    go_on.set()
    await until(lambda: not state.tasks)


@both_loops
async def test_a_task_has_its_owner_until_it_is_over() -> None:
    """However it ends: what has an owner says so itself."""
    state = new_state()
    owners = [cast("Owner", SimpleNamespace(task=None)) for _ in range(2)]

    async def app(owned: bool, fails: bool) -> None:
        try:
            await asyncio.sleep(0)
            if fails:
                raise asyncio.CancelledError
        finally:
            task = asyncio.current_task()
            if owned and task is not None:
                state.end_task(task)
                state.end_task(task)  # idempotent

    first, second = (state.start_task(app(True, bool(n)), owner) for n, owner in enumerate(owners))
    nobodys = state.start_task(app(False, False))
    assert state.tasks == {first: owners[0], second: owners[1], nobodys: None}
    assert [owner.task for owner in owners] == [first, second]
    await until(lambda: not state.tasks)


@both_loops
async def test_a_task_that_is_cancelled_before_it_has_begun_is_forgotten_too() -> None:
    """Its coroutine never runs, so it cannot say that it is over."""
    state = new_state()

    async def app() -> None:
        raise AssertionError("it has begun")

    state.start_task(app(), cast("Owner", SimpleNamespace(task=None)))
    state.cancel_tasks()
    await until(lambda: not state.tasks)


@both_loops
async def test_idle_is_set_when_the_last_connection_and_the_last_task_are_gone() -> None:
    """Both have to be gone, in either order, and nobody need wait for it."""
    state = new_state()
    connection = FakeConnection()
    state.add(connection)
    state.discard(connection)
    for task_first in (True, False):
        state.idle = asyncio.Event()
        go_on = asyncio.Event()

        async def app(event: asyncio.Event) -> None:
            await event.wait()

        state.start_task(app(go_on))
        state.add(connection)
        if task_first:
            go_on.set()
            await turns()
            assert not state.idle.is_set()
            state.discard(connection)
        else:
            state.discard(connection)
            await turns()
            assert not state.idle.is_set()
            go_on.set()
        await until(state.idle.is_set)


@both_loops
async def test_whoever_waits_for_room_is_told_of_each_connection_that_goes() -> None:
    """worker_connections: the brake is loosened from here."""
    state = new_state()
    calls: list[int] = []
    connections = [FakeConnection() for _ in range(3)]
    for connection in connections:
        state.add(connection)
    state.discard(connections[0])
    state.on_below_cap = lambda: calls.append(len(state.connections))
    state.discard(connections[1])
    assert calls == [1]


@both_loops
async def test_added_connection_has_its_deadline_watched() -> None:
    """Adding wakes the one timer of the worker."""
    rig = Rig()
    expired: list[float] = []

    class Expiring(FakeConnection):
        def expire(self) -> None:
            expired.append(rig.clock.now)

    connection = Expiring()
    rig.state.add(connection)
    rig.state.deadlines.arm(connection, 1.0)
    rig.clock.advance(2.0)
    assert len(expired) == 1


@both_loops
async def test_nothing_is_promised_once_the_drain_has_begun() -> None:
    """One bit for the whole worker, which only goes from True to False."""
    state = new_state()
    assert (state.keep_alive, state.draining) == (True, False)
    state.begin_drain()
    state.begin_drain()
    assert (state.keep_alive, state.draining) == (False, True)


@both_loops
async def test_keepalive_0_promises_nothing() -> None:
    """Gunicorn's setting keepalive: 0 is none."""
    state = new_state(keep_alive=0.0)
    assert (state.keep_alive, state.draining) == (False, False)


@both_loops
async def test_requests_need_not_be_counted() -> None:
    """A server without a worker above it has nobody to count for."""
    new_state().count_request()
