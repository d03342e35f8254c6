"""Logs as JSON from real masters: by logger class, and by deploy/logging/logconfig.json."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from signal import SIGHUP, SIGUSR1
from typing import TYPE_CHECKING, Any

from kit.master import Master, wait_until
from kit.wire import WebSocketWire, Wire, request

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
LOGCONFIG = ROOT / "deploy/logging/logconfig.json"
LOGGER = ("--logger-class", "gunicorn_asgi.logs.JSONLogger")

APP = """
import asyncio
import logging
import sys

log = logging.getLogger("shop")

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    assert scope["type"] == "http"
    if scope["path"] == "/fails":
        raise ValueError("odd \\udc80 \\u2028 \\x1b[31m")
    if scope["path"] == "/prints":
        print("printed", flush=True)
    if scope["path"] == "/logs":
        log.info("in the request's own task")
        await asyncio.create_task(asyncio.to_thread(log.warning, "in a thread"))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""

Line = dict[str, Any]


def parsed(text: str) -> list[Line]:
    """Lines of JSON, and of nothing else."""
    assert not text or text.endswith("\n"), text[-500:]
    assert text.isascii()
    return [json.loads(line, parse_constant=_refuse) for line in text.splitlines()]


def _refuse(constant: str) -> None:
    raise AssertionError(constant)


def find(path: Path, fits: Callable[[Line], object], what: str) -> Line:
    """Wait for a line."""
    found: list[Line] = []

    def seen() -> bool:
        text = path.read_text() if path.exists() else ""
        found[:] = [line for line in parsed(text[: text.rfind("\n") + 1]) if fits(line)]
        return bool(found)

    wait_until(seen, 15, what)
    return found[0]


def ready(path: Path) -> int:
    """Wait for the worker; the port it serves."""
    find(path, lambda line: line["message"].startswith("Worker ready"), "the worker")
    match = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", path.read_text())
    assert match is not None
    return int(match[1])


def test_the_logger_class_writes_both_logs_as_json() -> None:
    """Types, ids that are the same in both logs, refused requests, reloads."""
    args = (*LOGGER, "--error-logfile", "error.log")
    with Master("app:app", *args, files={"app.py": APP}, access_log=True, ready=None) as master:
        error, access = master.dir / "error.log", master.dir / "access.log"
        master.binds = [f"127.0.0.1:{ready(error)}"]
        with Wire(master.connect()) as wire:
            headers: dict[str, str | bytes] = {
                "X-Request-ID": "kit-1",
                "User-Agent": b'a"\x9b\x85\xe9' + b"x" * 5000,
            }
            assert wire.request("POST", "/a%0a%22?b=c", headers, b"12345").status == 200
            wire.send(b"GET /\x1b HTTP/1.1\r\nHost: h\r\n\r\n")
            assert wire.recv_response().status == 400
        with Wire(master.connect()) as wire:
            assert wire.request("GET", "/fails").status == 500
        with WebSocketWire(master.connect()) as ws:
            assert ws.connect("/ws").status == 101
            ws.close(4000)
        master.signal(SIGHUP)
        find(error, lambda line: line.get("generation") == 2, "the second generation")
        find(access, lambda line: line["status"] == 4000, "the WebSocket's end")
        lines, told = parsed(access.read_text()), parsed(error.read_text())
    first, refused, failed, opened, ended = lines
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("timestamp"))
    assert 0 < first.pop("duration") == first.pop("ttfb") < 5
    assert first.pop("pid") in {line["pid"] for line in told}
    assert first == {
        **{"level": "info", "logger": "gunicorn.access", "message": 'POST /a\n" 200'},
        **{"generation": 1, "request_id": "kit-1", "client": "127.0.0.1", "method": "POST"},
        **{"path": '/a\n"', "query": "b=c", "http_version": "1.1", "status": 200},
        **{"bytes_in": 5, "bytes_out": 5, "body_messages": 0},
        "user_agent": 'a"\x9b\x85\xe9' + "x" * 4088 + "...",
    }
    assert (refused["status"], "request_id" in refused) == (400, False)
    assert (failed["status"], opened["status"], ended["ws_received"]) == (500, 101, 0)
    (raised,) = [line for line in told if "raised ValueError" in line["message"]]
    assert raised["request_id"] == failed["request_id"]
    assert raised["exc_info"].endswith("ValueError: odd ? \u2028 \x1b[31m")
    assert {line.get("generation") for line in told} == {None, 1, 2}


def test_gunicorns_settings_of_logs_keep_working() -> None:
    """Level, reopening, capture_output: what is printed is in the file too, as it was printed."""
    args = (*LOGGER, "--error-logfile", "error.log", "--log-level", "debug", "--capture-output")
    with Master("app:app", *args, files={"app.py": APP}, access_log=True, ready=None) as master:
        error, access = master.dir / "error.log", master.dir / "access.log"
        master.binds = [f"127.0.0.1:{ready(error)}"]
        assert find(error, lambda line: line["level"] == "debug", "a line of that level")
        with Wire(master.connect()) as wire:
            assert wire.request("GET", "/").status == 200
            find(access, lambda line: line["path"] == "/", "the line")
            for path in (error, access):
                path.rename(path.with_suffix(".1"))
            master.signal(SIGUSR1)
            wait_until(lambda: error.exists() and access.exists(), 10, "new files")
            (worker,) = master.workers()
            wait_until(lambda: _holds(worker, access), 10, "the worker to have them open")
            assert wire.request("GET", "/prints").status == 200
            find(access, lambda line: line["path"] == "/prints", "the line")
        wait_until(lambda: "printed\n" in error.read_text(), 10, "what was printed")
        assert '"message": "Handling signal: usr1"' in error.read_text() + (
            error.with_suffix(".1").read_text()
        )


def _holds(pid: int, path: Path) -> bool:
    """Whether that process has the file open that has this name now."""
    folder = Path(f"/proc/{pid}/fd")
    return any(os.readlink(folder / name) == str(path) for name in os.listdir(folder))


def test_the_logconfig_in_deploy_makes_every_line_json() -> None:
    """With Gunicorn's own logger; the application's lines have the ids of their requests."""
    files = {"app.py": APP, "logconfig.json": LOGCONFIG.read_text()}
    args = ("--log-config-json", "logconfig.json")
    with Master("app:app", *args, files=files, ready=None) as master:
        log = master.log_path
        master.binds = [f"127.0.0.1:{ready(log)}"]
        with Wire(master.connect()) as wire:
            wire.send(request("GET", "/logs", {"X-Request-ID": "kit-2", "User-Agent": '"q"'}))
            assert wire.recv_response().status == 200
            assert wire.request("GET", "/fails", {"X-Request-ID": "kit-3"}).status == 500
        find(log, lambda line: line.get("path") == "/fails", "the last line")
        lines = parsed(log.read_text())
    own = [(line["level"], line["request_id"]) for line in lines if line["logger"] == "shop"]
    assert own == [("info", "kit-2"), ("warning", "kit-2")]
    access = [line for line in lines if line["logger"] == "gunicorn.access"]
    told = [(line["path"], line["status"], line["request_id"]) for line in access]
    assert told == [("/logs", 200, "kit-2"), ("/fails", 500, "kit-3")]
    assert access[0]["user_agent"] == '"q"'
    assert access[0]["bytes_out"] == 5
