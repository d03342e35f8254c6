"""What a worker is doing at this moment, in words: for the log, and for who asks.

Told by its watchdog thread, while the loop turns, is stuck, or does not exist yet.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

from gunicorn_asgi.aio import inflight
from gunicorn_asgi.aio.inflight import Line, TaskView
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.worker.stacks import (
    Place,
    Places,
    formatted,
    main_frames,
    other_threads,
    shown,
    waits,
)

__all__ = ["Sight", "Witness"]

# How many are told of: requests in a line, requests and kinds of tasks in a report, and tasks of a
# kind by their names.
_REQUESTS_IN_LINE = 5
_REQUESTS = 100
_KINDS = 40
_NAMES = 5


class Sight(NamedTuple):
    """Runs in: worker. One look.

    Attributes:
        place: where the main thread is; None where it runs no Python code.
        request: "GET '/' (request 4bf92f35), 1.2 s old", or what there is to say without one.
        idle: whether the loop has nothing to do.
    """

    place: Place | None
    request: str
    idle: bool


class Witness:
    """Runs in: worker. Looks, and never touches."""

    def __init__(self, application: str) -> None:
        """Runs in: worker. ``application`` is Gunicorn's ``module:name``; may be empty."""
        # None as long as there is no loop.
        self._state: ServerState | None = None
        self._places = Places(application)

    def see(self, state: ServerState) -> None:
        """Runs in: worker. There is a loop now."""
        self._state = state

    def look(self, frame: FrameType | None = None) -> Sight:
        """Runs in: worker, watchdog thread or signal handler. The main thread now.

        ``frame`` is its innermost, if it is known.
        """
        frames = main_frames(frame)
        return Sight(self._places.find(frames), self._request(frames), waits(frames))

    def _request(self, frames: Sequence[FrameType]) -> str:
        state = self._state
        if state is None:
            return "no request"
        owner = inflight.owner_of(state, frames)
        if owner is not None:
            return inflight.whose(owner, state.clock())
        open_ones = inflight.requests(state, _REQUESTS_IN_LINE)
        return f"no request; in flight: {'; '.join(open_ones) or 'none'}"

    def waiting_place(self) -> Line | None:
        """Runs in: watchdog thread. A line of the application's where a task waits."""
        for task in self._tasks():
            for line in reversed(task.lines):
                if self._places.is_own(line):
                    return line
        return None

    def stack(self, frame: FrameType | None = None) -> str:
        """Runs in: watchdog thread or signal handler. Of the main thread, the innermost last."""
        return formatted(main_frames(frame)) or "  no Python code\n"

    def report(self) -> str:
        """Runs in: watchdog thread. Stacks, requests and tasks."""
        state = self._state
        requests = inflight.requests(state, _REQUESTS) if state is not None else []
        count = sum(owner is not None for owner in state.tasks.copy().values()) if state else 0
        parts = [
            f"Main thread (pid: {os.getpid()}), most recent call last:\n{self.stack()}",
            f"Requests in flight: {count}\n" + "".join(f"  {each}\n" for each in requests),
            _in_kinds(self._tasks()),
            other_threads(),
        ]
        return "\n".join(part for part in parts if part)

    def _tasks(self) -> list[TaskView]:
        if self._state is None:
            return []
        try:
            return inflight.tasks(self._state.loop, self._state)
        except RuntimeError:  # they come and go faster than they can be listed
            return []


def _title(task: TaskView) -> str:
    request = f", {task.request}" if task.request else ""
    return f"{task.name}{request}{', running' if task.running else ''}"


def _in_kinds(tasks: Sequence[TaskView]) -> str:
    """Tasks that wait at the same place are told of together: there may be thousands."""
    kinds: dict[tuple[Line, ...], list[TaskView]] = {}
    for task in tasks:
        kinds.setdefault(tuple(task.lines), []).append(task)
    words = [f"Tasks: {len(tasks)}\n"] if tasks else []
    for lines, alike in list(kinds.items())[:_KINDS]:
        words += [f"  {_title(task)}\n" for task in alike[:_NAMES]]
        if len(alike) > _NAMES:
            words.append(f"  and {len(alike) - _NAMES} more like it\n")
        words += [f"    {shown(line.file)}:{line.number} in {line.function}()\n" for line in lines]
    if len(kinds) > _KINDS:
        words.append(f"  and tasks that wait at {len(kinds) - _KINDS} other places\n")
    return "".join(words)
