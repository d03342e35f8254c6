"""Stacks of this process's threads, and the line in them that an operator wants to know."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

import gunicorn

import gunicorn_asgi
from gunicorn_asgi.aio.inflight import Line

__all__ = ["Place", "Places", "formatted", "main_frames", "other_threads", "shown", "waits"]

# Frames of the main thread that are shown; other threads, and frames of each.
_MOST = 60
_THREADS = 20
_FRAMES = 15

_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
# sysconfig says the same, and takes a millisecond to import.
_STDLIB = os.path.join(os.path.dirname(os.__file__), "")
_BASE_EVENTS = os.path.join("asyncio", "base_events.py")
_EVENTS = os.path.join("asyncio", "events.py")
_OURS = os.path.join(os.path.dirname(gunicorn_asgi.__file__), "")
_GUNICORN = os.path.join(os.path.dirname(gunicorn.__file__), "")
# The frames behind it are those that have started the worker.
_WORKER = os.path.join(_OURS, "worker", "worker.py")


class Place(NamedTuple):
    """Runs in: worker. Where a thread is.

    Attributes:
        line: the innermost of the application's own lines, or what comes nearest to it.
        inside: the innermost line of all, as "re/__init__.py:167 match()"; empty if it is ``line``.
    """

    line: Line
    inside: str


class Places:
    """Runs in: worker. Tells the application's own code from what it uses."""

    def __init__(self, application: str) -> None:
        """Runs in: worker. ``application`` is Gunicorn's ``module:name``; may be empty."""
        # It may be installed among the libraries.
        self._package = application.partition(":")[0].partition(".")[0]

    def find(self, frames: Sequence[FrameType]) -> Place | None:
        """Runs in: worker and watchdog thread. The place of ``frames``, innermost first."""
        lines = [Line.of(frame) for frame in frames]
        # A signal's handler may be above it.
        while len(lines) > 1 and lines[0].file.startswith(_OURS):
            del lines[0]
        for wanted in (self.is_own, _is_of_a_library):
            for line in lines:
                if wanted(line):
                    return Place(line, "" if line == lines[0] else _brief(lines[0]))
        return Place(lines[0], "") if lines else None

    def is_own(self, line: Line) -> bool:
        """Runs in: worker and watchdog thread. Whether it is the application's."""
        if _is_nobodys(line.file):
            return False
        top = shown(line.file).partition(os.sep)[0].removesuffix(".py")
        return top == self._package or not (_is_of_a_library(line) or _is_of_python(line))


def _is_nobodys(file: str) -> bool:
    """Neither application nor library: Gunicorn's, ours, or generated code ("<string>")."""
    return file.startswith(("<", _OURS, _GUNICORN))


def _is_of_a_library(line: Line) -> bool:
    return not _is_nobodys(line.file) and any(each in line.file for each in _PACKAGES)


def _is_of_python(line: Line) -> bool:
    return line.file.startswith(_STDLIB)


def _brief(line: Line) -> str:
    return f"{shown(line.file)}:{line.number} {line.function}()"


def shown(file: str) -> str:
    """Runs in: worker and watchdog thread. ``file`` without the folder of its library."""
    for each in _PACKAGES:
        _, found, rest = file.partition(each)
        if found:
            return rest
    return file.removeprefix(_STDLIB)


def waits(frames: Sequence[FrameType]) -> bool:
    """Runs in: worker and watchdog thread. Whether the loop has nothing to do.

    uvloop has no frames of its own then; asyncio runs its callbacks in ``Handle._run``.
    """
    asyncio_runs = bool(frames) and frames[-1].f_code.co_filename.endswith(_BASE_EVENTS)
    return not frames or (
        asyncio_runs and not any(each.f_code.co_filename.endswith(_EVENTS) for each in frames)
    )


def formatted(frames: Sequence[FrameType]) -> str:
    """Runs in: worker, watchdog thread or signal handler. As in a traceback, the innermost last."""
    within = [(each, each.f_lineno or 0) for each in reversed(frames[:_MOST])]
    return "".join(traceback.StackSummary.extract(iter(within)).format())


def main_frames(frame: FrameType | None = None) -> list[FrameType]:
    """Runs in: worker and watchdog thread. What the main thread runs, the innermost first.

    Without the frames that have started the worker. ``frame`` is the innermost, if it is known.
    """
    if frame is None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
    frames = []
    while frame is not None and frame.f_code.co_filename != _WORKER:
        frames.append(frame)
        frame = frame.f_back
    return frames


def other_threads() -> str:
    """Runs in: watchdog thread. The stacks of all threads but the main one and the caller's."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    without = (threading.main_thread().ident, threading.get_ident())
    found = [each for each in sys._current_frames().items() if each[0] not in without]
    parts = []
    for ident, frame in found[:_THREADS]:
        stack = "".join(traceback.format_stack(frame, _FRAMES))
        parts.append(f"Thread {names.get(ident, ident)}:\n{stack}")
    if len(found) > _THREADS:
        parts.append(f"and {len(found) - _THREADS} more threads\n")
    return "".join(parts)
