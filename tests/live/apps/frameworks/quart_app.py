"""The application of test_framework_matrix.py, written with Quart."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from quart import Quart, Response, request, websocket

VERSION = "one"

app = Quart(__name__)
log = logging.getLogger("gunicorn.error")


@app.before_serving
async def started() -> None:
    log.info("application started: %s", VERSION)


@app.after_serving
async def stopped() -> None:
    log.info("application stopped: %s", VERSION)


@app.get("/")
async def version() -> str:
    return VERSION


@app.get("/json")
async def greet() -> dict[str, str]:
    return {"hello": request.args["name"]}


@app.post("/echo")
async def echo() -> object:
    return await request.get_json()


@app.get("/stream")
async def stream() -> Response:
    async def lines() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"line {number}\n"

    return Response(lines(), content_type="text/plain")


@app.get("/boom")
async def boom() -> str:
    raise ValueError("boom")


@app.websocket("/ws")
async def socket() -> None:
    while True:
        await websocket.send(await websocket.receive())
