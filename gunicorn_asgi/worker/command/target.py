"""The master that a command is about: found by its pid or pidfile, watched, never changed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from gunicorn_asgi.worker.scoreboard import Header, Scoreboard

__all__ = ["NoMaster", "NoProcess", "Target", "read_pid"]


class NoMaster(Exception):
    """Runs in: command line. There is no such master, or it is gone; the text says which."""


class NoProcess(NoMaster):
    """Runs in: command line. There is not even a process."""


def read_pid(pidfile: str) -> int:
    """Runs in: command line. The pid in a pidfile.

    Raises:
        NoMaster: there is none in it, or no such file.
    """
    try:
        text = Path(pidfile).read_text()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise NoMaster(f"pidfile {pidfile} cannot be read: {reason}") from None
    # isdecimal() also takes digits of other scripts, and so does int().
    if not text.strip().isdecimal() or not int(text):
        raise NoMaster(f"pidfile {pidfile} holds no pid")
    return int(text)


class Target:
    """Runs in: command line. A master and its board.

    Attributes:
        pid: the master's.
        board: for reading only.
    """

    def __init__(self, pid: int) -> None:
        """Runs in: command line.

        Raises:
            NoMaster: ``pid`` is none, or may not be looked at.
        """
        self.pid = pid
        self._started = _start_time(pid)
        if not self._started:
            raise NoProcess(f"there is no process {pid}")
        try:
            self.board = Scoreboard.of_master(pid)
        except LookupError as exc:
            raise NoMaster(str(exc.args[0])) from None
        master = self.board.get(Header.MASTER)
        if master != pid:
            raise NoMaster(f"process {pid} is a worker; its master is {master}")

    @property
    def gone(self) -> bool:
        """Runs in: command line. Whether it has ended; another process may have its pid by now."""
        return _start_time(self.pid) != self._started

    def insist(self) -> None:
        """Runs in: command line. Nothing, as long as the master lives.

        Raises:
            NoMaster: it is gone.
        """
        if self.gone:
            raise NoMaster(f"master {self.pid} is gone")

    def hang_up(self) -> None:
        """Runs in: command line. Send SIGHUP.

        Raises:
            NoMaster: it is gone, or may not be signalled.
        """
        self.insist()
        try:
            os.kill(self.pid, signal.SIGHUP)
        except ProcessLookupError:
            raise NoMaster(f"master {self.pid} is gone") from None
        except PermissionError:
            raise NoMaster(f"master {self.pid} may not be signalled by this user") from None


def _start_time(pid: int) -> str:
    """When the process was started, in ticks since boot; empty if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    # The name, in parentheses, may itself contain spaces and parentheses: proc(5).
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
