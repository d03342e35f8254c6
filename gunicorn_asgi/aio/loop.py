"""Event loops by name."""

from __future__ import annotations

import asyncio

__all__ = ["new_event_loop"]


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
