"""What /proc says about processes: who is whose child, who is in which session, what they use."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Stat",
    "alive",
    "children",
    "fds",
    "memory",
    "naming",
    "session_members",
    "stat",
    "threads",
]

PROC = Path("/proc")


@dataclass(frozen=True)
class Stat:
    """The fields of ``/proc/PID/stat`` that the kit reads."""

    pid: int
    name: str
    state: str
    ppid: int
    session: int
    start_stack: int

    @property
    def alive(self) -> bool:
        """Whether it still runs: a zombie has ended, only nobody has asked for its status yet."""
        return self.state not in "ZXx"


def stat(pid: int) -> Stat | None:
    """Read one process, or None when there is no such process (any more)."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may itself contain spaces and parentheses: proc(5).
    head, _, tail = text.rpartition(")")
    name = head.partition("(")[2]
    fields = tail.split()
    return Stat(
        pid=pid,
        name=name,
        state=fields[0],
        ppid=int(fields[1]),
        session=int(fields[3]),
        start_stack=int(fields[25]),
    )


def _all() -> Iterator[Stat]:
    for entry in os.listdir(PROC):
        if entry.isdigit():
            found = stat(int(entry))
            if found is not None and found.alive:
                yield found


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    found = stat(pid)
    return found is not None and found.alive


def children(pid: int) -> list[Stat]:
    """Living children of ``pid``, oldest first."""
    return sorted((each for each in _all() if each.ppid == pid), key=lambda each: each.pid)


def session_members(session: int) -> list[Stat]:
    """Every living process of a session: start_new_session gives each master one of its own."""
    return [each for each in _all() if each.session == session]


def naming(text: str) -> list[Stat]:
    """Every living process that has this text in its command line or its environment."""
    return [each for each in _all() if text.encode() in _start_of(each.pid)]


def _start_of(pid: int) -> bytes:
    said = b""
    for name in ("cmdline", "environ"):
        # Ended in between, or somebody else's: then it is none that we have started.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            said += (PROC / str(pid) / name).read_bytes()
    return said


def memory(pid: int) -> int:
    """Resident memory in bytes."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no resident memory: it has ended")


def fds(pid: int) -> int:
    """Count the open file descriptors."""
    return len(os.listdir(PROC / str(pid) / "fd"))


def threads(pid: int) -> int:
    """Count the threads."""
    return len(os.listdir(PROC / str(pid) / "task"))
