"""Tasks for the applications: each in a context of its own, without a detour.

``loop.create_task()`` gives each Task a name of its own, which up to Python 3.11 takes a third of
the time, and lets it wait for the next turn of the loop. Here all have the same name, and from
Python 3.12 on the first step may be taken at once: most answers are complete with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["CAN_START_AT_ONCE", "created", "new_task"]

# Whether what ``new_task()`` returns takes ``eager_start=True``: asyncio's name for a Task that is
# the current one, in its context, from its first step on, as it is later, but takes that at once.
CAN_START_AT_ONCE = sys.version_info >= (3, 12)

_NAME = "request"


def new_task(loop: asyncio.AbstractEventLoop) -> Callable[..., asyncio.Task[None]]:
    """What makes a Task on ``loop`` of a coroutine and a ``context``.

    Without a look at the loop's task factory, if it has one; see ``created()``.
    """
    if sys.version_info >= (3, 11):
        return functools.partial(asyncio.Task, loop=loop, name=_NAME)
    return functools.partial(created, loop)


def created(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, None],
    context: contextvars.Context,
) -> asyncio.Task[None]:
    """A Task as the loop itself makes it."""
    if sys.version_info >= (3, 11):
        return loop.create_task(coroutine, name=_NAME, context=context)
    return context.run(loop.create_task, coroutine, name=_NAME)
