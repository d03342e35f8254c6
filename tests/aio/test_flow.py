"""aio/flow.py: flow control of one connection, both directions."""

from __future__ import annotations

import asyncio
import errno
from itertools import permutations

import pytest

from gunicorn_asgi.aio.flow import FlowControl, Pause, half_close
from kit.fakes import FakeTransport
from kit.rig import both_loops, turns, until

__all__: list[str] = []

REASONS = (Pause.BODY, Pause.PIPELINE)


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REASONS)
def test_reading_stops_once_for_a_reason_given_twice(reason: Pause) -> None:
    """Pausing and resuming are idempotent."""
    transport = FakeTransport()
    flow = FlowControl(transport)
    flow.pause_reading(reason)
    flow.pause_reading(reason)
    assert not transport.is_reading()
    flow.resume_reading(reason)
    assert transport.is_reading()
    flow.resume_reading(reason)
    assert (transport.pauses, transport.resumes) == (1, 1)


@pytest.mark.parametrize("order", list(permutations(REASONS)))
def test_reading_goes_on_only_without_any_reason(order: tuple[Pause, Pause]) -> None:
    """Two independent reasons: the end of one is not the end of the other."""
    transport = FakeTransport()
    flow = FlowControl(transport)
    flow.pause_reading(Pause.BODY)
    flow.pause_reading(Pause.PIPELINE)
    flow.resume_reading(order[0])
    assert not transport.is_reading()
    flow.resume_reading(order[1])
    assert transport.is_reading()


@pytest.mark.parametrize("reason", REASONS)
def test_reason_that_was_never_given_does_not_resume(reason: Pause) -> None:
    """Only who has paused can resume."""
    transport = FakeTransport()
    flow = FlowControl(transport)
    (other,) = {*REASONS} - {reason}
    flow.pause_reading(other)
    flow.resume_reading(reason)
    assert not transport.is_reading()


def test_closed_transport_is_left_alone() -> None:
    """A transport that is gone is neither paused nor resumed: uvloop's would raise."""
    transport = FakeTransport()
    flow = FlowControl(transport)
    flow.pause_reading(Pause.BODY)
    flow.close()
    flow.resume_reading(Pause.BODY)
    flow.pause_reading(Pause.PIPELINE)
    assert (transport.pauses, transport.resumes) == (1, 0)


# -- writing -------------------------------------------------------------------------------------


@both_loops
async def test_drained_does_not_wait_while_the_transport_takes_more() -> None:
    """The usual case suspends nobody."""
    flow = FlowControl(FakeTransport())
    coroutine = flow.drained()
    with pytest.raises(StopIteration):
        coroutine.send(None)


@both_loops
async def test_drained_wakes_everybody_when_the_peer_has_caught_up() -> None:
    """Two tasks of one application may wait for the same connection."""
    flow = FlowControl(FakeTransport())
    flow.pause_writing()
    waiting = [asyncio.ensure_future(flow.drained()) for _ in range(2)]
    await turns()
    assert not any(task.done() for task in waiting)
    flow.resume_writing()
    await until(lambda: all(task.done() for task in waiting))
    assert not flow.write_paused


@both_loops
async def test_drained_waits_on_when_the_transport_has_filled_up_again() -> None:
    """Woken, it looks again: somebody else may have been faster."""
    flow = FlowControl(FakeTransport())
    flow.pause_writing()
    task = asyncio.ensure_future(flow.drained())
    await turns()
    flow.resume_writing()
    flow.pause_writing()
    await turns()
    assert not task.done()
    flow.resume_writing()
    await until(task.done)


@both_loops
async def test_drained_wakes_when_the_connection_is_lost() -> None:
    """Nobody waits for a transport that is gone (Gunicorn's own worker does, for 3 s)."""
    flow = FlowControl(FakeTransport())
    flow.pause_writing()
    task = asyncio.ensure_future(flow.drained())
    await turns()
    flow.close()
    flow.close()
    await until(task.done)


def test_resuming_without_anybody_waiting_is_nothing() -> None:
    """The transport tells it whether or not somebody waits."""
    flow = FlowControl(FakeTransport())
    flow.pause_writing()
    assert flow.write_paused
    flow.resume_writing()
    assert not flow.write_paused


# -- the half of a connection ----------------------------------------------------------------------


def test_half_of_a_connection_is_closed_where_there_are_halves() -> None:
    """TCP has FIN; TLS has none that leaves the other half open; and what is closed is closed."""
    plain, tls, closing = FakeTransport(), FakeTransport(extra={"sslcontext": 1}), FakeTransport()
    closing.close()
    for transport in (plain, tls, closing):
        half_close(transport)
    assert [each.eof_written for each in (plain, tls, closing)] == [True, False, False]
    assert [each.is_closing() for each in (plain, tls, closing)] == [False, False, True]


def test_half_of_a_connection_that_was_reset_is_closed_with_the_other() -> None:
    """shutdown(2): ENOTCONN, before the loop has told of the reset."""

    class Reset(FakeTransport):
        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    transport = Reset()
    half_close(transport)
    assert transport.is_closing()
