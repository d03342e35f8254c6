"""The application of test_framework_matrix.py, written with Sanic: its app speaks ASGI too."""

from __future__ import annotations

import logging

from sanic import HTTPResponse, Request, Sanic, Websocket
from sanic.response import json, text

VERSION = "one"

app = Sanic("matrix")
log = logging.getLogger("gunicorn.error")


@app.before_server_start
async def started(_app: Sanic) -> None:
    log.info("application started: %s", VERSION)


@app.after_server_stop
async def stopped(_app: Sanic) -> None:
    log.info("application stopped: %s", VERSION)


@app.get("/")
async def version(_request: Request) -> HTTPResponse:
    return text(VERSION)


@app.get("/json")
async def greet(request: Request) -> HTTPResponse:
    return json({"hello": request.args.get("name")})


@app.post("/echo")
async def echo(request: Request) -> HTTPResponse:
    return json(request.json)


@app.get("/stream")
async def stream(request: Request) -> None:
    response = await request.respond(content_type="text/plain")
    for number in range(1000):
        await response.send(f"line {number}\n")
    await response.eof()


@app.get("/boom")
async def boom(_request: Request) -> HTTPResponse:
    raise ValueError("boom")


@app.websocket("/ws")
async def socket(_request: Request, ws: Websocket) -> None:
    # Under ASGI the end is a None, and no exception.
    while (text := await ws.recv()) is not None:
        await ws.send(text)
