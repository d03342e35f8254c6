"""Files as responses, by message and by framework; /used tells how often sendfile(2) was called."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import FastAPI
from fastapi.responses import FileResponse

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Any], Awaitable[None]]

USED = {"calls": 0, "bytes": 0}
framework = FastAPI()
real = os.sendfile


def counted(out: int, file: int, offset: int, count: int) -> int:
    USED["calls"] += 1
    sent = real(out, file, offset, count)
    USED["bytes"] += sent
    return sent


os.sendfile = counted  # type: ignore[assignment]


def query(scope: Scope) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in scope["query_string"].decode().split("&"))
    return {name: value for name, _, value in pairs if name}


def opened(name: str) -> BinaryIO:
    return Path(name).open("rb")


async def begin(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def by_path(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await send({"type": "http.response.pathsend", "path": query(scope)["file"]})


async def by_file(scope: Scope, receive: Receive, send: Send) -> None:
    given = query(scope)
    numbers: Message = {name: int(given[name]) for name in ("offset", "count") if name in given}
    with opened(given["file"]) as file:
        await begin(send)
        await send({"type": "http.response.zerocopysend", "file": file, **numbers})


async def mixed(scope: Scope, receive: Receive, send: Send) -> None:
    """The file in two halves, in brackets, without anybody knowing how long that will be."""
    with opened(query(scope)["file"]) as file:
        half = os.fstat(file.fileno()).st_size // 2
        piece = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
        await begin(send)
        await send({"type": "http.response.body", "body": b"[", "more_body": True})
        await send({**piece, "count": half})
        await send({"type": "http.response.body", "body": b"|", "more_body": True})
        await send(piece)
        await send({"type": "http.response.body", "body": b"]"})


async def missing(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send)
    await send({"type": "http.response.pathsend", "path": "/no/such/file"})


async def used(scope: Scope, receive: Receive, send: Send) -> None:
    told = {**USED, "tasks": len(asyncio.all_tasks())}
    await begin(send)
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


@framework.get("/framework")
async def by_framework(file: str) -> FileResponse:
    return FileResponse(file, media_type="text/plain")


ROUTES: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
    "/file": by_file,
    "/missing": missing,
    "/mixed": mixed,
    "/path": by_path,
    "/used": used,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await ROUTES.get(scope.get("path", ""), framework)(scope, receive, send)
