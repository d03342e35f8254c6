"""``graceful_timeout`` (docs, "Settings") holds, whatever the application does about its end.

The arbiter kills after it on a stop; after a reload, and once the master is gone, nobody does.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from signal import SIGHUP, SIGKILL, SIGTERM, SIGUSR1

import pytest

from kit import proc
from kit.master import Master, wait_until
from kit.wire import Wire, request

APP = """
import asyncio, atexit, os, threading, time

def note(what):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {what}\\n")

atexit.register(note, "atexit")

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note("asked")

async def background():
    asyncio.get_running_loop().task = asyncio.create_task(stubborn())

async def thread():
    threading.Thread(target=time.sleep, args=(60,)).start()

async def executor():
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)

WORK = {"/stubborn": stubborn, "/background": background, "/thread": thread, "/executor": executor}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            note(kind)
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    note("began")
    await WORK[scope["path"]]()
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"ok"})
"""
GRACEFUL = 3


def stop(m: Master) -> None:
    m.signal(SIGTERM)


def reload(m: Master) -> None:
    m.signal(SIGHUP)


def lose_the_master(m: Master) -> None:
    m.signal(SIGKILL)


def master(loop: str) -> Master:
    return Master(
        "app:app",
        *("--graceful-timeout", str(GRACEFUL)),
        files={"app.py": APP},
        env={"GUNICORN_ASGI_LOOP": loop},
        checked=False,
    )


def notes(m: Master, pid: int) -> list[str]:
    path = m.dir / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{pid} ")]


@pytest.mark.parametrize("leave", [stop, reload, lose_the_master])
def test_an_app_that_refuses_to_be_cancelled_is_left_behind(
    leave: Callable[[Master], None], loop_kind: str
) -> None:
    with master(loop_kind) as m, Wire(m.connect(30)) as wire:
        (pid,) = m.workers()
        wire.send(request("GET", "/stubborn"))
        wait_until(lambda: "began" in notes(m, pid))
        leave(m)
        assert wire.wait_end() in ("eof", "reset")
        wait_until(lambda: not proc.alive(pid), 10, "the worker to end")
        assert notes(m, pid).count("asked") >= 1
        assert notes(m, pid).count("lifespan.shutdown") == 1
        # It was not killed: the worker itself has said its last word.
        assert f"Worker exiting (pid: {pid})" in m.log()
        assert not re.search(r"SIGKILL|SIGALRM|WORKER TIMEOUT", m.log())


@pytest.mark.parametrize("leave", [reload, lose_the_master])
@pytest.mark.parametrize("path", ["/background", "/thread", "/executor"])
def test_what_the_app_has_left_running_does_not_hold_the_process(
    path: str, leave: Callable[[Master], None]
) -> None:
    # Python waits at its end for threads, without a limit (threading._shutdown).
    with master("auto") as m:
        (pid,) = m.workers()
        with Wire(m.connect()) as wire:
            assert wire.request("GET", path).status == 200
        leave(m)
        m.wait_log(rf"Worker exiting \(pid: {pid}\)")
        wait_until(lambda: not proc.alive(pid), GRACEFUL + 5, "the worker to end")
        assert "lifespan.shutdown" in notes(m, pid)
        assert "SIGKILL" not in m.log()


@pytest.mark.parametrize("number", [SIGTERM, SIGUSR1])
def test_signals_until_the_very_end_disturb_nobody(number: int, loop_kind: str) -> None:
    # The arbiter repeats TERM after HUP (Gunicorn 23), logrotate sends USR1 at any time.
    with master(loop_kind) as m:
        (pid,) = m.workers()
        with Wire(m.connect()) as wire:
            assert wire.request("GET", "/background").status == 200
        m.kill_worker(pid, SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            while proc.alive(pid):
                os.kill(pid, number)
        m.wait_log(r"Worker ready", count=2)
        assert notes(m, pid)[-1] == "atexit"
        assert not re.search(rf"Traceback|LocalProtocolError|\(pid:{pid}\) (was|exited)", m.log())
