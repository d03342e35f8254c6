"""The watchdog: a thread that sees what the loop, being stuck, cannot say.

The loop gives a pulse. When it does not come, the thread looks at the main thread and tells where
it is and whose request it is. C code that holds the GIL holds up this thread too: for that there
is a timer of faulthandler's, which the pulse sets anew. The thread also answers whoever asks for
a report (``gunicorn-asgi dump``), and tells where a boot hangs.

Nothing of it lies in the path of a request.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from gunicorn.glogging import Logger

from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.worker.boot import BootLimit
from gunicorn_asgi.worker.counters import Counter
from gunicorn_asgi.worker.dumptimer import DumpTimer
from gunicorn_asgi.worker.scoreboard import Cell, Slot, milliseconds
from gunicorn_asgi.worker.witness import Witness

__all__ = ["Watchdog"]

# Seconds. How often the thread looks, so how long who asks for a report waits at the most; how
# often the loop gives a pulse, at the most; how often it sets the timer; how long the end of the
# worker waits for the thread.
_LOOK = 0.5
_PULSE = 0.25
_TIMER = 1.0
_END = 0.5

# When everything is told of a stall that no `timeout` will end (seconds).
_REPORT = 15.0

# What keeps the thread from looking for so long (seconds) keeps everybody: C code with the GIL, or
# a process that stands still.
_LATE = 0.5


class Watchdog:
    """Runs in: worker. The thread, and the loop's pulse.

    Attributes:
        log: the error log.
        limit: of the boot, which has the timer until it is over.
    """

    def __init__(
        self,
        log: Logger,
        slot: Slot,
        values: Mapping[str, Any],
        timeout: float,
        app: object,
    ) -> None:
        """Runs in: worker. Start nothing yet.

        Args:
            log: the error log.
            slot: where reports are asked for and given.
            values: our settings: ``asgi_stall_warning`` and ``asgi_boot_timeout`` (seconds, 0 for
                none).
            timeout: Gunicorn's setting (seconds), 0 for none.
            app: Gunicorn's application, which may know its name as ``module:name``.
        """
        # Process
        self.log = log
        self._slot = slot
        self._witness = Witness(getattr(app, "app_uri", None) or "")
        self.limit = BootLimit(values["asgi_boot_timeout"], DumpTimer(log))
        self._timer = self.limit.timer
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._stopped = threading.Event()
        self._over = False
        self._answered = 0
        # Boot
        self._told_boot = False
        # Pulse: written by the loop, read by the thread
        self._report_after = timeout / 2 if timeout else _REPORT
        warning = min(values["asgi_stall_warning"], self._report_after)
        self._interval = min(warning / 4, _PULSE)
        # Not after the report, and so not after the arbiter.
        self._warn_after = min(warning, self._report_after - self._interval)
        self._pulse = 0.0
        self._set_timer_at = 0.0
        # Stalls: the last pulse before the one that was told of
        self._warned_of = 0.0
        self._reported = 0.0

    # What the worker tells

    def start(self) -> None:
        """Runs in: worker. Before the application is imported."""
        self._timer.guard_forks()
        self.limit.start()
        self._thread.start()

    def reopen_logs(self) -> None:
        """Runs in: worker. USR1."""
        self.log.reopen_files()
        self._timer.follow_log()

    def see(self, state: ServerState) -> None:
        """Runs in: worker. There is a loop now; its startup may still hang."""
        self._witness.see(state)
        self._loop = state.loop

    def guard_loop(self) -> None:
        """Runs in: worker. The boot is over: from now on the loop must not be stuck."""
        if self._warn_after:
            self._pulse = time.monotonic()
            self._beat()

    def tell_abort(self, frame: FrameType | None) -> None:
        """Runs in: signal handler. SIGABRT: the arbiter has given this worker up."""
        self._over = True
        self._timer.cancel()
        if self._pulse:
            self._count(time.monotonic() - self._pulse - self._interval)
        # It does not end without a word: no successor has to tell of it.
        self._slot.put(Cell.ENDED_AT, milliseconds())
        try:
            stack = self._witness.stack(frame)
            sight = self._witness.look(frame)
            self.log.critical(
                "Worker aborted (pid: %s), blocked here:\n%sin %s",
                os.getpid(),
                stack,
                sight.request,
            )
        except Exception:  # noqa: BLE001 - worker_abort and the end of the process come all the same
            self._complain()

    def stop(self) -> None:
        """Runs in: worker. The loop is closed; idempotent. Waits ``_END`` s at the most."""
        self._over = True
        self._stopped.set()
        self._timer.close()
        if self._thread.is_alive():
            self._thread.join(_END)

    # The loop's side

    def _beat(self) -> None:
        """Runs in: worker. The pulse."""
        if self._over:
            return
        now = time.monotonic()
        before, self._pulse = self._pulse, now
        late = now - before - self._interval
        if late >= self._warn_after:
            self._turns_again(before, late)
        if now >= self._set_timer_at:
            self._set_timer(now)
        self._loop.call_later(self._interval, self._beat)

    def _turns_again(self, before: float, late: float) -> None:
        self._count(late)
        if self._warned_of == before:
            self.log.warning("Loop turns again after %.1f s (pid: %s)", late, os.getpid())
        else:  # it was over before the thread came to look
            self.log.warning(
                "Loop was blocked for %.1f s, nobody saw where (pid: %s): the process may have "
                "stood still",
                *(late, os.getpid()),
            )

    def _count(self, seconds: float) -> None:
        if seconds >= self._warn_after:
            self._slot.counters[Counter.STALLS] += 1
            self._slot.counters[Counter.STALLED_US] += int(seconds * 1e6)

    def _set_timer(self, now: float) -> None:
        """After the thread, which cancels it if it can, and before the arbiter."""
        every = min(_TIMER, self._report_after / 4)
        self._set_timer_at = now + every
        self._timer.set(self._report_after * 1.2 + every)

    # The thread

    def _run(self) -> None:
        """Runs in: watchdog thread."""
        # A signal for the process is the main thread's: here it would interrupt nothing.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        due = time.monotonic()
        while not (self._stopped.wait(max(0.0, due - time.monotonic())) or self._over):
            now = time.monotonic()
            try:
                self._look(now, now - due)
            except Exception:  # noqa: BLE001 - nothing that it meets may end the thread
                self._complain()
            due = self._next_look(time.monotonic())

    def _next_look(self, now: float) -> float:
        due = now + _LOOK
        pulse = self._pulse
        if pulse and self._warned_of != pulse:
            due = min(due, pulse + self._interval + self._warn_after)
        elif pulse and self._reported != pulse:
            due = min(due, pulse + self._report_after)
        return max(due, now + 0.01)

    def _look(self, now: float, late: float) -> None:
        asked = self._slot.get(Cell.REPORT_ASKED)
        if asked != self._answered:
            self._answered = asked
            self._slot.give_report(asked, self._witness.report())
        half = self.limit.half_over_at
        if half and now >= half and not self._told_boot:
            self._told_boot = True
            self._tell_boot()
        pulse = self._pulse
        if not pulse:
            return
        blocked = now - pulse - self._interval
        if blocked >= self._warn_after and self._warned_of != pulse:
            self._tell_stall(pulse, blocked, late)
        if now - pulse >= self._report_after and self._reported != pulse:
            self._tell_everything(pulse)

    def _tell_stall(self, pulse: float, blocked: float, late: float) -> None:
        sight = self._witness.look()
        if self._pulse != pulse:
            return  # it turns again: what was seen is not what has blocked it
        self._warned_of = pulse
        if sight.place is None or sight.idle:
            self.log.error(
                "Loop did not turn for %.1f s while no Python code ran (pid: %s): the process "
                "stood still, or had no processor",
                *(blocked, os.getpid()),
            )
            return
        inside = f"inside {sight.place.inside}, " if sight.place.inside else ""
        seen = ""
        if late >= _LATE:
            seen = f", seen {late:.1f} s late: C code held the GIL, or the process stood still"
        # The request by itself: a log in JSON has its id under a key.
        self.log.error(
            "Loop blocked for %.1f s at %s:%d in %s(), %sin %s%s (pid: %s)",
            *(blocked, *sight.place.line, inside, sight.request, seen, os.getpid()),
        )

    def _tell_everything(self, pulse: float) -> None:
        # This thread runs, so nobody holds the GIL, and Python code may run at any moment.
        self._timer.cancel()
        report = self._witness.report()
        if self._pulse == pulse:
            self._reported = pulse
            blocked = time.monotonic() - pulse - self._interval
            self.log.error(
                "Loop blocked for %.1f s (pid: %s), all that there is:\n%s",
                *(blocked, os.getpid(), report),
            )

    def _tell_boot(self) -> None:
        sight = self._witness.look()
        line = sight.place.line if sight.place is not None else None
        if sight.idle:  # lifespan.startup, or the ready check, awaits something
            line = self._witness.waiting_place() or line
        place = f"{line.file}:{line.number} in {line.function}()" if line else "in the loop"
        self.log.error(
            "Boot is not over after %.1f s (pid: %s), %s:\n%s",
            *(self.limit.passed, os.getpid(), place, self._witness.report()),
        )

    def _complain(self) -> None:
        try:
            self.log.exception("The watchdog could not look (pid: %s)", os.getpid())
        except Exception:  # noqa: BLE001 - then there is nobody to tell
            return
