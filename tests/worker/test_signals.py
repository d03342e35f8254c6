"""The two tables of handlers, with real signals sent to this very process, and the exit alarm."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gunicorn_asgi.worker.signals import (
    arm_exit_alarm,
    disarm_exit_alarm,
    ignore_further_signals,
    install_boot_handlers,
    install_loop_handlers,
)
from kit.fakes import LoopKind, new_loop, run

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__: list[str] = []

SIGNALS = [
    getattr(signal, f"SIG{name}")
    for name in ("ABRT", "ALRM", "HUP", "QUIT", "INT", "TERM", "USR1", "USR2", "WINCH", "CHLD")
]


@pytest.fixture(autouse=True)
def handlers_come_back() -> Iterator[None]:
    """The test process has its own."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


class Calls(list[str]):
    """Remembers who was called."""

    def boot(self) -> None:
        """Install the handlers of the boot."""
        install_boot_handlers(
            self.append,
            lambda: self.append("usr1"),
            lambda frame: self.append(f"abort in {frame.f_code.co_name}" if frame else "abort"),
        )


# -- boot ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT"), (signal.SIGQUIT, "SIGQUIT")],
)
def test_while_booting_the_process_ends_with_status_0(number: int, name: str) -> None:
    """Nothing was accepted yet; who came is told before, for the board and for worker_int."""
    calls = Calls()
    calls.boot()
    with pytest.raises(SystemExit) as caught:
        signal.raise_signal(number)
    assert caught.value.code == 0
    assert calls == [name]


def test_while_booting_usr1_reopens_and_abrt_aborts() -> None:
    """SIGABRT gets the frame that is stuck."""
    calls = Calls()
    calls.boot()
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGABRT)
    assert calls == ["usr1", "abort in test_while_booting_usr1_reopens_and_abrt_aborts"]


def test_winch_is_ignored_and_what_is_the_masters_is_reset() -> None:
    """The arbiter's handlers are inherited by the fork; HUP, USR2, CHLD mean nothing here."""
    for number in SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    Calls().boot()
    assert signal.getsignal(signal.SIGWINCH) is signal.SIG_IGN
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD):
        assert signal.getsignal(number) is signal.SIG_DFL


# -- the loop --------------------------------------------------------------------------------------


async def _one(number: int) -> tuple[list[str], bool]:
    """Send one signal to this process; who was called, and whether a plain handler still counts."""
    calls, called = Calls(), asyncio.Event()
    calls.boot()

    def told(word: str) -> None:
        calls.append(word)
        called.set()

    install_loop_handlers(
        asyncio.get_running_loop(),
        lambda: told("term"),
        lambda: told("quit"),
        lambda: told("usr1"),
    )
    os.kill(os.getpid(), number)
    await asyncio.wait_for(called.wait(), 5)
    return list(calls), signal.getsignal(signal.SIGABRT) is not signal.SIG_DFL


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (signal.SIGTERM, "term"),
        (signal.SIGINT, "quit"),
        (signal.SIGQUIT, "quit"),
        (signal.SIGUSR1, "usr1"),
    ],
)
def test_once_the_loop_runs_a_signal_only_calls_back(
    number: int, word: str, loop_kind: LoopKind
) -> None:
    """No SystemExit any more, whatever the loop is doing; SIGABRT keeps its plain handler."""
    assert run(_one(number), loop_kind) == ([word], True)


async def _abort_in_loop() -> list[str]:
    calls = Calls()
    calls.boot()
    nothing = lambda: None  # noqa: E731 - three times the same
    install_loop_handlers(asyncio.get_running_loop(), nothing, nothing, nothing)
    signal.raise_signal(signal.SIGABRT)
    return list(calls)  # no turn of the loop in between


def test_sigabrt_does_not_wait_for_the_loop(loop_kind: LoopKind) -> None:
    """The arbiter sends it to a worker whose loop is stuck."""
    assert run(_abort_in_loop(), loop_kind) == ["abort in _abort_in_loop"]


# -- the end ---------------------------------------------------------------------------------------

LATE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)


def test_once_the_loop_is_closed_signals_are_ignored(loop_kind: LoopKind) -> None:
    """A closed loop would leave the default action, and with it the end of the process."""
    calls = Calls()
    calls.boot()
    loop = new_loop(loop_kind)
    told = lambda: calls.append("told")  # noqa: E731 - three times the same

    async def main() -> None:
        install_loop_handlers(loop, told, told, told)

    loop.run_until_complete(main())
    ignore_further_signals(loop)
    loop.close()
    for number in LATE:
        assert signal.getsignal(number) is signal.SIG_IGN
        signal.raise_signal(number)
    assert calls == []
    assert not set(LATE) & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.raise_signal(signal.SIGABRT)
    assert calls == ["abort in test_once_the_loop_is_closed_signals_are_ignored"]


# -- the exit alarm --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "least", "most"), [(60.0, 50, 60), (0.0, 0.0, 0.1), (-5, 0, 0.1)]
)
def test_the_alarm_is_set_to_the_seconds_and_never_to_none(
    given: float, least: float, most: float
) -> None:
    """setitimer(0) would disarm it."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    pending = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        arm_exit_alarm(given)
        remaining, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        assert least < remaining <= most
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    finally:
        # What may have come in meanwhile is taken before it could end the tests.
        if signal.SIGALRM in signal.sigpending():
            signal.sigwait({signal.SIGALRM})
        signal.pthread_sigmask(signal.SIG_SETMASK, pending)


def test_the_alarm_can_be_taken_back() -> None:
    """A worker that was recalled serves on."""
    arm_exit_alarm(60.0)
    disarm_exit_alarm()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


STUCK = """
import threading
from gunicorn_asgi.worker.signals import arm_exit_alarm

arm_exit_alarm(0.1)
threading.Event().wait()
"""


@pytest.mark.slow
def test_the_alarm_ends_a_process_whose_threads_do_not() -> None:
    """By SIGALRM's default action: neither a handler nor the interpreter is needed."""
    ended = subprocess.run([sys.executable, "-c", STUCK], timeout=30, check=False)
    assert ended.returncode == -signal.SIGALRM
