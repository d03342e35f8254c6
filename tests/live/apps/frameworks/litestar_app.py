"""The application of test_framework_matrix.py, written with Litestar."""

# No `from __future__ import annotations`: Litestar resolves the annotations of handlers by itself.
import logging
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, MediaType, WebSocket, get, post, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.logging import LoggingConfig
from litestar.response import Stream

VERSION = "one"

log = logging.getLogger("gunicorn.error")


async def started() -> None:
    log.info("application started: %s", VERSION)


async def stopped() -> None:
    log.info("application stopped: %s", VERSION)


@get("/", media_type=MediaType.TEXT)
async def version() -> str:
    return VERSION


@get("/json")
async def greet(name: str) -> dict[str, str]:
    return {"hello": name}


@post("/echo", status_code=200)
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@get("/stream")
async def stream() -> Stream:
    async def lines() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"line {number}\n"

    return Stream(lines, media_type="text/plain")


@get("/boom")
async def boom() -> str:
    raise ValueError("boom")


@websocket("/ws")
async def socket(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


app = Litestar(
    [version, greet, echo, stream, boom, socket],
    on_startup=[started],
    on_shutdown=[stopped],
    # By default it logs an exception only while it debugs.
    logging_config=LoggingConfig(log_exceptions="always"),
)
