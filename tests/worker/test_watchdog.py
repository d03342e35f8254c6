"""worker/watchdog.py: a real thread, and a real loop that a test holds up until it has spoken."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from boards import new_board, new_worker
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.worker import boot
from gunicorn_asgi.worker.counters import Counter
from gunicorn_asgi.worker.scoreboard import Cell, Slot
from gunicorn_asgi.worker.watchdog import Watchdog
from kit.fakes import FakeLog
from kit.rig import both_loops, hello, turns, until
from kit.waiting import wait_until

__all__: list[str] = []

# Seconds; soon over, and far from what a busy machine keeps a loop from turning.
WARNING = 0.3

# A line that waits, of this file or of the kit's.
PLACE = r"[ ]/\S+/tests/\S+\.py:\d+ in \S+\(\)"


class Log(FakeLog):
    """All of Gunicorn's that is used here."""

    def critical(self, msg: str, *args: object) -> None:
        """Remember."""
        self._log("critical", msg, args, {})

    def exception(self, msg: str, *args: object) -> None:
        """Remember."""
        self._log("error", msg, args, {"exc_info": sys.exc_info()[1]})

    def reopen_files(self) -> None:
        """Remember."""
        self.info("reopened")


class Kennel:
    """A watchdog, its log and its slot."""

    def __init__(
        self,
        log: Log | None = None,
        *,
        warning: float = WARNING,
        timeout: float = 0,
        boot: float = 0,
    ) -> None:
        """As a worker makes it."""
        self.log = log or Log()
        self.slot: Slot = new_worker(new_board(), WorkerState.BOOTING)
        values = {"asgi_stall_warning": warning, "asgi_boot_timeout": boot}
        app = SimpleNamespace(app_uri="app:app")
        self.dog = Watchdog(cast("Any", self.log), self.slot, values, timeout, app)

    def guard(self) -> ServerState:
        """On the running loop."""
        state = ServerState(hello, self.log, Limits())
        self.dog.see(state)
        self.dog.guard_loop()
        return state

    def told(self, words: str) -> list[str]:
        """Lines of the log."""
        return [line for line in self.log.lines() if words in line]

    def hold_the_loop_until(self, words: str) -> None:
        """As an application does that blocks."""
        wait_until(lambda: self.told(words), 20, f"{words!r} in {self.log.lines()}")

    def count(self, counter: Counter) -> int:
        """As the board has it."""
        return int(self.slot.counters[counter])


@contextmanager
def kennel(log: Log | None = None, **numbers: float) -> Iterator[Kennel]:
    """Start its thread, and end it."""
    made = Kennel(log, **numbers)
    made.dog.start()
    try:
        yield made
    finally:
        made.dog.limit.stop()
        made.dog.stop()


# -- stalls ----------------------------------------------------------------------------------------


@both_loops
async def test_a_stall_is_one_line_with_its_place_and_one_when_it_is_over() -> None:
    """And is counted."""
    with kennel() as k:
        k.guard()
        await turns()
        k.hold_the_loop_until("Loop blocked")
        await until(lambda: k.told("turns again"))
        (line,) = k.told("Loop blocked")
        assert re.search(PLACE, line)
        assert "in no request; in flight: none (pid: " in line
        assert [level for level, text, _ in k.log.records if "Loop" in text] == ["error", "warning"]
        assert k.count(Counter.STALLS) == 1
        assert k.count(Counter.STALLED_US) >= WARNING * 1e6


@both_loops
async def test_each_stall_is_told_of() -> None:
    with kennel() as k:
        k.guard()
        for count in range(1, 4):
            await until(lambda: len(k.told("turns again")) == count - 1)  # noqa: B023
            wait_until(lambda: len(k.told("Loop blocked")) == count, 20)  # noqa: B023
        await until(lambda: len(k.told("turns again")) == 3)
        assert k.count(Counter.STALLS) == 3


@both_loops
async def test_everything_is_told_of_one_that_lasts() -> None:
    """At half of timeout: stacks, requests, tasks, and other threads; once."""
    gate = threading.Event()
    other = threading.Thread(target=gate.wait, name="a thread of the application's")
    other.start()
    try:
        with kennel(timeout=1.0) as k:
            state = k.guard()
            task = state.start_task(asyncio.Event().wait())  # type: ignore[arg-type]
            await turns()
            k.hold_the_loop_until("all that there is")
            await until(lambda: k.told("turns again"))
            (report,) = k.told("all that there is")
            assert "in hold_the_loop_until\n" in report
            assert "Requests in flight: 0\n" in report
            assert ", running\n" in report
            assert "asyncio/locks.py" in report
            assert "Thread a thread of the application's:\n" in report
            assert len(k.told("Loop blocked")) == 2
            task.cancel()
    finally:
        gate.set()
        other.join(10)


@both_loops
async def test_a_warning_that_would_come_after_the_arbiter_comes_before_it() -> None:
    """asgi_stall_warning is longer than timeout."""
    with kennel(warning=60, timeout=1.0) as k:
        k.guard()
        await turns()
        k.hold_the_loop_until("all that there is")
        assert [line for line in k.log.lines("error") if re.search(PLACE, line)]


@both_loops
async def test_a_loop_that_turns_is_not_told_of() -> None:
    """However busy it is."""
    with kennel(warning=2.0) as k:
        k.guard()
        pulse = k.dog._pulse
        # Three pulses later, at the least.
        await until(lambda: k.dog._pulse > pulse + 0.75, timeout=20)
        assert k.log.lines() == []
        assert k.count(Counter.STALLS) == 0


@both_loops
async def test_one_that_was_over_before_the_thread_could_look_is_still_told_of() -> None:
    """The thread may have had no processor."""
    k = Kennel()
    state = k.guard()
    k.dog._pulse -= 5
    await until(lambda: k.told("nobody saw where"))
    assert k.count(Counter.STALLS) == 1
    assert state.loop is not None
    k.dog.stop()


@both_loops
async def test_0_switches_it_off() -> None:
    with kennel(warning=0) as k:
        k.guard()
        assert k.dog._pulse == 0
        number = k.slot.ask_report()
        wait_until(lambda: k.slot.get(Cell.REPORT_GIVEN) == number, 20)
        assert k.log.lines() == []


# -- reports ---------------------------------------------------------------------------------------


@both_loops
async def test_a_report_is_given_to_whoever_asks_while_the_loop_is_stuck() -> None:
    """As often as asked."""
    with kennel() as k:
        k.guard()
        for _ in range(2):
            number = k.slot.ask_report()
            wait_until(lambda: k.slot.get(Cell.REPORT_GIVEN) == number, 20)  # noqa: B023
            assert "in test_a_report_is_given_to" in k.slot.read_report()


def test_a_report_is_given_during_the_boot() -> None:
    """There is no loop yet."""
    with kennel() as k:
        number = k.slot.ask_report()
        wait_until(lambda: k.slot.get(Cell.REPORT_GIVEN) == number, 20)
        assert "in test_a_report_is_given_during_the_boot\n" in k.slot.read_report()
        assert "Tasks" not in k.slot.read_report()


# -- the boot --------------------------------------------------------------------------------------


def test_a_boot_is_told_of_when_half_of_its_time_is_over() -> None:
    with kennel(boot=2.0) as k:
        k.hold_the_loop_until("Boot is not over")
        (line,) = k.told("Boot is not over")
        assert re.search(PLACE, line.splitlines()[0])


def test_a_boot_that_is_over_is_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time goes on, and who has failed may wait before it ends."""
    k = Kennel(boot=2.0)
    k.dog.limit.start()
    k.dog.limit.stop()
    clock = SimpleNamespace(monotonic=lambda: 1e9)
    monkeypatch.setattr(boot, "time", clock)
    k.dog._look(1e9, 0.0)
    assert k.log.lines() == []
    assert k.dog.limit.half_over_at == 0


# -- the end ---------------------------------------------------------------------------------------


def test_an_aborted_worker_says_where_and_whose_and_no_more() -> None:
    """Its successor has nothing to tell."""
    k = Kennel()
    k.dog.tell_abort(sys._getframe())
    ((level, text, _),) = k.log.records
    assert level == "critical"
    assert text.startswith("Worker aborted (pid: ")
    assert ", in test_an_aborted_worker_says_where_and_whose_and_no_more\n" in text
    assert text.endswith("\nin no request")
    assert k.slot.get(Cell.ENDED_AT) > 0


class Broken(Log):
    """A logger_class of the user's: raises, a number of times."""

    times = 1

    def _log(self, level: str, msg: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._log(level, msg, args, kwargs)
        if self.times:
            self.times -= 1
            raise OSError(28, "No space left on device")


def test_an_abort_goes_on_without_a_log() -> None:
    """worker_abort, and the end of the process, come after it."""
    log = Broken()
    log.times = 9
    Kennel(log).dog.tell_abort(sys._getframe())
    assert log.times == 7


@both_loops
async def test_a_log_that_fails_ends_nothing() -> None:
    """The next stall is told of."""
    log = Broken()
    log.times = 2  # the line, and the complaint about it
    with kennel(log) as k:
        k.guard()
        await turns()
        wait_until(lambda: not log.times, 20)
        await until(lambda: k.told("turns again"))
        wait_until(lambda: len(k.told("Loop blocked")) == 2, 20)
        assert k.told("The watchdog could not look")


class Full(Log):
    """A log that blocks: a pipe that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()

    def error(self, msg: str, *args: object, **kwargs: object) -> None:
        """Block."""
        self.entered.set()
        self.gate.wait(60)


def test_a_log_that_blocks_does_not_hold_up_the_end_of_the_worker() -> None:
    log = Full()
    with kennel(log, boot=3.0) as k:
        assert log.entered.wait(20)
        k.dog.limit.stop()
        k.dog.stop()
        assert k.dog._thread.is_alive()
        log.gate.set()
        k.dog._thread.join(20)
        assert not k.dog._thread.is_alive()


@pytest.mark.parametrize("begin", [lambda k: k.dog.start(), lambda _: None], ids=["on", "off"])
def test_it_ends_at_once_when_it_is_told_to(begin: Callable[[Kennel], None]) -> None:
    """And is never in the way, if it was not started at all."""
    k = Kennel()
    begin(k)
    k.dog.stop()
    k.dog.stop()
    assert not k.dog._thread.is_alive()


def test_logs_are_reopened() -> None:
    """USR1."""
    k = Kennel()
    k.dog.reopen_logs()
    assert k.log.lines("info") == ["reopened"]
