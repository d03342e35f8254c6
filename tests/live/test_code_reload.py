"""``--reload`` (docs, "Settings", "reload"): the worker is replaced when code changes, and lives on
with code that cannot be loaded until it is mended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from kit import proc
from kit.master import READY, Master, wait_until
from kit.wire import Response, WebSocketWire, Wire, request

APP = """
import os

def note(what):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {what}\\n")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            note(kind)
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    length = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"first"})
"""
SECOND = APP.replace("first", "other")
SYNTAX_ERROR = APP + "\ndef half(:\n"
IMPORT_ERROR = "import there_is_no_such_module\n" + APP
NO_NAME = APP.replace("async def app", "async def application")
RAISES = APP + "\nraise RuntimeError('secret reason')\n"
EXITS = APP + "\nraise SystemExit('secret reason')\n"

# What is wrong, and what the log has to say about it.
BROKEN = {
    "syntax": (SYNTAX_ERROR, r"SyntaxError"),
    "import": (IMPORT_ERROR, r"there_is_no_such_module"),
    "raise": (RAISES, r"RuntimeError: secret reason"),
    "name": (NO_NAME, r"Failed to find attribute 'app'"),
}


def master(text: str = APP, *args: str, engine: str = "poll", **env: str) -> Master:
    files = {"app.py": text}
    args = ("--reload", "--reload-engine", engine, "--graceful-timeout", "60", *args)
    return Master("app:app", *args, files=files, env=env)


@pytest.fixture
def m(loop_kind: str) -> Iterator[Master]:
    with master(GUNICORN_ASGI_LOOP=loop_kind) as running:
        yield running


def ask(m: Master) -> Response:
    with Wire(m.connect(10)) as wire:
        return wire.request()


def change(m: Master, text: str, name: str = "app.py") -> None:
    """Write a file and wait until another worker is ready with it.

    Written again until it is noticed: Gunicorn's reloader thread looks once a second, and what
    changes before its first look is what it compares with later (gunicorn/reloader.py).
    """
    mark = m.mark()
    written: list[float] = []

    def noticed() -> bool:
        now = time.monotonic()
        if not written or now - written[-1] > 3:
            m.write(name, text)
            written.append(now)
        return "Worker reloading" in m.log(mark)

    wait_until(noticed, 20, "the reloader to notice")
    m.wait_log(READY, 20, after=mark)


def test_a_change_replaces_the_worker(m: Master) -> None:
    (old,) = m.workers()
    assert ask(m).body == b"first"
    for text, body in ((SECOND, b"other"), (APP, b"first")):
        change(m, text)
        assert ask(m).body == body
    wait_until(lambda: not proc.alive(old))
    assert len(m.workers()) == 1
    assert f"{old} lifespan.shutdown" in (m.dir / "notes").read_text()
    assert f"Worker exiting (pid: {old})" in m.log()


def test_a_change_is_quick_and_websockets_may_come_back(m: Master) -> None:
    # graceful_timeout is 60 s: who edits code does not wait for an idle WebSocket.
    with WebSocketWire(m.connect(20)) as ws, Wire(m.connect(20)) as idle:
        assert ws.connect("/").status == 101
        assert idle.request().status == 200
        change(m, SECOND)
        assert ws.recv_close()[0] == 1012
        assert idle.wait_end() in ("eof", "reset")
    assert ask(m).body == b"other"


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_code_gives_500_until_it_is_mended(m: Master, kind: str) -> None:
    text, reason = BROKEN[kind]
    change(m, text)
    response = ask(m)
    assert response.status == 500
    for secret in (b"Traceback", b"Error", b"app.py", b"secret", b"there_is_no_such_module"):
        assert secret not in response.body
    m.wait_log(reason)
    with WebSocketWire(m.connect()) as ws:
        assert ws.connect("/").status == 500
    change(m, SECOND)
    assert ask(m).body == b"other"


@pytest.mark.parametrize("kind", BROKEN)
def test_a_start_with_broken_code_waits_for_it_to_be_mended(kind: str) -> None:
    text, reason = BROKEN[kind]
    with master(text) as m:
        assert ask(m).status == 500
        m.wait_log(reason)
        change(m, APP)
        assert ask(m).body == b"first"


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
def test_broken_code_is_survived_in_every_mode_of_lifespan(mode: str) -> None:
    with master(GUNICORN_ASGI_LIFESPAN=mode) as m:
        change(m, SYNTAX_ERROR)
        assert ask(m).status == 500
        change(m, SECOND)
        assert ask(m).body == b"other"


def test_a_module_the_app_imports_is_watched_too() -> None:
    files = {"app.py": "import other\n" + APP.replace('b"first"', "other.BODY")}
    files["other.py"] = 'BODY = b"12345"\n'
    with Master("app:app", "--reload", "--reload-engine", "poll", files=files) as m:
        assert ask(m).body == b"12345"
        for text, status in (("BODY = (", 500), ('BODY = b"67890"', 200)):
            change(m, text, "other.py")
            assert ask(m).status == status
        assert ask(m).body == b"67890"


def test_a_request_in_flight_does_not_hold_the_reload_back(m: Master) -> None:
    slow = APP.replace("    length =", "    await asyncio.sleep(60)\n    length =")
    change(m, "import asyncio\n" + slow)
    with Wire(m.connect(20)) as wire:
        wire.send(request())
        wire.assert_silent(0.3)
        change(m, APP)
        assert wire.recv_response().status == 503
    assert ask(m).body == b"first"


def test_without_reload_broken_code_stops_the_start() -> None:
    files = {"app.py": SYNTAX_ERROR}
    with Master("app:app", files=files, ready=None, checked=False) as m:
        assert m.wait_exit(20) == 3
        assert "SyntaxError" in m.log()
