"""Event loops by name."""

from __future__ import annotations

import asyncio

__all__ = ["end_tasks", "new_event_loop"]

# How long (seconds) cancelled tasks may take for their finally blocks.
_LAST_WORDS = 0.2


def new_event_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A new loop of ``kind``: "uvloop", "asyncio", or "auto" for uvloop where it is installed.

    Raises:
        ImportError: "uvloop" was asked for and is not installed.
    """
    if kind == "asyncio":
        return asyncio.new_event_loop()
    try:
        import uvloop
    except ImportError:
        if kind == "uvloop":
            raise
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel whatever still runs on ``loop`` and let it finish, briefly, before the loop closes."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LAST_WORDS))
    loop.run_until_complete(loop.shutdown_asyncgens())
