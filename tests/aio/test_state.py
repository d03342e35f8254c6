"""aio/state.py: what the connections of one worker share."""

from __future__ import annotations

import asyncio
import contextvars
import re
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gunicorn_asgi.aio import state as state_module
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
async def test_date_line_is_a_field_line() -> None:
    """RFC 9110 section 6.6.1 and 5.6.7: IMF-fixdate."""
    line = new_state().date_line()
    assert re.fullmatch(
        rb"date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n",
        line,
    )


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


@pytest.mark.parametrize("version", [sys.version_info[:2], (3, 10)], ids=["this", "3.10"])
@both_loops
async def test_task_has_a_fresh_context_of_the_worker(
    version: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the starter has set is not seen, what the worker has set is, and nothing leaks."""
    # create_task takes a context since Python 3.11; the way of 3.10 works everywhere.
    monkeypatch.setattr(state_module, "sys", SimpleNamespace(version_info=version))
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


class Table:
    """A RequestTable that remembers."""

    def __init__(self) -> None:
        self.began: list[Owner] = []
        self.ended: list[int] = []

    def begin(self, owner: Owner) -> int:
        """The n-th is at place n."""
        self.began.append(owner)
        return len(self.began)

    def end(self, place: int) -> None:
        """Remember it."""
        self.ended.append(place)


@both_loops
async def test_a_task_is_shown_with_its_owner_until_it_is_over() -> None:
    """However it ends; what is no client's is not shown."""
    state = new_state()
    state.table = table = Table()
    owners = [cast("Owner", SimpleNamespace(place=0)) for _ in range(2)]

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
    assert table.began == owners
    assert [owner.place for owner in owners] == [1, 2]
    await until(lambda: not state.tasks)
    assert sorted(table.ended) == [1, 2]


@both_loops
async def test_a_task_that_is_cancelled_before_it_has_begun_is_forgotten_too() -> None:
    """Its coroutine never runs, so it cannot say that it is over."""
    state = new_state()
    state.table = table = Table()
    owner = cast("Owner", SimpleNamespace(place=0))

    async def app() -> None:
        raise AssertionError("it has begun")

    state.start_task(app(), owner)
    state.cancel_tasks()
    await until(lambda: not state.tasks)
    assert table.ended == [1]


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
