"""The application of test_framework_matrix.py, written with Starlette and sse-starlette."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

VERSION = "one"

log = logging.getLogger("gunicorn.error")


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    log.info("application started: %s", VERSION)
    yield
    log.info("application stopped: %s", VERSION)


async def version(_request: Request) -> Response:
    return PlainTextResponse(VERSION)


async def greet(request: Request) -> Response:
    return JSONResponse({"hello": request.query_params["name"]})


async def echo(request: Request) -> Response:
    return JSONResponse(await request.json())


async def lines() -> AsyncIterator[str]:
    for number in range(1000):
        yield f"line {number}\n"


async def stream(_request: Request) -> Response:
    return StreamingResponse(lines(), media_type="text/plain")


async def events(_request: Request) -> Response:
    async def told() -> AsyncIterator[ServerSentEvent]:
        for number in range(7):
            yield ServerSentEvent(f"number {number}", id=str(number), event="tick")

    return EventSourceResponse(told())


async def boom(_request: Request) -> Response:
    raise ValueError("boom")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", version),
        Route("/json", greet),
        Route("/echo", echo, methods=["POST"]),
        Route("/stream", stream),
        Route("/events", events),
        Route("/boom", boom),
        WebSocketRoute("/ws", socket),
    ],
)
