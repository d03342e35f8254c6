"""aio/sharing.py: a worker with neighbours takes its share of a burst, and no more."""

from __future__ import annotations

import asyncio

import pytest

from gunicorn_asgi.aio.server import Server
from gunicorn_asgi.aio.sharing import PAUSE, Share
from kit.loopback import serving
from kit.rig import both_loops, until

__all__: list[str] = []


def pauses(share: Share, counts: list[tuple[int, float]]) -> list[int]:
    """At which counts it pauses; each with the time."""
    return [count for count, now in counts if share.is_taken(count, now)]


def test_each_few_more_are_followed_by_a_pause() -> None:
    """Four: whoever runs first of four workers does not take half of the burst."""
    counts = [(count, 10.0 + count / 1000) for count in range(1, 18)]
    assert pauses(Share(), counts) == [5, 9, 13, 17]


def test_connections_that_come_and_go_are_never_braked() -> None:
    """A new one for each request: as many as there were lately are no growth."""
    share = Share()
    first = pauses(share, [(count, 10.0) for count in range(1, 14)])
    again = pauses(share, [(count, 10.5) for _ in range(50) for count in range(5, 16)])
    assert (first, again) == ([5, 9, 13], [])


def test_what_was_lately_is_forgotten_after_a_second() -> None:
    """Then it begins anew, from as many as there are."""
    share = Share()
    assert pauses(share, [(1, 10.0), (5, 10.0), (3, 11.1), (6, 11.2), (7, 11.3)]) == [5, 7]


def test_growing_slowly_is_no_burst() -> None:
    """Three in a second."""
    counts = [(count, 10.0 + count * 0.4) for count in range(1, 100)]
    assert pauses(Share(), counts) == []


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "alone"])
@both_loops
async def test_a_burst_is_taken_in_pieces_and_completely(shared: bool) -> None:
    """Alone nobody is waited for."""
    async with serving() as served:
        served.server.suspend()
        peers = [await served.connect() for _ in range(30)]
        served.server = server = Server(served.state, served.server._listeners, shared=shared)
        paused: list[int] = []
        resume = server._resume

        def watch() -> None:
            paused.append(len(served.state.connections))
            resume()

        server._resume = watch  # type: ignore[method-assign]
        server.start()
        responses = await asyncio.gather(*(peer.get() for peer in peers))
        assert [response.status for response in responses] == [200] * 30
        assert (len(paused) > 5) is shared


@both_loops
async def test_the_backlog_is_taken_without_a_pause() -> None:
    """Before the listeners are closed; and nothing is resumed behind that."""
    async with serving() as served:
        served.server.suspend()
        peers = [await served.connect() for _ in range(12)]
        served.server = Server(served.state, served.server._listeners, shared=True)
        served.server.take_waiting()
        await until(lambda: len(served.state.connections) == 12)
        assert served.server._resume_timer is None
        await peers[0].close()


@both_loops
async def test_a_pause_ends_with_suspend() -> None:
    """Its timer accepts nobody."""
    async with serving() as served:
        served.server.suspend()
        for _ in range(12):
            await served.connect()
        served.server = Server(served.state, served.server._listeners, shared=True)
        served.server.start()
        await until(lambda: served.server._resume_timer is not None)
        served.server.suspend()
        taken = served.state.totals.accepted
        over = asyncio.Event()
        served.state.loop.call_later(10 * PAUSE, over.set)
        await over.wait()
        assert served.state.totals.accepted == taken
