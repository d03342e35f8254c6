"""``reload`` and ``wait-ready``: ask, and wait for what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from gunicorn_asgi.protocol.lifecycle import Outcome
from gunicorn_asgi.worker.command.output import complain, say
from gunicorn_asgi.worker.command.report import Report, look
from gunicorn_asgi.worker.command.target import NoMaster, NoProcess, Target
from gunicorn_asgi.worker.scoreboard import Header

__all__ = ["reload", "wait_ready"]

# Seconds between two looks.
_INTERVAL = 0.05

# Old workers look at the board 20 times a second. One that still accepts after as many seconds
# is blocked by its application; the new generation serves all the same.
_SETTLE = 5.0


class Deadline:
    """Runs in: command line. The time that a command may take."""

    def __init__(self, seconds: float) -> None:
        """Runs in: command line."""
        self._began = time.monotonic()
        self._ends = self._began + seconds

    @property
    def passed(self) -> float:
        """Runs in: command line. Seconds since the beginning."""
        return time.monotonic() - self._began

    def pause(self) -> bool:
        """Runs in: command line. Wait a little; False if the time is up."""
        if time.monotonic() >= self._ends:
            return False
        time.sleep(_INTERVAL)
        return True


def reload(target: Target, timeout: float) -> int:
    """Runs in: command line. Send SIGHUP; 0 if the new generation serves, 1 if not.

    Raises:
        NoMaster: the master is gone.
    """
    before = target.board.get(Header.GENERATION)
    deadline = Deadline(timeout)
    target.hang_up()
    report = _look(target)
    # The master may be busy: after a rollback it waits for its old workers, in vain, for up to
    # graceful_timeout (Gunicorn >= 25). Until then the board tells of the reload before.
    while report.generation <= before or report.verdict == Outcome.PENDING.value:
        if not deadline.pause():
            return _no_verdict(report, before, timeout)
        report = _look(target)
    if report.verdict != Outcome.FAILED.value:
        report = _settle(target, report)
    if report.verdict == Outcome.COMPLETE.value:
        took = deadline.passed
        say(f"generation {report.generation} serves: {_serving(report)}, after {took:.1f} s")
        return 0
    complain(report.reason)
    complain(_bad_news(report))
    return 1


def wait_ready(find: Callable[[], Target], timeout: float, *, patient: bool) -> int:
    """Runs in: command line. 0 as soon as every worker that is wanted is ready.

    Args:
        find: finds the master; asked again until it does, for it may be about to fork its first
            worker.
        timeout: seconds.
        patient: whether even its process may be about to appear.

    Raises:
        NoMaster: there is none when the time is up, or it was there and is gone.
    """
    deadline = Deadline(timeout)
    target: Target | None = None
    while True:
        try:
            target = target or find()
        except NoMaster as exc:
            if (isinstance(exc, NoProcess) and not patient) or not deadline.pause():
                raise
            continue
        report = _look(target)
        if 0 < report.wanted <= report.ready:
            say(f"generation {report.generation} is ready: {_serving(report)}")
            return 0
        if report.verdict == Outcome.FAILED.value and report.ready_before:
            complain(report.reason)
            complain(_bad_news(report))
            return 1
        if not deadline.pause():
            complain(f"not ready after {timeout:g} s: {_serving(report)}")
            return 1


def _look(target: Target) -> Report:
    # In this order: what the board says of a master that is gone is no verdict.
    report = look(target.board)
    target.insist()
    return report


def _settle(target: Target, report: Report) -> Report:
    """Wait until no older worker accepts, so that whoever comes next meets the new generation."""
    deadline = Deadline(_SETTLE)
    while report.ready_before and deadline.pause():
        later = _look(target)
        if later.generation != report.generation:
            break  # somebody else's reload, which says nothing about this one
        report = later
    return report


def _serving(report: Report) -> str:
    older = f", {report.ready_before} older" if report.ready_before else ""
    return f"{report.ready} of {report.wanted} workers ready{older}"


def _bad_news(report: Report) -> str:
    if report.verdict == Outcome.REFUSED.value:
        return (
            f"generation {report.generation} serves with the old configuration: the new one "
            "could not be loaded"
        )
    stays = "the one before serves on" if report.ready_before else "nobody serves"
    if report.ready and not report.ready_before:
        stays = f"{report.ready} of its workers serve"
    return f"generation {report.generation} failed: {stays}"


def _no_verdict(report: Report, before: int, timeout: float) -> int:
    what = f"no verdict after {timeout:g} s"
    if report.generation <= before:
        complain(f"{what}: the master has not begun to reload")
    else:
        complain(f"{what}: generation {report.generation} is still pending, {_serving(report)}")
    return 1
