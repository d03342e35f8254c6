"""A loop that is stuck: the log names the line and the request, and the worker is replaced."""

from __future__ import annotations

import json
import re
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGUSR1

import pytest

from kit.master import READY, Master, wait_until
from kit.wire import WebSocketWire, Wire, request

__all__: list[str] = []

HOOK = 'def worker_abort(worker): worker.log.info("HOOK worker_abort (pid: %s)", worker.pid)\n'

APP = """
import asyncio, ctypes, re, time

def sleep():
    time.sleep(60)  # sleep

def spin():
    while True: pass  # spin

def regex():
    re.match("(a|aa)+$", "a" * 70 + "b")  # regex

def call():
    ctypes.PyDLL(None).sleep(60)  # call

def deaf():
    sum(range(10**13))  # deaf

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass
        return
    path = scope["path"].strip("/")
    if path == "wait":
        await asyncio.Event().wait()
    elif path:
        globals()[path]()
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def line_of(text: str, mark: str) -> int:
    """The number of the line that ends with that comment."""
    (number,) = [n for n, line in enumerate(text.splitlines(), 1) if line.endswith(f"# {mark}")]
    return number


def ask(m: Master) -> None:
    with Wire(m.connect(20)) as wire:
        assert wire.request().body == b"ok"


# -- longer than timeout: what the log says, and what comes after it -------------------------------

# Whether a thread of Python's can run meanwhile, and whether a signal's handler can.
STUCK = {
    "sleep": (True, True),
    "spin": (True, True),
    "regex": (False, True),
    "call": (False, True),
    "deaf": (False, False),
}


def test_whatever_blocks_the_loop_is_named_with_its_request_and_the_worker_replaced(
    loop_kind: str,
) -> None:
    """Of C code that holds the GIL the timer tells the line, and the successor the request."""
    args = ("--timeout", "2")
    env = {"GUNICORN_ASGI_LOOP": loop_kind, "GUNICORN_ASGI_STALL_WARNING": "0.4"}
    with Master("app:app", *args, files={"app.py": APP}, config=HOOK, env=env) as m:
        for count, (name, (thread, handler)) in enumerate(STUCK.items(), 2):
            mark = m.mark()
            (pid,) = m.workers()
            place = rf"{m.dir}/app\.py:{line_of(APP, name)} in {name}\(\)"
            whose = rf"GET '/{name}\?a=1' \(request ([0-9a-f]{{32}})\)"
            with Wire(m.connect(30)) as wire:
                wire.send(request("GET", f"/{name}?a=1"))
                assert wire.wait_end() in ("eof", "reset")
            m.wait_log(READY, 20, count=count)
            ask(m)
            log = m.log(mark)
            assert f"WORKER TIMEOUT (pid:{pid})" in log
            told = []
            if thread:
                told += re.findall(
                    rf"\[ERROR\] Loop blocked for \d\.\d s at {place}, in {whose}, \d\.\d s old "
                    rf"\(pid: {pid}\)\n",
                    log,
                )
                assert log.count("s at ") == 1
                assert re.search(
                    rf"Loop blocked for \d\.\d s \(pid: {pid}\), all that there is:\n", log
                )
                assert "Timeout (" not in log
            else:
                # As faulthandler writes it.
                line = rf'  File "{m.dir}/app\.py", line {line_of(APP, name)} in {name}\n'
                assert re.search(rf"^Timeout \((?:.*\n)+?{line}", log, re.MULTILINE)
            if handler:
                assert f"HOOK worker_abort (pid: {pid})" in log
                stack = r"blocked here:\n(?:  .*\n)+"
                told += re.findall(rf"Worker aborted \(pid: {pid}\), {stack}in {whose}", log)
                assert "without a word" not in log
                assert "SIGKILL" not in log
            else:
                assert "HOOK" not in log
                told += re.findall(
                    rf"Worker ended without a word \(pid: {pid}\) while ready, open requests: 1 "
                    rf"\({whose} of 127\.0\.0\.1:\d+, \d\.\d s old\)",
                    log,
                )
            assert len(told) == thread + 1
            assert len(set(told)) == 1


# -- shorter than timeout --------------------------------------------------------------------------

SHORT = """
import contextlib, ctypes, time
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

def block(mark=None):
    time.sleep(1.5)  # block

async def endpoint(request):
    block()
    return PlainTextResponse("ok")

async def background(request):
    return PlainTextResponse("ok", background=BackgroundTask(later))

async def later():
    block()

async def held(request):
    ctypes.PyDLL(None).usleep(1_500_000)  # held
    return PlainTextResponse("ok")

def threaded(request):
    block()
    return PlainTextResponse("ok")

async def socket(websocket):
    await websocket.accept()
    await websocket.receive_text()
    block()
    await websocket.send_text("done")

class Outer(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)

@contextlib.asynccontextmanager
async def lifespan(app):
    yield

def routes():
    yield from (Route(f"/{each.__name__}", each) for each in (endpoint, background, held, threaded))
    yield WebSocketRoute("/socket", socket)

plain = Starlette(routes=list(routes()))
wrapped = Starlette(routes=list(routes()), middleware=[Middleware(Outer)])

async def app(scope, receive, send):
    if scope["type"] != "http" or b"x-wrap" not in dict(scope["headers"]):
        await plain(scope, receive, send)
    else:
        await wrapped(scope, receive, send)
"""

# Path, fields, the words for whose code it was, and the line.
STALLS = [
    ("/endpoint", {}, r"in GET '/endpoint' \(request \w+\), \d\.\d s old", "block"),
    # The endpoint runs in a task of the middleware's, not in ours.
    ("/endpoint", {"X-Wrap": "1"}, r"in GET '/endpoint' \(request \w+\), \d\.\d s old", "block"),
    (
        "/background",
        {},
        r"in GET '/background' \(request \w+\), \d\.\d s old, after its response",
        "block",
    ),
    (
        "/held",
        {},
        r"in GET '/held' \(request \w+\), \d\.\d s old, seen \d\.\d s late: "
        "C code held the GIL, or the process stood still",
        "held",
    ),
]


def test_a_short_stall_is_told_of_once_and_harms_nobody(loop_kind: str) -> None:
    """Whosever code it was; one line when it is seen, one when it is over."""
    env = {"GUNICORN_ASGI_LOOP": loop_kind, "GUNICORN_ASGI_STALL_WARNING": "0.5"}
    with Master("app:app", files={"app.py": SHORT}, env=env) as m:
        (pid,) = m.workers()
        for path, fields, whose, line in STALLS:
            mark = m.mark()
            with Wire(m.connect(20)) as wire:
                assert wire.request("GET", path, fields).body == b"ok"
            m.wait_log(rf"\[WARNING\] Loop turns again after 1\.\d s \(pid: {pid}\)", after=mark)
            lines = re.findall(r"\[ERROR\] (.*)", m.log(mark))
            assert len(lines) == 1, lines
            place = rf"{m.dir}/app\.py:{line_of(SHORT, line)} in {line}\(\)"
            pattern = rf"Loop blocked for [01]\.\d s at {place}, {whose} \(pid: {pid}\)"
            assert re.fullmatch(pattern, lines[0]), lines
        mark = m.mark()
        with WebSocketWire(m.connect(20)) as ws:
            ws.connect("/socket?room=7")
            ws.send_text("go")
            assert ws.recv_text() == "done"
        m.wait_log(
            r"Loop blocked for .* in block\(\), in WebSocket GET '/socket\?room=7' \(request \w+\)",
            after=mark,
        )
        m.wait_log("Loop turns again", after=mark)
        mark = m.mark()
        with Wire(m.connect(20)) as wire:
            assert wire.request("GET", "/threaded").body == b"ok"
        assert "Loop" not in m.log(mark)
        assert m.workers() == [pid]


def test_a_process_that_stood_still_is_not_blamed_on_a_request(loop_kind: str) -> None:
    """docker pause, a debugger, SIGSTOP. Whether the thread or the loop runs first is open."""
    env = {"GUNICORN_ASGI_LOOP": loop_kind, "GUNICORN_ASGI_STALL_WARNING": "0.5"}
    with Master("app:app", files={"app.py": APP}, env=env) as m, Wire(m.connect(20)) as wire:
        (pid,) = m.workers()
        wire.send(request("GET", "/wait"))
        ask(m)
        m.kill_worker(pid, SIGSTOP)
        wire.assert_silent(1.5)
        m.kill_worker(pid, SIGCONT)
        m.wait_log(
            rf"(did not turn for 1\.\d s while no Python code ran|nobody saw where) \(pid: {pid}\)"
            ": the process (may have )?stood still"
        )
        ask(m)
        assert "Loop blocked" not in m.log()


def test_0_switches_it_off() -> None:
    with Master("app:app", files={"app.py": SHORT}, env={"GUNICORN_ASGI_STALL_WARNING": "0"}) as m:
        with Wire(m.connect(20)) as wire:
            assert wire.request("GET", "/endpoint").body == b"ok"
            assert wire.request("GET", "/endpoint").body == b"ok"
        assert "Loop" not in m.log()


# -- killed ----------------------------------------------------------------------------------------


def test_workers_that_were_killed_are_told_of_once_with_their_open_requests() -> None:
    """Both at once, so that two successors boot at the same time."""
    with Master("app:app", files={"app.py": APP}, workers=2) as m:
        pids = m.workers()
        wires = [Wire(m.connect()) for _ in range(6)]
        for number, wire in enumerate(wires):
            wire.send(request("GET", f"/wait?{number}"))
        with WebSocketWire(m.connect()) as ws:
            ws.connect("/chat")
            for pid in pids:
                m.kill_worker(pid, SIGKILL)
            m.wait_log(READY, 20, count=4)
        lines = re.findall(r"Worker ended without a word \(pid: (\d+)\) while ready, (.*)", m.log())
        assert sorted(int(pid) for pid, _ in lines) == pids
        told = "; ".join(words for _, words in lines)
        for number in range(6):
            assert len(re.findall(rf"GET '/wait\?{number}' \(request \w+\) of 127", told)) == 1
        assert told.count("GET '/chat' (request ") == 1
        counts = re.findall(r"open requests: (\d+) \(", told)
        assert sum(map(int, counts)) == 7
        for wire in wires:
            wire.close()
        # Nobody tells of them again.
        mark = m.mark()
        m.kill_worker(m.workers()[0], SIGKILL)
        m.wait_log(READY, 20, after=mark)
        assert m.log(mark).count("without a word") == 1
        assert "open requests: 0 (none)" in m.log(mark)


# -- the log ---------------------------------------------------------------------------------------


def test_what_c_code_cannot_hold_up_goes_to_the_log_that_was_reopened(tmp_path: Path) -> None:
    """Not to the file that logrotate has put aside, nor to whatever has its descriptor now."""
    log, old = tmp_path / "error.log", tmp_path / "error.log.1"
    args = ("--timeout", "2", "--error-logfile", str(log))
    with Master("app:app", *args, files={"app.py": APP}, ready=None) as m:
        wait_until(lambda: log.exists() and "Worker ready" in log.read_text(), 20, "the worker")
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None
        log.rename(old)
        m.signal(SIGUSR1)
        wait_until(log.exists, 10, "the new file")
        (pid,) = m.workers()
        with Wire(m.connect(30, address=("127.0.0.1", int(found[1])))) as wire:
            # The worker has reopened it, too, once it has answered whatever came after the signal.
            wait_until(lambda: str(log) in _open_files(pid), 10, "the worker to reopen its log")
            wire.send(request("GET", "/deaf"))
            assert wire.wait_end() in ("eof", "reset")
        wait_until(lambda: "Worker ready" in log.read_text(), 20, "the successor")
        assert re.search(rf"Timeout \((?:.*\n)+?.*line {line_of(APP, 'deaf')} in", log.read_text())
        assert "Timeout (" not in old.read_text()
        assert "Timeout (" not in m.log()


def _open_files(pid: int) -> list[str]:
    return [str(each.resolve()) for each in Path(f"/proc/{pid}/fd").iterdir()]


def test_a_log_in_json_has_the_id_of_the_request_under_its_key() -> None:
    """And lines that can be read, when it is over."""
    text = APP.replace("time.sleep(60)", "time.sleep(1)")
    args = ("--logger-class", "gunicorn_asgi.logs.JSONLogger")
    env = {"GUNICORN_ASGI_STALL_WARNING": "0.4"}
    with Master("app:app", *args, files={"app.py": text}, env=env) as m:
        with Wire(m.connect(20)) as wire:
            assert wire.request("GET", "/sleep").body == b"ok"
        m.wait_log("Loop turns again")
        told = [json.loads(line) for line in m.log().splitlines() if "Loop blocked" in line]
        (line,) = told
        assert line["request_id"]
        assert f"in GET '/sleep' (request {line['request_id']})" in line["message"]


# -- the boot --------------------------------------------------------------------------------------

IMPORT = """
import time
def wait():
    time.sleep(60)  # import
wait()
"""
STARTUP = """
import asyncio
async def connect_to_database():
    await asyncio.Event().wait()  # startup
async def app(scope, receive, send):
    await receive()
    await connect_to_database()
"""


@pytest.mark.parametrize(
    ("text", "mark", "function"),
    [(IMPORT, "import", "wait"), (STARTUP, "startup", "connect_to_database")],
    ids=["import", "startup"],
)
def test_a_boot_that_hangs_is_told_of_at_half_of_its_time(
    text: str, mark: str, function: str, loop_kind: str
) -> None:
    env = {"GUNICORN_ASGI_BOOT_TIMEOUT": "2", "GUNICORN_ASGI_LOOP": loop_kind}
    with Master("app:app", files={"app.py": text}, ready=None, env=env) as m:
        line = m.wait_log(r"Boot is not over after 1\.\d s \(pid: \d+\), (.*):\n", 20)
        assert line[1] == f"{m.dir}/app.py:{line_of(text, mark)} in {function}()"
        assert m.wait_exit(20) == 3
        assert m.log().count("Boot is not over") == 1
