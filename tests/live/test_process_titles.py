"""Process titles, for ``ps``: which state a worker is in (setproctitle, /proc/PID/cmdline)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP, SIGTERM

import pytest

from kit.master import Master, wait_until
from kit.wire import Wire, request

APP = """
import asyncio, os

async def until(name):
    while not os.path.exists(name):
        await asyncio.sleep(0.01)

if os.path.exists("slow-import"):
    import time
    while not os.path.exists("imported"):
        time.sleep(0.01)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await until("up")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await until("down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        await until("go")
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"ok"})
"""

BROKEN = """
import os, time
while not os.path.exists("imported"):
    time.sleep(0.01)
raise ValueError("not today")
"""


def title(pid: int) -> str:
    """What ps shows; empty once the process has ended."""
    path = Path(f"/proc/{pid}/cmdline")
    try:
        return path.read_bytes().rstrip(b"\0").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_title(pid: int, end: str) -> None:
    # Connections are counted once a second.
    wait_until(lambda: title(pid).endswith(end), 10, f"the title to end with {end!r}")


@pytest.fixture
def m(loop_kind: str) -> Iterator[Master]:
    args = ("--name", "my app", "--graceful-timeout", "60", "--keep-alive", "60")
    env = {"GUNICORN_ASGI_LOOP": loop_kind}
    with Master("app:app", *args, files={"app.py": APP}, env=env, ready=None) as master:
        yield master
        for name in ("up", "go", "down"):
            master.write(name, "")


def test_the_title_tells_every_state_of_a_life(m: Master) -> None:
    (pid,) = m.wait_workers(1, 20)
    wait_title(pid, "booting, generation 1, 0 connections")
    m.write("up", "")
    wait_title(pid, "ready, generation 1, 0 connections")
    assert title(pid) == "gunicorn: worker [my app] ready, generation 1, 0 connections"
    with Wire(m.connect()) as idle:
        assert idle.request().status == 200
        wait_title(pid, "ready, generation 1, 1 connections")
    wait_title(pid, "ready, generation 1, 0 connections")
    with Wire(m.connect()) as idle, Wire(m.connect(20)) as slow:
        slow.send(request("GET", "/slow"))
        wait_title(pid, "ready, generation 1, 2 connections")
        idle.close()
        wait_title(pid, "ready, generation 1, 1 connections")
        m.kill_worker(pid, SIGTERM)
        wait_title(pid, "draining, generation 1, 1 connections")
        m.write("go", "")
        assert slow.recv_response().status == 200
    wait_title(pid, "exiting, generation 1, 0 connections")
    m.write("down", "")
    wait_until(lambda: pid not in m.workers())


def test_the_title_tells_that_a_worker_imports() -> None:
    files = {"app.py": APP, "slow-import": "", "up": "", "down": ""}
    with Master("app:app", files=files, ready=None) as m:
        (pid,) = m.wait_workers(1, 20)
        wait_title(pid, "gunicorn: worker [app:app]")  # Gunicorn's own title
        m.write("imported", "")
        wait_title(pid, "ready, generation 1, 0 connections")


def test_old_and_new_workers_can_be_told_apart_during_a_reload(m: Master) -> None:
    m.write("up", "")
    (old,) = m.wait_workers(1, 20)
    wait_title(old, "ready, generation 1, 0 connections")
    (m.dir / "up").unlink()
    with Wire(m.connect(20)) as slow:
        slow.send(request("GET", "/slow"))
        wait_title(old, "ready, generation 1, 1 connections")
        m.signal(SIGHUP)
        # The old one still accepts, until the new one does.
        wait_title(old, "holding, generation 1, 1 connections")
        (new,) = [pid for pid in m.wait_workers(2) if pid != old]
        wait_title(new, "booting, generation 2, 0 connections")
        m.write("up", "")
        wait_title(new, "ready, generation 2, 0 connections")
        wait_title(old, "draining, generation 1, 1 connections")
        m.write("go", "")
        assert slow.recv_response().status == 200
    wait_title(old, "exiting, generation 1, 0 connections")
    m.write("down", "")
    m.wait_workers(1)


def test_the_title_tells_that_a_reload_was_rolled_back() -> None:
    # After a HUP Gunicorn 27 does nothing else until the old workers leave or graceful_timeout.
    files = {"app.py": APP, "up": "", "down": ""}
    with Master("app:app", "--graceful-timeout", "3", files=files) as m:
        (old,) = m.workers()
        m.write("app.py", BROKEN)
        m.signal(SIGHUP)
        wait_title(old, "holding, generation 1, 0 connections")
        m.write("imported", "")
        wait_title(old, "ready, generation 1, 0 connections")
        m.wait_workers(lambda pids: pids == [old])
