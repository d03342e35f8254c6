"""What /proc says of a tree of processes, and on which core it runs."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cores", "cpu_seconds", "memory", "pinned", "raise_descriptors", "settled", "tree"]

_PROC = Path("/proc")
_TICK: int = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """``pid`` and all that descend from it, parents first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(_PROC):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [pid]
    for each in found:  # grows meanwhile
        found += children.get(each, [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of the tree of ``pid`` until now, all threads, user and system (10 ms fine)."""
    ticks = 0
    for each in tree(pid):
        if fields := _stat(each):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def memory(pid: int) -> int:
    """Proportional set size (PSS) of the tree of ``pid``, in bytes."""
    size = 0
    for each in tree(pid):
        for line in (_PROC / str(each) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                size += int(line.split()[1]) * 1024
    return size


def settled(pid: int) -> int:
    """``memory()`` once it has stopped changing."""
    before = memory(pid)
    for _ in range(20):
        time.sleep(0.25)
        now = memory(pid)
        if abs(now - before) < 64 * 1024:
            break
        before = now
    return now


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name (proc(5)); none if the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def cores() -> tuple[int, int]:
    """A core for the servers and one for the load; the same where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started in here runs on ``core``, with all its children; None: on any."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptors() -> int:
    """Let this process and those it starts open as many files as they may; how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
