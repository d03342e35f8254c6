"""The application of test_framework_matrix.py, written with BlackSheep."""

# No `from __future__ import annotations`: BlackSheep binds parameters by their annotations.
import logging
from collections.abc import AsyncIterator
from typing import Any

from blacksheep import (
    Application,
    Content,
    FromJSON,
    Response,
    StreamedContent,
    WebSocket,
    WebSocketDisconnectError,
    get,
    json,
    post,
    ws,
)

VERSION = "one"

app = Application()
log = logging.getLogger("gunicorn.error")


@app.on_start
async def started(_app: Application) -> None:
    log.info("application started: %s", VERSION)


@app.on_stop
async def stopped(_app: Application) -> None:
    log.info("application stopped: %s", VERSION)


@get("/")
async def version() -> Response:
    return Response(200, content=Content(b"text/plain", VERSION.encode()))


@get("/json")
async def greet(name: str) -> Response:
    return json({"hello": name})


@post("/echo")
async def echo(data: FromJSON[dict[str, Any]]) -> Response:
    return json(data.value)


async def lines() -> AsyncIterator[bytes]:
    for number in range(1000):
        yield b"line %d\n" % number


@get("/stream")
async def stream() -> Response:
    return Response(200, content=StreamedContent(b"text/plain", lines))


@get("/boom")
async def boom() -> Response:
    raise ValueError("boom")


@ws("/ws")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnectError:
        pass
