"""The application under live.py: it tells what it is given, and notes what it goes through."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["app"]

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def note(what: str) -> None:
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {what}\n")


def there(name: str) -> bool:
    return os.path.exists(name)


def told(value: object) -> object:
    """Types where JSON would lose them: [name of the type, value]."""
    if isinstance(value, dict):
        return {key: told(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(each) for each in value]
    if isinstance(value, bytes):
        return ["bytes", value.decode("latin-1")]
    return [type(value).__name__, value]


async def opened(gate: str) -> None:
    """Wait until the test has written that file, if it has closed the gate at all."""
    while there(f"{gate}.closed") and not there(f"{gate}.open"):
        await asyncio.sleep(0.01)


async def lifespan(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    scope["state"].update(seen=0, shared=[], loop=id(asyncio.get_running_loop()))
    note((await receive())["type"])
    await opened("startup")
    if there("broken"):
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    note("started")
    await send({"type": "lifespan.startup.complete"})
    note((await receive())["type"])
    await opened("shutdown")
    note("ended")
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    state = scope["state"]
    same = state["loop"] == id(asyncio.get_running_loop())
    before = {"seen": state["seen"], "shared": len(state["shared"]), "loop": same}
    state["seen"] += 1
    state["shared"].append(scope["path"])
    if scope["path"] == "/noted":
        note("request")
        await opened("request")
        note("response")
    facts = {key: value for key, value in scope.items() if key != "state"}
    text = json.dumps({"scope": told(facts), "state": before, "pid": os.getpid()})
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})
