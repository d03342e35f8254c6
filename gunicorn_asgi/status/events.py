"""The snapshot, once a second, to whoever looks on: server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gunicorn_asgi.worker.berthed import Berthed
from gunicorn_asgi.worker.command.snapshot import as_json, snapshot

__all__ = ["Feed", "Receive", "Scope", "Send"]

# Seconds between two snapshots: workers write their numbers as often.
_INTERVAL = 1.0

# Milliseconds after which a browser comes back: by then another worker accepts, or a new one does.
_RETRY = 1000

# As Starlette has them, so that the application fits where its types are checked.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Feed:
    """The snapshots of a worker. All viewers get the same one: each costs a look at the board."""

    def __init__(self) -> None:
        self._next: asyncio.Task[bytes] | None = None
        self._latest = b""
        self._made = 0.0

    async def stream(self, berth: Berthed, receive: Receive, send: Send) -> None:
        """Send the body of a response, until the viewer has gone or the worker leaves.

        Then it ends at once, for a stream would hold the worker's end up; the browser comes back.
        """
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            data = b"retry: %d\n\n" % _RETRY + self._current(berth)
            while True:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                if berth.leaving.is_set():
                    break
                following = self._following(berth)
                await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                data = following.result()
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()

    def _current(self, berth: Berthed) -> bytes:
        if time.monotonic() - self._made >= _INTERVAL:
            self._latest = _event(berth)
            self._made = time.monotonic()
        return self._latest

    def _following(self, berth: Berthed) -> asyncio.Task[bytes]:
        """The next snapshot, for whoever waits; not begun while nobody does."""
        following, loop = self._next, asyncio.get_running_loop()
        if following is None or following.done() or following.get_loop() is not loop:
            self._next = following = loop.create_task(self._look_later(berth))
        return following

    async def _look_later(self, berth: Berthed) -> bytes:
        try:
            await asyncio.wait_for(berth.leaving.wait(), _INTERVAL)
        except asyncio.TimeoutError:
            pass
        self._latest = _event(berth)
        self._made = time.monotonic()
        return self._latest


def _event(berth: Berthed) -> bytes:
    return b"data: %b\n\n" % as_json(snapshot(berth.board)).encode()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
