"""The heartbeat and ``timeout`` (docs, "Settings"; Arbiter.murder_workers): who is slow lives, who
is stuck does not.
"""

from __future__ import annotations

import re
from signal import SIGHUP, SIGTERM

import pytest

from kit.master import READY, Master, wait_until
from kit.wire import Wire, request

HEAD = """
import asyncio, os, time

def note(what):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {what}\\n")
"""
APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        STARTUP
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        SHUTDOWN
        note("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        note("slow began")
        await asyncio.sleep(4)
    if scope["path"] == "/block":
        note("block began")
        time.sleep(60)  # the culprit
    if scope["path"] == "/spin":
        note("spin began")
        while True:
            spin()
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"ok"})

def spin():
    return sum(range(1000))  # the culprit
"""
KILLED = re.compile(r"WORKER TIMEOUT|SIGKILL|SIGABRT|Worker aborted")


def app(before: str = "", startup: str = "pass", shutdown: str = "pass") -> str:
    return HEAD + before + APP.replace("STARTUP", startup).replace("SHUTDOWN", shutdown)


def master(text: str, *args: str, timeout: int = 2, loop: str = "auto") -> Master:
    args = ("--timeout", str(timeout), "--graceful-timeout", "20", *args)
    return Master("app:app", *args, files={"app.py": text}, env={"GUNICORN_ASGI_LOOP": loop})


def ask(m: Master) -> None:
    with Wire(m.connect(20)) as wire:
        assert wire.request().body == b"ok"


def notes(m: Master) -> str:
    path = m.dir / "notes"
    return path.read_text() if path.exists() else ""


# Slow


@pytest.mark.parametrize(
    "text",
    [
        app(before="time.sleep(4)\n"),
        app(startup="time.sleep(4)"),
        app(startup="await asyncio.sleep(4)"),
    ],
    ids=["import", "blocking startup", "startup"],
)
def test_a_start_that_takes_longer_than_timeout_is_not_killed(text: str) -> None:
    with master(text) as m:
        ask(m)
        assert not KILLED.search(m.log())
        assert m.log().count("Booting worker") == 1


def test_a_reload_that_takes_longer_than_timeout_is_not_killed() -> None:
    text = app(before="time.sleep(0 if os.path.exists('quick') else 4)\n")
    with Master("app:app", "--timeout", "2", files={"app.py": text, "quick": ""}) as m:
        (m.dir / "quick").unlink()
        mark = m.mark()
        m.signal(SIGHUP)
        m.wait_log(READY, 20, after=mark)
        ask(m)
        assert not KILLED.search(m.log())


def test_an_idle_worker_is_not_killed(loop_kind: str) -> None:
    with master(app(), loop=loop_kind, timeout=1) as m, Wire(m.connect(20)) as wire:
        (pid,) = m.workers()
        # Longer than timeout, and longer than the arbiter's turn of a second.
        wire.assert_silent(1)
        for _ in range(3):
            with Wire(m.connect(20)) as fresh:
                fresh.assert_silent(1)
        assert m.workers() == [pid]
        assert not KILLED.search(m.log())


def test_a_request_that_takes_longer_than_timeout_is_not_killed() -> None:
    # With an asynchronous worker, timeout is about the loop, not about a request.
    with master(app()) as m, Wire(m.connect(20)) as wire:
        assert wire.request("GET", "/slow").body == b"ok"
        assert not KILLED.search(m.log())


@pytest.mark.parametrize("to", ["master", "worker", "reload"])
def test_a_drain_that_takes_longer_than_timeout_is_not_killed(to: str) -> None:
    with master(app()) as m, Wire(m.connect(20)) as wire:
        (pid,) = m.workers()
        wire.send(request("GET", "/slow"))
        wait_until(lambda: "slow began" in notes(m))
        if to == "worker":
            m.kill_worker(pid, SIGTERM)
        else:
            m.signal(SIGTERM if to == "master" else SIGHUP)
        response = wire.recv_response()
        assert (response.body, response.header("connection")) == (b"ok", b"close")
        wire.close()
        wait_until(lambda: pid not in m.workers())
        assert f"{pid} shutdown" in notes(m)
        assert not KILLED.search(m.log())


def test_a_shutdown_that_takes_longer_than_timeout_is_not_killed() -> None:
    with master(app(shutdown="await asyncio.sleep(4)")) as m:
        m.signal(SIGTERM)
        assert m.wait_exit(20) == 0
        assert "shutdown" in notes(m)
        assert not KILLED.search(m.log())


def test_timeout_0_switches_it_off() -> None:
    with master(app(), timeout=0) as m, Wire(m.connect(20)) as wire:
        assert wire.request("GET", "/slow").body == b"ok"
        assert not KILLED.search(m.log())


# Stuck


@pytest.mark.parametrize(("path", "function"), [("/block", "app"), ("/spin", "spin")])
def test_a_blocked_loop_is_killed_and_the_log_names_the_line(
    path: str, function: str, loop_kind: str
) -> None:
    with master(app(), loop=loop_kind) as m, Wire(m.connect(30)) as wire:
        (pid,) = m.workers()
        wire.send(request("GET", path))
        assert wire.wait_end() in ("eof", "reset")
        m.wait_log(READY, 20, count=2)
        assert f"WORKER TIMEOUT (pid:{pid})" in m.log()
        place = m.wait_log(rf"\(pid: {pid}\), blocked here:\n(?:  .*\n)*  File .*app\.py\", (.*)\n")
        # The innermost frame, with its line of code.
        assert re.fullmatch(rf"line \d+, in {function}", place[1])
        assert "# the culprit" in m.log()[place.end() :].splitlines()[0]
        ask(m)
        # SIGABRT was enough: the worker itself has left, and its SIGKILL was not needed.
        assert f"Worker exiting (pid: {pid})" in m.log()
        assert "SIGKILL" not in m.log()


def test_who_swallows_the_end_is_killed_all_the_same(loop_kind: str) -> None:
    text = (
        app().replace("time.sleep(60)", "block()")
        + """
def block():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            note("swallowed")
"""
    )
    with master(text, loop=loop_kind) as m, Wire(m.connect(30)) as wire:
        (pid,) = m.workers()
        wire.send(request("GET", "/block"))
        assert wire.wait_end() in ("eof", "reset")
        m.wait_log(READY, 20, count=2)
        assert f"{pid} swallowed" in notes(m)
        assert pid not in m.workers()
        ask(m)


def test_the_other_worker_serves_while_one_is_stuck() -> None:
    with (
        Master("app:app", "--timeout", "5", workers=2, files={"app.py": app()}) as m,
        Wire(m.connect(30)) as wire,
    ):
        wire.send(request("GET", "/block"))
        wait_until(lambda: "block began" in notes(m))
        for _ in range(20):
            ask(m)
        assert wire.wait_end() in ("eof", "reset")
        m.wait_log(READY, count=3)
