"""worker/boot.py: the limit of a boot, in a process of its own, and what a failed one means."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from boards import new_board, new_worker
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker import boot
from gunicorn_asgi.worker.boot import (
    BootLimit,
    back_off,
    end_softly,
    end_with_its_line,
    let_the_first_go,
    record_failure,
)
from gunicorn_asgi.worker.counters import Counter
from gunicorn_asgi.worker.loading import NotLoaded
from gunicorn_asgi.worker.scoreboard import Cell, Scoreboard, Slot
from kit.fakes import FakeLog

__all__: list[str] = []

S = WorkerState


class FakeTime:
    """The module ``time``, in so far as it is used: it passes when somebody sleeps."""

    def __init__(self) -> None:
        """Begin at a time which is not zero."""
        self.now = 1000.0

    @property
    def slept(self) -> float:
        """Seconds since the beginning."""
        return self.now - 1000.0

    def monotonic(self) -> float:
        """Tell the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let it pass."""
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """In place of the real one."""
    fake = FakeTime()
    monkeypatch.setattr(boot, "time", fake)
    return fake


@pytest.fixture
def board() -> Scoreboard:
    """Of the second generation, which wants two workers."""
    board = new_board()
    board.begin_generation(2)
    board.begin_generation(2)
    return board


# -- the limit -------------------------------------------------------------------------------------


def test_what_is_left_of_the_limit_is_told(clock: FakeTime) -> None:
    """For lifespan.startup and the ready check, which the loop bounds."""
    limit = BootLimit(10.0)
    assert limit.remaining == 10.0
    clock.now += 9
    assert limit.remaining == 1.0
    clock.now += 9
    assert limit.remaining == 0.0


def test_0_is_no_limit(clock: FakeTime) -> None:
    """Neither a timer nor a handler."""
    before = signal.getsignal(signal.SIGALRM)
    limit = BootLimit(0.0)
    limit.start()
    assert limit.remaining is None
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before
    limit.stop()
    clock.now += 1e9
    assert limit.remaining is None


def test_a_boot_that_is_over_is_not_interrupted() -> None:
    """SIGALRM is the exit alarm's from then on."""
    before = signal.getsignal(signal.SIGALRM)
    limit = BootLimit(60.0)
    try:
        limit.start()
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
        limit.stop()
        limit.stop()
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, before)


HANGS_IN_PYTHON = """
import threading
from gunicorn_asgi.worker.boot import BootLimit, BootTimeout

limit = BootLimit(0.1)
limit.start()
try:
    threading.Event().wait(30)
except BootTimeout as exc:
    limit.stop()
    print(exc)
"""

# As C code that does not come back: SIGALRM reaches no Python handler.
HANGS_IN_C = """
import signal, threading
from gunicorn_asgi.worker.boot import BootLimit

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
limit = BootLimit(0.1)
limit.start()
threading.Event().wait(30)
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.slow
def test_a_boot_that_hangs_is_interrupted_where_it_hangs() -> None:
    """By an exception, so that the traceback shows the place."""
    ended = python(HANGS_IN_PYTHON)
    assert ended.stdout == "boot took longer than asgi_boot_timeout (0.1 s)\n", ended.stderr


@pytest.mark.slow
def test_a_boot_that_hangs_in_c_is_ended_with_its_stack() -> None:
    """faulthandler's thread needs neither the GIL nor a handler; 1 does not halt the arbiter."""
    ended = python(HANGS_IN_C)
    assert ended.returncode == boot.FAILED, ended
    assert "Timeout" in ended.stderr
    assert "threading.py" in ended.stderr


# -- a failure -------------------------------------------------------------------------------------


def fail() -> Exception:
    """An exception with a traceback."""
    try:
        raise ValueError("no such colour")
    except ValueError as exc:
        return exc


def test_a_failure_is_written_down_for_everybody(board: Scoreboard) -> None:
    """State, time and traceback."""
    slot = new_worker(board, S.BOOTING)
    record_failure(slot, fail())
    assert slot.get(Cell.STATE) == S.FAILED
    assert slot.get(Cell.ENDED_AT) > 0
    assert slot.counters[Counter.BOOT_FAILURES] == 1
    text = slot.read_text()
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ValueError: no such colour\n")


# -- the first start: one may halt the arbiter, the others wait for it -----------------------------


def failed(board: Scoreboard, at: int) -> Slot:
    return new_worker(board, S.FAILED, ended_at=at)


def test_the_first_that_fails_goes_at_once(board: Scoreboard, clock: FakeTime) -> None:
    """Whatever the slots' order; at the same time it is the first slot's."""
    slots = [failed(board, 20), failed(board, 10), failed(board, 10)]
    let_the_first_go(board, slots[1], lambda: False)
    assert clock.slept == 0


@pytest.mark.parametrize(("number", "seconds"), [(1, 1), (2, 2), (5, 5), (7, 5)])
def test_each_later_one_waits_a_second_longer(
    number: int, seconds: int, board: Scoreboard, clock: FakeTime
) -> None:
    """In case the arbiter has missed the one before; never longer than 5 s."""
    slots = [failed(board, 10 + each) for each in range(8)]
    let_the_first_go(board, slots[number], lambda: False)
    assert seconds <= clock.slept < seconds + 0.1


@pytest.mark.parametrize("stopping", [None, False])
def test_who_cannot_see_the_arbiter_halt_waits_to_the_end(
    stopping: bool | None, board: Scoreboard, clock: FakeTime
) -> None:
    """And then says it again, with Gunicorn's code."""
    slots = [failed(board, 10), failed(board, 11)]
    let_the_first_go(board, slots[1], lambda: stopping)
    assert clock.slept >= 1


def test_who_sees_the_arbiter_halt_ends_without_a_word(board: Scoreboard, clock: FakeTime) -> None:
    """A second 3 would be met outside of its ``try``, and end the server with 1."""
    slots = [failed(board, 10 + each) for each in range(4)]
    with pytest.raises(SystemExit) as caught:
        let_the_first_go(board, slots[3], lambda: clock.slept > 0.5)
    assert caught.value.code == boot.FAILED
    assert clock.slept < 1


def test_workers_that_boot_or_serve_are_no_reason_to_wait(
    board: Scoreboard, clock: FakeTime
) -> None:
    """Only failed ones have ended with 3."""
    new_worker(board, S.BOOTING)
    new_worker(board, S.EXITED, ended_at=5)
    let_the_first_go(board, failed(board, 10), lambda: False)
    assert clock.slept == 0


# -- later: a code that the arbiter only logs, and no storm ----------------------------------------


@pytest.mark.parametrize(
    ("others", "seconds"),
    [
        ([S.READY, S.READY], 0.0),
        ([S.READY, S.HOLDING], 0.0),
        ([S.READY], 0.5),
        ([S.READY, S.DRAINING], 0.5),
        ([], 0.5),
        ([S.READY, S.FAILED], 1.0),
        ([S.FAILED, S.FAILED], 2.0),
        ([S.FAILED] * 3, 4.0),
        ([S.FAILED] * 4, 5.0),
        ([S.FAILED] * 40, 5.0),
    ],
)
def test_who_will_be_forked_again_waits_longer_each_time(
    others: list[WorkerState], seconds: float, board: Scoreboard
) -> None:
    """Not where enough serve: after a reload nobody is forked in its place."""
    for state in others:
        new_worker(board, state)
    assert back_off(board, new_worker(board, S.FAILED)) == seconds


def test_one_that_no_reload_has_forked_waits_even_where_enough_serve(board: Scoreboard) -> None:
    """The arbiter wants more than the reload did: TTIN, or a worker that is to be replaced."""
    for _ in range(2):
        new_worker(board, S.READY)
    assert back_off(board, new_worker(board, S.FAILED, founder=False)) == 0.5
    assert back_off(board, new_worker(board, S.FAILED, founder=False)) == 1.0


def test_failures_of_the_reload_before_do_not_count(board: Scoreboard) -> None:
    """The code was repaired meanwhile."""
    for _ in range(4):
        new_worker(board, S.FAILED)
    board.begin_generation(2)
    assert back_off(board, new_worker(board, S.FAILED)) == 0.5


NOWHERE = NotLoaded("Cannot load 'ap:app': No module named 'ap'", 3)


def test_a_failure_that_one_line_tells_is_written_down_without_a_traceback(
    board: Scoreboard,
) -> None:
    """It would have no line of the application in it."""
    for _ in range(2):
        new_worker(board)
    slot = new_worker(board, S.BOOTING)
    record_failure(slot, NOWHERE)
    assert slot.read_text() == str(NOWHERE)
    log = FakeLog()
    with pytest.raises(SystemExit) as caught:
        end_softly(board, slot, log, NOWHERE)
    assert caught.value.code == boot.FAILED
    ((_, text, exc),) = log.records
    assert text.endswith(f"): {NOWHERE}")
    assert exc is None


def test_a_first_start_that_one_line_tells_of_ends_with_gunicorns_exit_status() -> None:
    """Anything else is left to Gunicorn."""
    log = FakeLog()
    end_with_its_line(log, ValueError("another"))
    assert log.records == []
    with pytest.raises(SystemExit) as caught:
        end_with_its_line(log, NOWHERE)
    assert caught.value.code == 3
    assert log.lines("error") == [str(NOWHERE)]


@pytest.mark.parametrize(("serving", "seconds"), [(2, 0.0), (0, 0.5)])
def test_a_failed_boot_is_logged_and_ends_with_a_code_that_halts_nobody(
    serving: int, seconds: float, board: Scoreboard, clock: FakeTime
) -> None:
    """3 and 4 would (Arbiter.reap_workers)."""
    for _ in range(serving):
        new_worker(board)
    log, error = FakeLog(), fail()
    with pytest.raises(SystemExit) as caught:
        end_softly(board, new_worker(board, S.FAILED), log, error)
    assert caught.value.code == boot.FAILED == 1
    assert clock.slept == seconds
    (first, *more) = log.records
    assert first[0] == "error"
    assert first[1].startswith("Generation 2 failed to boot (pid: ")
    assert first[2] is error
    assert [text for _, text, _ in more] == (["The next attempt follows in 0.5 s"] * bool(seconds))
