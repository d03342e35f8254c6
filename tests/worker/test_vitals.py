"""worker/vitals.py: what a worker writes of itself with each beat."""

from __future__ import annotations

import asyncio
import builtins
import os
import resource
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from boards import new_board, new_worker
from gunicorn_asgi.aio.http1 import HTTP1Protocol
from gunicorn_asgi.aio.websocket import WebSocketProtocol
from gunicorn_asgi.protocol.accesslog import WebSocketFigures
from gunicorn_asgi.worker import vitals
from gunicorn_asgi.worker.counters import Counter
from gunicorn_asgi.worker.meter import Meter
from gunicorn_asgi.worker.scoreboard import Cell, Slot, milliseconds
from gunicorn_asgi.worker.vitals import Vitals, resident_memory
from kit.fakes import FakeClock
from kit.rig import both_loops, until
from kit.ws import close_frame, opened, text_frame

__all__: list[str] = []


def state(**parts: Any) -> Any:  # noqa: ANN401 - it stands in for a class of its own
    """A stand-in for a ServerState, with a clock for a loop."""
    bare = {"loop": FakeClock(), "connections": set(), "tasks": set()}
    return SimpleNamespace(**{**bare, **parts})


@pytest.fixture
def slot() -> Slot:
    """Of a worker that has written nothing."""
    board = new_board()
    board.begin_generation(1)
    return new_worker(board)


def test_a_beat_writes_the_time_and_the_requests(slot: Slot) -> None:
    """Each beat anew."""
    own = Vitals(slot, state())
    before = milliseconds()
    own.take(5)
    assert before <= slot.get(Cell.BEAT_AT) <= milliseconds()
    assert slot.get(Cell.REQUESTS) == 5
    own.take(7)
    assert slot.get(Cell.REQUESTS) == 7


def test_connections_websockets_and_requests_in_flight_are_counted(slot: Slot) -> None:
    """A WebSocket is a connection too."""
    connections = {object.__new__(HTTP1Protocol) for _ in range(3)}
    websockets = {object.__new__(WebSocketProtocol) for _ in range(2)}
    for each in websockets:
        each.figures = WebSocketFigures()
        each.recorded = False
    Vitals(slot, state(connections=connections | websockets, tasks={1, 2, 3, 4})).take(0)
    cells = (Cell.CONNECTIONS, Cell.WEBSOCKETS, Cell.IN_FLIGHT)
    assert [slot.get(cell) for cell in cells] == [5, 2, 4]


@both_loops
async def test_a_real_websocket_is_counted() -> None:
    """Connection, WebSocket, running application: one of each."""
    board = new_board()
    board.begin_generation(1)
    slot = new_worker(board)
    rig, client, _ = await opened()
    Vitals(slot, rig.state).take(1)
    cells = (Cell.CONNECTIONS, Cell.WEBSOCKETS, Cell.IN_FLIGHT)
    assert [slot.get(cell) for cell in cells] == [1, 1, 1]
    client.leave()
    await asyncio.sleep(0)


@both_loops
async def test_messages_of_open_websockets_are_published() -> None:
    """With those of closed ones: together they only grow."""
    slot = new_worker(new_board())
    rig, client, _ = await opened(text_frame("hello"))
    own = Vitals(slot, rig.state, Meter(slot))
    own.take(1)
    assert slot.counters[Counter.WEBSOCKET_MESSAGES_RECEIVED] == 1
    client.leave()
    await until(lambda: not rig.state.connections)
    own.take(1)
    assert slot.counters[Counter.WEBSOCKET_MESSAGES_RECEIVED] == 1


@both_loops
async def test_messages_of_a_websocket_that_is_over_count_once_while_it_is_still_open() -> None:
    """Its connection lives on a while behind its Close frames; the sum must not fall with it."""
    slot = new_worker(new_board())
    rig, client, app = await opened(text_frame("hello"))
    own = Vitals(slot, rig.state, Meter(slot))
    await app.send({"type": "websocket.send", "text": "yes"})
    client.send(close_frame(1000))
    await until(lambda: any(record.figures for record in rig.records))
    assert rig.state.connections
    counters = (Counter.WEBSOCKET_MESSAGES_RECEIVED, Counter.WEBSOCKET_MESSAGES_SENT)
    own.take(1)
    assert [slot.counters[each] for each in counters] == [1, 1]
    client.leave()
    await until(lambda: not rig.state.connections)
    own.take(1)
    assert [slot.counters[each] for each in counters] == [1, 1]


def test_without_a_meter_totals_are_not_published(slot: Slot) -> None:
    """asgi_metrics is off."""
    Vitals(slot, state()).take(5)
    assert not any(slot.counters)


def test_a_worker_that_serves_has_booted(slot: Slot) -> None:
    """It is counted, and has a time; also without metrics."""
    before = milliseconds()
    Vitals(slot, state()).ready()
    assert before <= slot.get(Cell.READY_AT) <= milliseconds()
    assert slot.get(Cell.BOOTS) == slot.counters[Counter.BOOTS] == 1


@pytest.mark.parametrize(("late", "lag"), [(0.0, 0), (0.25, 250_000), (3.0, 3_000_000), (-0.1, 0)])
def test_the_lag_is_how_late_the_loop_turned_for_a_beat(late: float, lag: int, slot: Slot) -> None:
    """In microseconds; a beat that comes early is not late."""
    here = state()
    own = Vitals(slot, here)
    own.expect(1.0)
    here.loop.advance(1.0 + late)
    own.take(0)
    assert abs(slot.get(Cell.LAG) - lag) <= 1


def test_the_first_beat_has_no_lag(slot: Slot) -> None:
    """Nobody expected it."""
    here = state()
    here.loop.advance(100)
    Vitals(slot, here).take(0)
    assert slot.get(Cell.LAG) == 0


def test_memory_is_measured_and_kept(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """For asgi_max_rss, and for the board."""
    monkeypatch.setattr(vitals, "resident_memory", lambda: 123_456_789)
    own = Vitals(slot, state())
    assert own.rss == 0
    own.take(0)
    assert own.rss == slot.get(Cell.RSS) == 123_456_789


def test_resident_memory_is_that_of_this_process() -> None:
    """In bytes, as /proc/self/status says it in KiB."""
    with open("/proc/self/status") as file:
        (line,) = [each for each in file if each.startswith("VmRSS:")]
    told = int(line.split()[1]) * 1024
    assert told / 2 < resident_memory() < told * 2


@pytest.mark.parametrize("unit", [1024, 1])
def test_without_proc_it_is_the_most_that_there_was(
    unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """getrusage(2): kibibytes, on macOS bytes."""

    def nothing(*_args: object, **_kwargs: object) -> object:
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(vitals, "_MAXRSS_UNIT", unit)
        patch.setattr(builtins, "open", nothing)
        measured = resident_memory()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 0.5 * most * unit < measured <= most * unit


def test_the_unit_is_that_of_this_platform() -> None:
    """One process cannot be two platforms."""
    assert vitals._MAXRSS_UNIT == (1 if sys.platform == "darwin" else 1024)
    assert os.sysconf("SC_PAGE_SIZE") == vitals._PAGE
