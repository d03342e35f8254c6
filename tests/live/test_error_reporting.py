"""Sentry's own SDK under us, as docs/observability.md shows it: each exception is one event."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from kit.collector import Collector, Posted
from kit.master import Master
from kit.pages import files_under
from kit.wire import Wire

SHOWN = files_under("observability.md", "Sentry")["gunicorn.conf.py"]
INIT = "import sentry_sdk\nsentry_sdk.init()\n"
FASTAPI = """
import os
from fastapi import FastAPI

app = FastAPI()

@app.get("/items/{item}")
async def item(item: int):
    if item:
        raise LookupError(f"no item {item}")
    return os.getpid()
"""
PLAIN = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    item = int(scope["path"].rpartition("/")[2])
    if item:
        raise LookupError(f"no item {item}")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""
MIDDLEWARE = """
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
app = SentryAsgiMiddleware(app)
"""
PRELOAD = "preload_app = True\n"
# How it is set up: the configuration, the application, and the transaction of its events.
SETUPS: dict[str, tuple[str, str, str | None]] = {
    "as shown": (SHOWN, FASTAPI, "/items/{item}"),
    "at import": ("", INIT + FASTAPI, "/items/{item}"),
    "at import, preloaded": (PRELOAD, INIT + FASTAPI, "/items/{item}"),
    "with its middleware": (SHOWN, PLAIN + MIDDLEWARE, "/items/{item}"),
    "by the line of the error log": (SHOWN, PLAIN, None),
}


def events_of(posted: list[Posted]) -> list[dict[str, Any]]:
    """The events of some envelopes: a line for the envelope, then two for each item."""
    found = []
    for each in posted:
        assert each.path == "/api/1/envelope/"
        lines = each.body.splitlines()
        pairs = zip(lines[1::2], lines[2::2], strict=True)
        found += [json.loads(body) for head, body in pairs if json.loads(head)["type"] == "event"]
    return found


@pytest.mark.parametrize("setup", SETUPS)
def test_every_exception_is_one_event(setup: str) -> None:
    """Of both workers, with its transaction; the line that we log of it is not a second one."""
    config, app, transaction = SETUPS[setup]
    raised = 0
    with Collector() as collector:
        env = {
            "SENTRY_DSN": f"http://public@127.0.0.1:{collector.port}/1",
            # What the SDK does in the loop at its first event may take that long on a busy machine:
            # then the watchdog's line would be an event too.
            "GUNICORN_ASGI_STALL_WARNING": "0",
        }
        files = {"app.py": app}
        with Master("app:app", files=files, config=config, workers=2, env=env) as master:
            pids: set[bytes] = set()
            while len(pids) < 2 or raised < 4:
                # One connection: the worker that fails is the one that has told its pid.
                with Wire(master.connect()) as wire:
                    pids.add(wire.request("GET", "/items/0").body)
                    raised += 1
                    assert wire.request("GET", f"/items/{raised}").status == 500
            collector.wait(lambda posted: len(events_of(posted)) >= raised, f"{raised} events")
            base = master.base_url
            assert master.stop() == 0
        events = events_of(collector.posted)
    values = [event["exception"]["values"][-1] for event in events]
    assert {each["type"] for each in values} == {"LookupError"}
    told = sorted(each["value"] for each in values)
    assert told == sorted(f"no item {number}" for number in range(1, raised + 1))
    if transaction is None:
        assert {event["logger"] for event in events} == {"gunicorn.error"}
    else:
        # Without a framework nobody knows the route: the URL has to do.
        names = {re.sub(r"\d+$", "{item}", event["transaction"]) for event in events}
        assert {name.removeprefix(base) for name in names} == {transaction}
        assert {event["request"]["method"] for event in events} == {"GET"}
