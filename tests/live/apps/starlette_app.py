"""The application of test_frameworks.py, written with Starlette."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

DONE: list[str] = []


class State(TypedDict):
    token: str
    shared: list[str]


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    yield {"token": "from lifespan", "shared": []}


async def item(request: Request) -> Response:
    query = {name: request.query_params.getlist(name) for name in request.query_params}
    return JSONResponse({"id": request.path_params["item_id"], "query": query})


async def json_echo(request: Request) -> Response:
    return JSONResponse(await request.json())


async def form(request: Request) -> Response:
    async with request.form() as sent:
        return JSONResponse({"name": sent["name"], "tags": sent.getlist("tag")})


async def upload(request: Request) -> Response:
    async with request.form() as sent:
        file: Any = sent["file"]
        content = await file.read()
        told = {"name": file.filename, "size": len(content), "note": sent["note"]}
        return JSONResponse({**told, "sha256": hashlib.sha256(content).hexdigest()})


async def raw(request: Request) -> Response:
    digest = hashlib.sha256()
    async for piece in request.stream():
        digest.update(piece)
    return PlainTextResponse(digest.hexdigest())


async def lines(count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield f"line {number}\n"
        if number % 100 == 0:
            await asyncio.sleep(0)


async def stream(request: Request) -> Response:
    return StreamingResponse(lines(int(request.query_params["n"])), media_type="text/plain")


async def ticks(count: int) -> AsyncIterator[str]:
    try:
        for number in range(count):
            yield f"id: {number}\ndata: tick\n\n"
            await asyncio.sleep(0.01)
    finally:
        DONE.append(f"sse {count}")


async def sse(request: Request) -> Response:
    count = int(request.query_params["n"])
    return StreamingResponse(ticks(count), media_type="text/event-stream")


async def later(name: str) -> None:
    await asyncio.sleep(0.05)
    DONE.append(name)


async def background(request: Request) -> Response:
    task = BackgroundTask(later, request.query_params["name"])
    return PlainTextResponse("accepted", status_code=202, background=task)


async def done(_request: Request) -> Response:
    return JSONResponse(DONE)


async def state(request: Request) -> Response:
    request.state.shared.append(request.query_params["name"])
    request.state.own = True
    return JSONResponse({"token": request.state.token, "shared": request.state.shared})


async def boom(_request: Request) -> Response:
    raise ValueError("boom")


async def empty(_request: Request) -> Response:
    return Response(status_code=204)


async def file(_request: Request) -> Response:
    return FileResponse("static/big.txt")


async def echo(websocket: WebSocket) -> None:
    """What comes back is what came, in kind; ``close CODE REASON`` closes."""
    await websocket.accept(subprotocol="kit" if websocket.scope["subprotocols"] else None)
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                DONE.append(f"closed {message['code']} {message.get('reason') or ''}".strip())
                return
            text = message.get("text")
            if text is not None and text.startswith("close "):
                _, code, reason = text.split(" ", 2)
                await websocket.close(int(code), reason)
                return
            if text is not None:
                await websocket.send_text(text)
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect as error:
        DONE.append(f"closed {error.code}")


async def json_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    told = await websocket.receive_json()
    await websocket.send_json({"told": told, "token": websocket.state.token})
    await websocket.close()


async def refuses(websocket: WebSocket) -> None:
    if websocket.query_params.get("politely"):
        await websocket.send_denial_response(PlainTextResponse("no entry", status_code=401))
    else:
        await websocket.close()


async def breaks(websocket: WebSocket) -> None:
    await websocket.accept()
    raise ValueError("boom")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/items/{item_id:int}", item),
        Route("/json", json_echo, methods=["POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/raw", raw, methods=["PUT", "POST"]),
        Route("/stream", stream),
        Route("/sse", sse),
        Route("/background", background, methods=["POST"]),
        Route("/done", done),
        Route("/state", state),
        Route("/boom", boom),
        Route("/empty", empty),
        Route("/file", file),
        WebSocketRoute("/ws/echo", echo),
        WebSocketRoute("/ws/json", json_socket),
        WebSocketRoute("/ws/refuses", refuses),
        WebSocketRoute("/ws/breaks", breaks),
        Mount("/static", StaticFiles(directory="static")),
    ],
)
