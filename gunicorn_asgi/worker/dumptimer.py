"""The stacks of a process whose GIL somebody holds: faulthandler's timer, written to the error log.

Its thread is one of C, and needs neither the GIL nor a signal handler. A process has one such
timer, so everything of ours that wants it comes here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import time

__all__ = ["DumpTimer"]

_STDERR = 2


class DumpTimer:
    """Runs in: worker. Dumps every stack if it is not set again, or cancelled, in time.

    The dump reads the frames of threads without asking them. That is safe as long as they stand
    still, so it must not go off while Python code runs: of dumps of busy processes one of 300 ended
    in a segmentation fault (Python 3.10 to 3.13).
    """

    def __init__(self, log: object = None) -> None:
        """Runs in: worker. ``log`` is Gunicorn's logger; None writes to stderr."""
        self._log = log
        # A copy under a number of our own: the log's may be another file's, or a client's, when
        # the dump is written.
        self._fd = -1
        self._set = False
        # For after a fork.
        self._goes_off = 0.0
        self._end = False
        self._suspended = False

    def set(self, seconds: float, *, end: bool = False) -> None:
        """Runs in: worker. Go off in ``seconds``; with ``end`` the process ends with status 1."""
        if self._fd < 0:
            self.follow_log()
        if self._fd >= 0:
            faulthandler.dump_traceback_later(seconds, exit=end, file=self._fd)
            self._set, self._end = True, end
            self._goes_off = time.monotonic() + seconds

    def cancel(self) -> None:
        """Runs in: worker and watchdog thread. Do not go off; idempotent."""
        if self._set:
            self._set = False
            faulthandler.cancel_dump_traceback_later()

    def guard_forks(self) -> None:
        """Runs in: worker. Stop it while the application forks.

        faulthandler waits for its thread when a process ends, and in a forked child for one that
        does not exist there: the child would hang at its end.
        """
        os.register_at_fork(before=self._suspend, after_in_parent=self._resume)

    def _suspend(self) -> None:
        self._suspended = self._set
        self.cancel()

    def _resume(self) -> None:
        if self._suspended:
            self.set(max(0.1, self._goes_off - time.monotonic()), end=self._end)

    def follow_log(self) -> None:
        """Runs in: worker. The log has been opened (anew): write to that file from now on."""
        # Without a descriptor to write to, as when a daemon has closed stderr, there is no dump.
        with contextlib.suppress(OSError, ValueError):
            source = _descriptor(self._log)
            if self._fd < 0:
                self._fd = os.dup(source)
            else:
                os.dup2(source, self._fd, inheritable=False)

    def close(self) -> None:
        """Runs in: worker. Cancel it for good; idempotent."""
        self.cancel()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _descriptor(log: object) -> int:
    """Of the file that Gunicorn itself writes its error log to; else that of stderr.

    A file that logconfig has opened, or a JSON log, has a format of its own, which stacks would
    break.
    """
    for handler in getattr(getattr(log, "error_log", None), "handlers", ()):
        own = getattr(handler, "_gunicorn", False) and type(handler.formatter) is logging.Formatter
        if own and isinstance(handler, logging.FileHandler) and handler.stream is not None:
            return handler.stream.fileno()
    return _STDERR
