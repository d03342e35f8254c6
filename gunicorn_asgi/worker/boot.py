"""The boot of a worker: its time limit, and what a failed one means.

A first start that fails has to be seen: it ends with Gunicorn's own exit codes 3 and 4, which
halt the arbiter. In a server that has served, the same codes would take the service down with
the worker; there a failed boot is logged, written to the board, and ends with 1.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from gunicorn.glogging import Logger

from gunicorn_asgi.protocol.lifecycle import WorkerState, is_accepting
from gunicorn_asgi.worker.counters import Counter
from gunicorn_asgi.worker.dumptimer import DumpTimer
from gunicorn_asgi.worker.loading import NotLoaded
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard, Slot, milliseconds

__all__ = [
    "FAILED",
    "BootLimit",
    "BootTimeout",
    "back_off",
    "end_softly",
    "end_with_its_line",
    "let_the_first_go",
    "record_failure",
]

# The exit code of a failed boot that must not halt the arbiter.
FAILED = 1

# Pauses (seconds) before a respawned worker that fails again ends, and so is forked again.
_BACK_OFF = (0.5, 1.0, 2.0, 4.0, 5.0)


class BootTimeout(Exception):
    """Runs in: worker. The boot took longer than ``asgi_boot_timeout``."""


class BootLimit:
    """Runs in: worker. Ends a boot that takes too long, in Python or in C.

    Attributes:
        timer: the process's only one, which is free when the boot is over.
        half_over_at: when half of the time is over (``time.monotonic()``); 0 without a limit, and
            when the boot is over.
    """

    def __init__(self, seconds: float, timer: DumpTimer | None = None) -> None:
        """Runs in: worker. ``seconds`` is ``asgi_boot_timeout``; 0 is no limit."""
        self.timer = timer or DumpTimer()
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self.half_over_at = self._ends_at - seconds / 2 if seconds else 0.0

    @property
    def passed(self) -> float:
        """Runs in: watchdog thread. Seconds since the beginning."""
        return time.monotonic() - self._ends_at + self._seconds

    @property
    def remaining(self) -> float | None:
        """Runs in: worker. Seconds left, None without a limit."""
        return max(0.0, self._ends_at - time.monotonic()) if self._seconds else None

    def start(self) -> None:
        """Runs in: worker. From now on a boot that hangs is interrupted where it hangs."""
        if not self._seconds:
            return
        signal.signal(signal.SIGALRM, self._expired)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        # C code that holds the GIL never runs a Python handler.
        self.timer.set(self._seconds + 2.0, end=True)

    def leave_to_loop(self) -> None:
        """Runs in: worker. The loop watches from now on; interrupt only what blocks it.

        Both at the same moment would not do: an exception that a signal handler raises inside a
        callback of the loop's own is logged there and lost, and the waiter with it.
        """
        if self._seconds:
            signal.setitimer(signal.ITIMER_REAL, (self.remaining or 0.0) + 1.0)

    def stop(self) -> None:
        """Runs in: worker. The boot is over; idempotent."""
        self.half_over_at = 0.0
        if not self._seconds:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self.timer.cancel()

    def _expired(self, _signum: int, frame: FrameType | None) -> None:
        """Runs in: signal handler."""
        raise BootTimeout(f"boot took longer than asgi_boot_timeout ({self._seconds:g} s)")


def record_failure(slot: Slot, exc: BaseException) -> None:
    """Runs in: worker. Tell everybody, and whoever asks later, that this boot has failed."""
    whole = isinstance(exc, NotLoaded)  # one line, and none of its traceback's is anybody's
    slot.write_text(str(exc) if whole else "".join(traceback.format_exception(exc)))
    slot.put(Cell.ENDED_AT, milliseconds())
    slot.counters[Counter.BOOT_FAILURES] += 1
    slot.put(Cell.STATE, WorkerState.FAILED)


def let_the_first_go(board: Scoreboard, slot: Slot, stopping: Callable[[], bool | None]) -> None:
    """Runs in: worker. Wait for the arbiter to halt, if another worker has failed before.

    Only one may end with 3 or 4: ``Arbiter.halt()`` reaps the others, meets the second such status
    outside of its ``try``, and ends with 1 and a traceback. But it may have missed the first:
    Gunicorn 23 reaps in a signal handler, and what that raises inside a fork hook is lost. So
    each that failed later waits a second longer, and then says it again.

    Raises:
        SystemExit: the arbiter is halting.
    """
    own = (slot.get(Cell.ENDED_AT), slot.index)
    earlier = sum(
        other.get(Cell.STATE) == WorkerState.FAILED
        and (other.get(Cell.ENDED_AT), other.index) < own
        for other in board.used_slots()
    )
    until = time.monotonic() + min(earlier, _BACK_OFF[-1])
    while time.monotonic() < until:
        if stopping():
            sys.exit(FAILED)
        time.sleep(0.05)


def end_with_its_line(log: Logger, exc: BaseException) -> None:
    """Runs in: worker. Log a first start's failure if one line says all of it, and end.

    Gunicorn would print it to standard error, where an ``errorlog`` does not have it, or with a
    traceback that has no line of the application in it.

    Raises:
        SystemExit: with the exit status that Gunicorn has for it, if it is a NotLoaded.
    """
    if isinstance(exc, NotLoaded):
        log.error("%s", exc)
        sys.exit(exc.status)


def end_softly(board: Scoreboard, slot: Slot, log: Logger, exc: BaseException) -> NoReturn:
    """Runs in: worker. Log a failed boot and end with a code that the arbiter only logs.

    Raises:
        SystemExit: always.
    """
    generation, pid = slot.get(Cell.GENERATION), os.getpid()
    if isinstance(exc, NotLoaded):
        log.error("Generation %d failed to boot (pid: %s): %s", generation, pid, exc)
    else:
        log.error("Generation %d failed to boot (pid: %s)", generation, pid, exc_info=exc)
    pause = back_off(board, slot)
    if pause:
        log.error("The next attempt follows in %g s", pause)
        time.sleep(pause)
    sys.exit(FAILED)


def back_off(board: Scoreboard, slot: Slot) -> float:
    """Runs in: worker. Seconds to wait before ending, so that a respawn is no storm.

    None are needed where the arbiter will not fork another: after a reload, while there are enough
    workers besides this one. One that no reload has forked was missing (one has died) or was asked
    for (TTIN, a worker to be replaced), so the arbiter forks it again, however many there are.
    """
    members = board.members(without=slot)
    enough = sum(is_accepting(m) for m in members) >= board.get(Header.TARGET)
    if enough and slot.get(Cell.FOUNDER):
        return 0.0
    generation = slot.get(Cell.GENERATION)
    failed = sum(m.generation == generation and m.state is WorkerState.FAILED for m in members)
    return _BACK_OFF[min(failed, len(_BACK_OFF) - 1)]
