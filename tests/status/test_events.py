"""status/events.py: one snapshot a second for all, and an end that nobody has to wait for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from berths import Answer, new_berth
from boards import new_board, new_worker
from gunicorn_asgi.status import events
from gunicorn_asgi.status.events import Feed
from gunicorn_asgi.worker.berthed import Berthed
from gunicorn_asgi.worker.command.snapshot import snapshot
from kit.rig import both_loops, until

__all__: list[str] = []


class Viewer:
    """A client of the stream."""

    def __init__(self, feed: Feed, berth: Berthed) -> None:
        self.answer = Answer()
        self._gone = asyncio.Event()
        self._pending = [{"type": "http.request", "body": b"", "more_body": False}]
        self.task = asyncio.ensure_future(feed.stream(berth, self._receive, self._send))

    def leave(self) -> None:
        """The connection is closed."""
        self._gone.set()

    @property
    def told(self) -> list[dict[str, Any]]:
        """The snapshots so far."""
        lines = self.answer.body.decode().split("\n\n")
        return [json.loads(each[len("data: ") :]) for each in lines if each.startswith("data: ")]

    async def _receive(self) -> dict[str, Any]:
        if self._pending:
            return self._pending.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.answer.take(message)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the board was looked at."""
    found: list[float] = []

    def counting(board: Any) -> dict[str, Any]:  # noqa: ANN401
        told = snapshot(board)
        found.append(told["time"])
        return told

    monkeypatch.setattr(events, "snapshot", counting)
    monkeypatch.setattr(events, "_INTERVAL", 0.05)
    return found


def new_server() -> Berthed:
    board = new_board()
    board.begin_generation(1)
    new_worker(board)
    return new_berth(board)


@both_loops
async def test_a_viewer_gets_a_snapshot_at_once_and_then_again(looks: list[float]) -> None:
    """And is told to come back soon."""
    viewer = Viewer(Feed(), new_server())
    await until(lambda: len(viewer.told) >= 3)
    assert viewer.answer.body.startswith(b"retry: 1000\n\ndata: {")
    times = [each["time"] for each in viewer.told]
    assert times == looks[: len(times)]
    viewer.leave()
    await viewer.task


@both_loops
async def test_all_viewers_share_each_look(looks: list[float]) -> None:
    """Each costs a few milliseconds of the loop."""
    feed, berth = Feed(), new_server()
    viewers = [Viewer(feed, berth) for _ in range(20)]
    await until(lambda: all(len(each.told) >= 4 for each in viewers))
    seen = {each["time"] for viewer in viewers for each in viewer.told}
    assert len(seen) <= len(looks)
    assert len(looks) < 20
    for viewer in viewers:
        viewer.leave()
        await viewer.task


@both_loops
async def test_nobody_looks_while_nobody_watches(looks: list[float]) -> None:
    before = asyncio.all_tasks()
    feed, berth = Feed(), new_server()
    viewer = Viewer(feed, berth)
    await until(lambda: len(viewer.told) >= 2)
    viewer.leave()
    await viewer.task
    assert feed._next is not None
    await feed._next  # what was begun
    assert asyncio.all_tasks() == before
    assert len(looks) == len(viewer.told) + 1


@both_loops
async def test_a_viewer_that_leaves_ends_its_stream_alone(looks: list[float]) -> None:
    """Whatever the interval is."""
    feed, berth = Feed(), new_server()
    one, other = Viewer(feed, berth), Viewer(feed, berth)
    await until(lambda: one.told and other.told)
    one.leave()
    await asyncio.wait_for(one.task, 5)
    assert not one.answer.complete  # nobody is there to read an end
    count = len(other.told)
    await until(lambda: len(other.told) > count)
    other.leave()
    await other.task
    assert looks


@both_loops
async def test_the_streams_end_as_soon_as_the_worker_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without waiting for the next snapshot: a drain lasts as long as what was begun."""
    monkeypatch.setattr(events, "_INTERVAL", 3600.0)
    feed, berth = Feed(), new_server()
    viewers = [Viewer(feed, berth) for _ in range(3)]
    await until(lambda: all(each.told for each in viewers))
    berth.leaving.set()
    await asyncio.wait_for(asyncio.gather(*(each.task for each in viewers)), 10)
    assert all(each.answer.complete for each in viewers)
    # Who comes now (asgi_term_delay) sees what is, once.
    late = Viewer(feed, berth)
    await asyncio.wait_for(late.task, 10)
    assert len(late.told) == 1
    assert late.answer.complete


@both_loops
async def test_a_stream_that_is_cancelled_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    feed, berth = Feed(), new_server()
    viewer = Viewer(feed, berth)
    await until(lambda: viewer.told)
    viewer.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await viewer.task
    berth.leaving.set()
    await until(lambda: asyncio.all_tasks() == before)


def test_a_feed_outlives_its_loop() -> None:
    """One application for all the loops of a process."""
    feed = Feed()

    async def look() -> int:
        berth = new_server()
        viewer = Viewer(feed, berth)
        await until(lambda: viewer.told)
        following = feed._following(berth)
        assert following.get_loop() is asyncio.get_running_loop()
        viewer.leave()
        await viewer.task
        return len(viewer.told)

    assert asyncio.run(look()) == asyncio.run(look()) == 1
