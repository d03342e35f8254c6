"""``dump``: what each worker is doing at this moment. They go on doing it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.command.output import complain, say
from gunicorn_asgi.worker.command.target import NoMaster, Target
from gunicorn_asgi.worker.obituary import in_words
from gunicorn_asgi.worker.scoreboard import Cell, Scoreboard, Slot

__all__ = ["dump"]

# Seconds between two looks; watchdog threads look twice a second.
_INTERVAL = 0.02

# Their threads have ended, or are about to.
_GONE = (WorkerState.EXITED, WorkerState.FAILED)


@dataclass(frozen=True)
class _Question:
    """A report that was asked for."""

    slot: Slot
    pid: int
    number: int

    @property
    def answered(self) -> bool:
        """Runs in: command line. Whether there is an answer."""
        # More, if somebody else has asked meanwhile.
        return self.slot.get(Cell.REPORT_GIVEN) >= self.number

    @property
    def open(self) -> bool:
        """Runs in: command line. Whether there may be one yet."""
        return not self.answered and self.slot.get(Cell.PID) == self.pid and self.slot.alive


def dump(target: Target, worker: int | None, timeout: float) -> int:
    """Runs in: command line. Write a report of every worker, or of one; 0 if all have answered.

    Args:
        target: their master.
        worker: a pid, None for all.
        timeout: how long (seconds) to wait for those that do not answer.

    Raises:
        NoMaster: the master is gone, or may only be looked at.
    """
    try:
        board = Scoreboard.of_master(target.pid, writable=True)
    except LookupError as exc:
        raise NoMaster(str(exc.args[0])) from None
    target.insist()
    questions = [
        _Question(slot, slot.get(Cell.PID), slot.ask_report())
        for slot in board.used_slots()
        if slot.get(Cell.STATE) not in _GONE
        and slot.alive
        and slot.get(Cell.PID)
        and worker in (None, slot.get(Cell.PID))
    ]
    if not questions:
        complain("there is no worker" if worker is None else f"there is no worker {worker}")
        return 1
    ends = time.monotonic() + timeout
    while any(question.open for question in questions) and time.monotonic() < ends:
        time.sleep(_INTERVAL)
    answers = [_tell(question, timeout) for question in questions]
    return 0 if all(answers) else 1


def _tell(question: _Question, timeout: float) -> bool:
    """Write what there is; whether it is an answer."""
    slot = question.slot
    state = WorkerState(slot.get(Cell.STATE)).name.lower()
    title = f"worker {question.pid}, generation {slot.get(Cell.GENERATION)}, {state}"
    if question.answered:
        say(f"== {title} ==\n{slot.read_report()}")
        return True
    if not question.open:
        complain(f"worker {question.pid} has ended")
        return False
    complain(f"worker {question.pid} has not answered for {timeout:g} s: C code holds its GIL?")
    found = slot.read_requests()
    lines = [f"== {title}, from the board ==", f"Requests in flight: {len(found)}"]
    say("\n".join([*lines, *(f"  {each}" for each in in_words(found, len(found)))]) + "\n")
    return False
