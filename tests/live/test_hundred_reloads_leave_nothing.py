"""A hundred HUPs: no descriptor, thread, process or memory is left of them."""

from __future__ import annotations

from signal import SIGHUP
from typing import NamedTuple

from gunicorn_asgi.worker.scoreboard import SLOTS
from kit import proc
from kit.load import Load, source
from kit.master import Master
from kit.waiting import wait_until

WORKERS = 3
RELOADS = 100
# After so many, everything that is made once has been made.
WARM = 20
MIB = 1024 * 1024


class Use(NamedTuple):
    """What one process uses."""

    descriptors: int
    threads: int
    memory: int


def use(pid: int) -> Use:
    return Use(proc.fds(pid), proc.threads(pid), proc.memory(pid))


def worst(uses: list[Use]) -> Use:
    return Use(*(max(column) for column in zip(*uses, strict=True)))


def reload_once(m: Master, before: set[int]) -> list[int]:
    m.signal(SIGHUP)
    return m.wait_workers(lambda pids: len(pids) == WORKERS and before.isdisjoint(pids), 30)


def test_a_hundred_reloads_leave_nothing_behind() -> None:
    # Every slot of the scoreboard is used at least once, and some again.
    assert RELOADS * WORKERS > SLOTS
    with Master("app:app", workers=WORKERS, files={"app.py": source("same")}) as m:
        with Load(m.connect, keep_alive=0, fresh=1, upload=0) as load:
            before: set[int] = set(m.workers())
            warm: tuple[Use, Use] | None = None
            for number in range(1, RELOADS + 1):
                pids = reload_once(m, before)
                before = set(pids)
                if number == WARM:
                    warm = use(m.pid), worst([use(pid) for pid in pids])
            assert warm is not None
        load.check()
        master, worker = use(m.pid), worst([use(pid) for pid in m.workers()])
        # Its last is not over when it has left the list of workers.
        wait_until(lambda: len(m.leftovers()) == 1 + WORKERS, 10, "the end of the old workers")
        for now, then in ((master, warm[0]), (worker, warm[1])):
            # A worker may have a connection open, or not.
            assert now.descriptors <= then.descriptors + 2, (now, then)
            assert now.threads <= then.threads, (now, then)
            assert now.memory < then.memory + 4 * MIB, (now, then)
        print(warm, master, worker)  # noqa: T201 - the numbers behind the bounds
