"""The application of test_frameworks_websockets.py: WebSockets as FastAPI and Starlette do them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import (
    Cookie,
    Depends,
    FastAPI,
    Query,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from starlette.endpoints import WebSocketEndpoint

app = FastAPI()
DONE: list[str] = []


@app.get("/done")
async def done() -> list[str]:
    return DONE


class Room:
    """Everybody hears everybody, as in FastAPI's tutorial."""

    def __init__(self) -> None:
        self.members: list[WebSocket] = []

    async def tell(self, text: str) -> None:
        for member in self.members:
            await member.send_text(text)


room = Room()


@app.websocket("/room/{name}")
async def in_the_room(websocket: WebSocket, name: str) -> None:
    await websocket.accept()
    room.members.append(websocket)
    await room.tell(f"{name} comes")
    try:
        while True:
            await room.tell(f"{name}: {await websocket.receive_text()}")
    except WebSocketDisconnect as gone:
        room.members.remove(websocket)
        await room.tell(f"{name} goes {gone.code} {gone.reason}".strip())


async def database() -> AsyncIterator[str]:
    DONE.append("database opened")
    try:
        yield "database"
    finally:
        DONE.append("database closed")


def allowed(token: Annotated[str | None, Query()] = None) -> str:
    if token != "right":
        raise WebSocketException(1008, "no token")
    return token


@app.websocket("/guarded/{number}")
async def guarded(
    websocket: WebSocket,
    number: int,
    token: Annotated[str, Depends(allowed)],
    base: Annotated[str, Depends(database)],
    session: Annotated[str | None, Cookie()] = None,
) -> None:
    headers = [(b"set-cookie", b"seen=yes; Path=/")]
    await websocket.accept(headers=headers)
    user_agent = websocket.headers["user-agent"]
    await websocket.send_json([number, token, base, session, user_agent], mode="binary")
    try:
        while True:
            data = await websocket.receive_json(mode="binary")
            if data == "too much":
                raise WebSocketException(1008, "too much")
            await websocket.send_json(data, mode="binary")
    except WebSocketDisconnect:
        DONE.append("guarded")


@app.websocket("/ticks")
async def ticks(websocket: WebSocket) -> None:
    """Sends without end, and only learns from send() that nobody is there."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_bytes(b"tick" * 1000)
            await asyncio.sleep(0)
    except WebSocketDisconnect as gone:
        DONE.append(f"ticks {gone.code}")
        raise


@app.websocket("/both")
async def both(websocket: WebSocket) -> None:
    """Sends and receives in two tasks; one that ends takes the other with it."""
    await websocket.accept()

    async def count() -> None:
        number = 0
        while True:
            await websocket.send_text(str(number))
            number += 1
            await asyncio.sleep(0.001)

    counting = asyncio.ensure_future(count())
    async for text in websocket.iter_text():
        await websocket.send_text(f"heard {text}")
    counting.cancel()
    DONE.append("both")


class Endpoint(WebSocketEndpoint):
    """Starlette's class."""

    encoding = "json"

    async def on_connect(self, websocket: WebSocket) -> None:
        await websocket.accept()

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:  # noqa: ANN401 - JSON
        await websocket.send_json({"got": data})

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        DONE.append(f"endpoint {close_code}")


app.router.add_websocket_route("/endpoint", Endpoint)  # type: ignore[arg-type]
