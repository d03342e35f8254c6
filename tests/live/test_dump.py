"""``gunicorn-asgi dump``: what workers are doing, stuck ones too; and that asking harms nobody."""

from __future__ import annotations

import re

import pytest

from kit.command import ask
from kit.load import Load, source
from kit.master import Master, wait_until
from kit.wire import WebSocketWire, Wire, request

__all__: list[str] = []

APP = """
import asyncio, os, time

async def wait():
    await asyncio.Event().wait()  # wait

def block():
    while not os.path.exists("go"): time.sleep(0.01)  # block

def deaf():
    sum(range(10**13))

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await wait()
    if scope["path"] == "/wait":
        await wait()
    if scope["path"] == "/block":
        block()
    if scope["path"] == "/deaf":
        deaf()
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def by_pid(master: Master) -> tuple[str, str]:
    return "--pid", str(master.pid)


@pytest.mark.parametrize("warning", ["1", "0"])
def test_it_shows_the_tasks_and_requests_of_every_worker(loop_kind: str, warning: str) -> None:
    env = {"GUNICORN_ASGI_LOOP": loop_kind, "GUNICORN_ASGI_STALL_WARNING": warning}
    with Master("app:app", files={"app.py": APP}, workers=2, env=env) as m:
        with Wire(m.connect()) as wire, WebSocketWire(m.connect()) as ws:
            wire.send(request("GET", "/wait?a=1"))
            ws.connect("/chat")
            wait_until(lambda: "GET '/wait?a=1'" in ask("dump", *by_pid(m)).stdout, 20)
            done = ask("dump", *by_pid(m))
        assert (done.returncode, done.stderr) == (0, "")
        for pid in m.workers():
            assert f"== worker {pid}, generation 1, ready ==\nMain thread (pid: {pid}), " in (
                done.stdout
            )
        task = r"^  request, {} \(request \w+\), \d+\.\d s old\n(?:    .*\n)+    {}"
        place = rf"{m.dir}/app\.py:\d+ in wait\(\)\n    asyncio/locks\.py"
        for name in (r"GET '/wait\?a=1'", "WebSocket GET '/chat'"):
            assert re.search(task.format(name, place), done.stdout, re.MULTILINE), done.stdout
        assert sum(map(int, re.findall(r"^Requests in flight: (\d+)$", done.stdout, re.M))) == 2


def test_a_stuck_worker_answers_and_one_can_be_asked_alone() -> None:
    with Master("app:app", files={"app.py": APP}, workers=2) as m:
        with Wire(m.connect()) as wire:
            wire.send(request("GET", "/block"))
            wait_until(lambda: "in block" in ask("dump", *by_pid(m)).stdout, 20)
            stuck = [
                pid
                for pid in m.workers()
                if "GET '/block'" in ask("dump", *by_pid(m), "--worker", str(pid)).stdout
            ]
            assert len(stuck) == 1
            done = ask("dump", *by_pid(m), "--worker", str(stuck[0]))
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.count("== worker") == 1
            assert ", running\n" in done.stdout
            m.write("go", "")
            assert wire.recv_response().body == b"ok"
        done = ask("dump", *by_pid(m), "--worker", str(m.pid))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"there is no worker {m.pid}\n"


def test_of_a_worker_that_cannot_answer_the_board_tells() -> None:
    """C code holds its GIL; the other one answers."""
    with Master("app:app", files={"app.py": APP}, workers=2, checked=False) as m:
        with Wire(m.connect()) as wire:
            wire.send(request("GET", "/deaf?b=2"))

            def dump() -> str:
                done = ask("dump", *by_pid(m), "--timeout", "2")
                return done.stdout if done.returncode == 1 else ""

            text = wait_until(dump, 20)
            assert re.search(
                r"^== worker \d+, generation 1, ready, from the board ==\nRequests in flight: 1\n"
                r"  GET '/deaf\?b=2' \(request \w+\) of 127\.0\.0\.1:\d+, \d+\.\d s old\n",
                text,
                re.MULTILINE,
            )
            assert text.count("Main thread") == 1
            done = ask("dump", *by_pid(m), "--timeout", "0.1")
            assert re.search(r"worker \d+ has not answered for 0\.1 s", done.stderr)
            for pid in m.workers():
                m.kill_worker(pid)


def test_asking_under_load_fails_no_request() -> None:
    """Again and again, requests, uploads and WebSockets."""
    with Master("app:app", files={"app.py": source("one")}, workers=2) as m:
        with Load(m.connect, keep_alive=4, fresh=4, websocket=2, upload=2) as load:
            pids = m.workers()
            for count in range(1, 9):
                done = ask("dump", *by_pid(m))
                assert (done.returncode, done.stderr) == (0, "")
                load.wait(count * 50)
            assert m.workers() == pids
        load.check()
        assert "[ERROR]" not in m.log()
