"""A new worker whose application asks to exit before the others are ready: a failed reload.

Nobody had told it to leave, and it will not come back: without a verdict the old workers would
hold for ever beside the new ones.
"""

from __future__ import annotations

from signal import SIGHUP

from kit.load import Load, source
from kit.master import Master

# The first of the two to be imported ends itself once it serves; the other one boots meanwhile.
EXITS = """
import asyncio
import os
import time

try:
    os.close(os.open("first", os.O_CREAT | os.O_EXCL))
    FIRST = True
except FileExistsError:
    FIRST = False
    time.sleep(4)


async def leave():
    raise SystemExit(0)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        if FIRST:
            asyncio.get_running_loop().call_later(0.5, asyncio.ensure_future, leave())
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"new"})
"""


def test_it_rolls_the_reload_back() -> None:
    options = ("--graceful-timeout", "3", "--keep-alive", "5")
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "0.5"}
    files = {"app.py": source("old")}
    with Master("app:app", *options, workers=2, env=env, files=files) as m:
        old = m.workers()
        m.write("app.py", EXITS)
        mark = m.mark()
        m.signal(SIGHUP)
        m.wait_log("Rolled back to generation 1: generation 2 failed to boot", 20, after=mark)
        m.wait_log("Worker leaving .*its generation has failed", 20, after=mark)
        m.wait_workers(2, 20)
        assert m.workers() == old
        with Load(m.connect) as load:
            load.wait(50)
            assert load.bodies() == {"old"}
            m.write("app.py", source("repaired"))
            m.signal(SIGHUP)
            load.wait_body("repaired", 20)
        load.check()
