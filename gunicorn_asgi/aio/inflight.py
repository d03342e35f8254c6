"""What an event loop is busy with: whose task it runs, and where the others wait.

For a thread that asks while the loop turns, or is stuck: nothing here waits for it, and nothing is
written. What it finds may be a moment old.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import NamedTuple

from gunicorn_asgi.aio.state import Owner, ServerState
from gunicorn_asgi.protocol.exchange import Writing
from gunicorn_asgi.protocol.identity import RequestName, named

__all__ = ["Line", "TaskView", "owner_of", "requests", "tasks", "whose"]

# What frameworks call what they pass on: a scope, or an object that has it as `scope`.
_CARRIERS = ("scope", "request", "websocket", "conn", "connection", "req", "ws", "self")

# Frames of one task that are listed, counted from where it waits.
_DEPTH = 12


class Line(NamedTuple):
    """A line of code that is being run, or is waited at."""

    file: str
    number: int
    function: str

    @classmethod
    def of(cls, frame: FrameType) -> Line:
        """Where ``frame`` is."""
        return cls(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name)


class TaskView(NamedTuple):
    """A task of the loop.

    Attributes:
        name: asyncio's.
        request: whose it is, see ``whose()``; empty if it is no request's own.
        running: whether it does not wait, but is what the loop is busy with.
        lines: from its coroutine to where it waits; while it runs, only the first.
    """

    name: str
    request: str
    running: bool
    lines: list[Line]


def whose(owner: Owner, now: float) -> RequestName:
    """A request in words: method, target, id, age; ``now`` is of ``ServerState.clock``.

    GET '/search?q=a' (request 4bf92f35), 3.1 s old, after its response
    """
    head = owner.head
    kind = "WebSocket " if head.websocket else ""
    # Background work, as Starlette's BackgroundTask, belongs to no request that a client waits for.
    over = ", after its response" if getattr(owner, "writing", None) is Writing.DONE else ""
    words = RequestName(f"{kind}{named(head)}, {now - head.received:.1f} s old{over}")
    words.request_id = head.request_id
    return words


def requests(state: ServerState, most: int) -> list[str]:
    """Every request in flight in words, the oldest first; beyond ``most`` only their number."""
    now = state.clock()
    owners = [each for each in state.tasks.copy().values() if each is not None]
    owners.sort(key=lambda owner: owner.head.received)
    words: list[str] = [whose(owner, now) for owner in owners[:most]]
    return [*words, f"and {len(owners) - most} more"] if len(owners) > most else words


def owner_of(state: ServerState, frames: Iterable[FrameType]) -> Owner | None:
    """Whose code the loop runs at this moment; None if it is no request's.

    Args:
        state: of the worker whose loop it is.
        frames: of the loop's thread, the innermost first.
    """
    running = state.tasks.copy()
    task = asyncio.current_task(state.loop)
    owner = running.get(task) if task is not None else None
    owner = owner or state.starting
    if owner is not None or task is None:
        return owner
    # Another task: one that the application has started, as Starlette's BaseHTTPMiddleware does
    # for each request. Scopes are copied on their way through an application, but the list of
    # headers in them stays the same object.
    known = {id(each.scope.get("headers")): each for each in running.values() if each is not None}
    known.pop(id(None), None)
    for frame in frames if known else ():
        for scope in _scopes_in(frame):
            found = known.get(id(scope.get("headers")))
            if found is not None:
                return found
    return None


def _scopes_in(frame: FrameType) -> Iterable[Mapping[str, object]]:
    """What may be scopes among the local variables.

    The variables of other frames are left alone: up to Python 3.12 a look makes a copy, which
    keeps everything in it alive until the frame ends.
    """
    code = frame.f_code
    names = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}.intersection(_CARRIERS)
    if not names:
        return
    variables = frame.f_locals
    for name in names:
        value = variables.get(name)
        # Neither isinstance() nor getattr(): a lazy proxy would run code of the application.
        if not issubclass(type(value), dict):
            try:
                value = object.__getattribute__(value, "__dict__").get("scope")
            except AttributeError:
                continue
        if issubclass(type(value), dict):
            yield value  # type: ignore[misc]


def tasks(loop: asyncio.AbstractEventLoop, state: ServerState | None) -> list[TaskView]:
    """Every task of ``loop``, those of requests first.

    Raises:
        RuntimeError: there were so many new ones meanwhile that they could not be listed.
    """
    owners = state.tasks.copy() if state is not None else {}
    now = state.clock() if state is not None else 0.0
    current = asyncio.current_task(loop)
    views = []
    for task in asyncio.all_tasks(loop):
        owner = owners.get(task)
        if owner is None and state is not None and task is current:
            owner = state.starting
        request = whose(owner, now) if owner is not None else ""
        views.append(TaskView(task.get_name(), request, task is current, _lines(task.get_coro())))
    return sorted(views, key=lambda view: (not view.request, len(view.name), view.name))


def _lines(coroutine: object) -> list[Line]:
    """Where it waits: the last ``_DEPTH`` frames, as ``Task.get_stack`` shows only the first."""
    lines: deque[Line] = deque(maxlen=_DEPTH)
    while True:
        # Other awaitables do not tell what they wait for, and asking them might run their code.
        if type(coroutine) is CoroutineType:
            frame, coroutine = coroutine.cr_frame, coroutine.cr_await
        elif type(coroutine) is GeneratorType:
            frame, coroutine = coroutine.gi_frame, coroutine.gi_yieldfrom
        elif type(coroutine) is AsyncGeneratorType:
            frame, coroutine = coroutine.ag_frame, coroutine.ag_await
        else:
            return list(lines)
        if frame is not None:
            lines.append(Line.of(frame))
