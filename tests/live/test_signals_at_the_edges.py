"""Signals in the first and in the last moment of a worker: none is lost, none does harm."""

from __future__ import annotations

from signal import SIGINT, SIGQUIT, SIGTERM, SIGUSR1
from typing import TYPE_CHECKING

import pytest

from kit.master import READY, Master

if TYPE_CHECKING:
    from kit.fakes import LoopKind

__all__: list[str] = []

APP = """
import atexit, os

print("import in", os.getpid(), flush=True)
atexit.register(lambda: print("atexit in", os.getpid(), flush=True))

async def app(scope, receive, send):
    raise RuntimeError("nobody asks")
"""
# A module that the first worker meets on its way to its loop; it goes on once the gate is there.
GATE = """
import os, time

def wait(name):
    print(name, "in", os.getpid(), flush=True)
    while not os.path.exists("gate"):
        time.sleep(0.01)
"""
SLOW_LOOP = """
import asyncio
import gate

def new_event_loop():
    gate.wait("loop")
    return asyncio.new_event_loop()
"""
SLOW_EXIT = """
def worker_exit(server, worker):
    import gate

    gate.wait("worker_exit")
    worker.log.info("worker_exit ended in %d", worker.pid)
"""


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGQUIT])
def test_a_signal_before_the_loop_is_made_is_not_lost(number: int) -> None:
    """The arbiter sends TERM once, and would wait for graceful_timeout: HUP, and TERM at once."""
    files = {"app.py": APP, "gate.py": GATE, "uvloop.py": SLOW_LOOP}
    with Master("app:app", files=files, ready=None) as master:
        pid = int(master.wait_log(r"loop in (\d+)")[1])
        master.kill_worker(pid, number)
        master.wait_log(rf"Worker exiting \(pid: {pid}\)")
        assert f"import in {pid}" not in master.log()
        # The one that takes its place has nothing to wait for.
        master.write("gate", "")
        master.wait_log(READY)


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGQUIT, SIGUSR1])
def test_a_signal_after_the_loop_is_closed_cuts_nothing_off(
    number: int, loop_kind: LoopKind
) -> None:
    """Gunicorn 23 repeats its TERM after HUP, logrotate sends USR1 when it likes."""
    files = {"app.py": APP, "gate.py": GATE}
    env = {"GUNICORN_ASGI_LOOP": loop_kind}
    with Master("app:app", files=files, config=SLOW_EXIT, env=env) as master:
        (pid,) = master.workers()
        master.kill_worker(pid, SIGTERM)
        master.wait_log(rf"worker_exit in {pid}")
        master.kill_worker(pid, number)
        master.write("gate", "")
        master.wait_log(rf"worker_exit ended in {pid}")
        master.wait_log(rf"atexit in {pid}")
        master.wait_workers(lambda pids: len(pids) == 1 and pid not in pids)
        assert "was sent" not in master.log()
        assert "exited with code" not in master.log()
