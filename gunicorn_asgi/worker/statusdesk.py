"""What a worker tells the outside of its server: the status port, statsd.

The status port is served beside the public listeners by a server of its own, from the first turn of
the loop to the last: it is asked whether the worker boots, and whether it still drains. Its
application is imported in the master, where there is to be one: one that is read from the disk
later may be of another version than the rest, after an upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.overload import RateLimitedLog
from gunicorn_asgi.aio.server import Server
from gunicorn_asgi.aio.state import ASGIApp, Policy, ServerState
from gunicorn_asgi.protocol.limits import DrainSchedule, Limits
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.worker.berthed import Berthed, moor
from gunicorn_asgi.worker.scoreboard import Scoreboard, Slot
from gunicorn_asgi.worker.settings import Settings
from gunicorn_asgi.worker.statusport import inherited

if TYPE_CHECKING:
    from gunicorn_asgi.worker.statsd import StatsdFeed
    from gunicorn_asgi.worker.worker import Worker

__all__ = ["StatusDesk", "import_needed"]

# Seconds between two words to statsd: workers write their numbers as often.
_INTERVAL = 1.0

# Nobody needs a connection twice: a scraper that keeps one would be bound to this worker, also
# while it is stuck, and whoever drains would have to wait for idle ones.
_LIMITS = Limits(connections=100, keep_alive=0.0, linger=1.0)

# An answer that is under way at the very end has a moment left.
_END = DrainSchedule(tell=0.0, cancel=0.1, stop=0.2, leave=0.2)

# RFC 6455 7.4.1: "going away". No WebSocket is ever open here.
_CODE = 1001


class StatusDesk:
    """Runs in: worker. Registers the server for the status application, and serves the port."""

    def __init__(
        self,
        worker: Worker,
        board: Scoreboard,
        slot: Slot,
        leaving: asyncio.Event,
        stopping: Callable[[], bool | None],
    ) -> None:
        """Runs in: worker. In its loop; see ``Berthed`` for what is handed in."""
        loop = asyncio.get_running_loop()
        allowed = Networks.parse(worker.settings.values["asgi_status_allow"])
        refusals = RateLimitedLog(worker.log, loop.time)
        moor(Berthed(board, allowed, refusals, leaving, stopping, worker.ppid))
        self._server = _serve(worker.settings, worker.log)
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        if isinstance(worker.log, Statsd):
            from gunicorn_asgi.worker.statsd import StatsdFeed

            feed = StatsdFeed(board, slot, worker.log)
            self._timer = loop.call_later(_INTERVAL, self._beat, feed)

    async def close(self) -> None:
        """Runs in: worker. The very last; takes no longer than ``_END``."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.suspend()
            await self._server.end(_END, _CODE)

    def _beat(self, feed: StatsdFeed) -> None:
        self._timer = self._loop.call_later(_INTERVAL, self._beat, feed)
        feed.beat()


def import_needed(settings: Settings, log: Logger) -> None:
    """Runs in: master. Import what workers need for these settings, and others do not.

    It would be a tenth of every start.

    Raises:
        Exception: it cannot be imported.
    """
    if settings.values["asgi_status_bind"]:
        import gunicorn_asgi.status.app
    if isinstance(log, Statsd):
        import gunicorn_asgi.worker.statsd  # noqa: F401


def _serve(settings: Settings, log: Logger) -> Server | None:
    """A server on the status port, if there is one: no hooks, no access log, not counted."""
    sock = inherited()
    if sock is None:
        return None
    from gunicorn_asgi.status.app import StatusApp
    from gunicorn_asgi.status.exposition import MissingLibrary, load

    with contextlib.suppress(MissingLibrary):  # who scrapes is told
        load()  # now, after the application: see there
    policy = Policy(forwarded=settings.forwarded, sendfile=False)
    server = Server(
        ServerState(cast("ASGIApp", StatusApp()), _Log(log), _LIMITS, policy), [Listener(sock)]
    )
    server.start()
    return server


class _Log:
    """Runs in: worker. Gunicorn's, with a word in front: nothing is said of the public side."""

    def __init__(self, log: Logger) -> None:
        self._log = log

    def debug(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Runs in: worker. As in ``Log``."""
        self._log.debug(f"Status page: {msg}", *args, **kwargs)

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Runs in: worker. As in ``Log``."""
        self._log.info(f"Status page: {msg}", *args, **kwargs)

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Runs in: worker. As in ``Log``."""
        self._log.warning(f"Status page: {msg}", *args, **kwargs)

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Runs in: worker. As in ``Log``."""
        self._log.error(f"Status page: {msg}", *args, **kwargs)
