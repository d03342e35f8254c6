"""``preload_app`` (docs, "Settings"): the application is imported once, in the master."""

from __future__ import annotations

from collections.abc import Iterator
from signal import SIGHUP
from typing import Any

import pytest

from kit.master import Master
from kit.wire import Wire

APP = """
import asyncio, gc, json, os

IMPORTED_BY = os.getpid()
try:
    LOOP_AT_IMPORT = repr(asyncio.get_running_loop())
except RuntimeError:
    LOOP_AT_IMPORT = None
LOOP = []

async def app(scope, receive, send):
    assert scope["type"] == "http"
    facts = {
        "pid": os.getpid(),
        "imported_by": IMPORTED_BY,
        "frozen": gc.get_freeze_count(),
        "loop_at_import": LOOP_AT_IMPORT,
        "same_loop": LOOP == [asyncio.get_running_loop()],
    }
    body = json.dumps(facts).encode()
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})
"""

# Notes in which process a loop is made, whoever makes it.
CONFIG = """
import os

def post_worker_init(worker):
    import app, asyncio
    app.LOOP.append(asyncio.get_event_loop())

def on_starting(server):
    import asyncio, uvloop
    def watched(base):
        class Loop(base):
            def __init__(self, *args):
                with open("loops", "a") as file:
                    file.write(f"{os.getpid()}\\n")
                super().__init__(*args)
        return Loop
    uvloop.new_event_loop = watched(uvloop.Loop)
    asyncio.new_event_loop = watched(asyncio.SelectorEventLoop)
"""


@pytest.fixture(params=[True, False], ids=["preload", "no preload"])
def preload(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def m(loop_kind: str, *, preload: bool) -> Iterator[Master]:
    with Master(
        "app:app",
        *(["--preload"] if preload else []),
        workers=2,
        config=CONFIG,
        files={"app.py": APP},
        env={"GUNICORN_ASGI_LOOP": loop_kind},
    ) as master:
        yield master


def ask(m: Master) -> dict[str, Any]:
    with Wire(m.connect()) as wire:
        facts: dict[str, Any] = wire.request().json()
        return facts


def test_the_app_is_imported_in_the_master_and_serves_in_each_worker(
    m: Master, *, preload: bool
) -> None:
    seen: dict[Any, Any] = {}
    for _ in range(200):
        facts = ask(m)
        seen[facts["pid"]] = facts["imported_by"]
        if len(seen) == 2:
            break
    assert sorted(seen) == m.workers()
    for pid, imported_by in seen.items():
        assert imported_by == (m.pid if preload else pid)


def test_the_loop_was_made_after_the_fork(m: Master) -> None:
    facts = ask(m)
    made_in = [int(line) for line in (m.dir / "loops").read_text().split()]
    assert sorted(made_in) == m.workers()
    assert facts["same_loop"] is True
    assert facts["loop_at_import"] is None


def test_what_was_loaded_before_the_fork_is_frozen_in_the_worker(m: Master) -> None:
    # gc.freeze: the collector must not touch, and so copy, the pages that all workers share.
    # Without preload_app too: Gunicorn and the standard library alone are more than that.
    frozen = ask(m)["frozen"]
    assert isinstance(frozen, int)
    assert frozen > 10_000


def test_hup_restarts_the_workers_with_the_code_already_loaded(m: Master, *, preload: bool) -> None:
    old = m.workers()
    m.write("app.py", APP.replace('"pid":', '"changed": True, "pid":'))
    m.signal(SIGHUP)
    m.wait_workers(lambda pids: len(pids) == 2 and not set(pids) & set(old))
    facts = ask(m)
    assert facts["pid"] not in old
    assert ("changed" in facts) is not preload
    assert ("preload_app: HUP restarts the workers" in m.log()) is preload
