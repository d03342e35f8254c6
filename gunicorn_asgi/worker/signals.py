"""Signals of a worker, in Gunicorn's meaning, in one table for each phase.

While the application is imported there is no loop: TERM, INT and QUIT end the process there and
then, for nothing was accepted yet. Once the loop runs, handlers go through it and only set
something. SIGABRT stays a plain handler: the arbiter sends it to a worker whose loop is stuck,
where nothing that goes through the loop could run.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = [
    "arm_exit_alarm",
    "disarm_exit_alarm",
    "ignore_further_signals",
    "install_boot_handlers",
    "install_loop_handlers",
]

_RESET = ("ABRT", "HUP", "QUIT", "INT", "TERM", "USR1", "USR2", "WINCH", "CHLD")


def install_boot_handlers(
    on_leave: Callable[[str], None],
    on_usr1: Callable[[], None],
    on_abort: Callable[[FrameType | None], None],
) -> None:
    """Runs in: worker. Handlers for the time without a loop."""

    def leave(signum: int, _frame: FrameType | None) -> None:
        on_leave(signal.Signals(signum).name)
        sys.exit(0)

    def usr1(_signum: int, _frame: FrameType | None) -> None:
        on_usr1()

    def abort(_signum: int, frame: FrameType | None) -> None:
        on_abort(frame)

    for name in _RESET:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(signum, leave)
    signal.signal(signal.SIGUSR1, usr1)
    signal.signal(signal.SIGABRT, abort)
    signal.signal(signal.SIGWINCH, signal.SIG_IGN)
    # USR1 comes from logrotate at any time and must not interrupt a system call.
    signal.siginterrupt(signal.SIGUSR1, False)


def install_loop_handlers(
    loop: asyncio.AbstractEventLoop,
    on_term: Callable[[], None],
    on_quit: Callable[[], None],
    on_usr1: Callable[[], None],
) -> None:
    """Runs in: worker. Handlers that go through the loop, from now on."""
    table: dict[signal.Signals, Callable[[], Any]] = {
        signal.SIGTERM: on_term,
        signal.SIGINT: on_quit,
        signal.SIGQUIT: on_quit,
        signal.SIGUSR1: on_usr1,
    }
    for signum, handler in table.items():
        loop.add_signal_handler(signum, handler)


def ignore_further_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Runs in: worker. Before ``loop`` is closed: what is left is bounded by the exit alarm alone.

    A loop that closes leaves the default action behind, so the next TERM of an arbiter that
    repeats it (Gunicorn 23, after HUP), or a USR1 of logrotate, would cut off worker_exit and
    atexit.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for signum in numbers:
        loop.remove_signal_handler(signum)
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def arm_exit_alarm(seconds: float) -> None:
    """Runs in: worker. Let the kernel end this process in ``seconds`` (at least 0.1).

    After a reload the arbiter never kills an old worker, and a thread of the application that
    does not end would hold the interpreter's exit for ever. SIGALRM's default action needs
    neither a loop nor the GIL.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, max(0.1, seconds))


def disarm_exit_alarm() -> None:
    """Runs in: worker. The worker serves on after all."""
    signal.setitimer(signal.ITIMER_REAL, 0)
