"""The application of test_frameworks.py, written with FastAPI."""

# No `from __future__ import annotations`: FastAPI reads the annotations.
import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    File,
    Form,
    Query,
    Request,
    Response,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

DONE: list[str] = []


class Thing(BaseModel):
    """What /json takes, and gives back."""

    name: str
    sizes: list[int] = []


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"token": "from lifespan", "shared": []}


app = FastAPI(lifespan=lifespan)
app.mount("/static", StaticFiles(directory="static"))


async def lines(count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield f"line {number}\n"
        if number % 100 == 0:
            await asyncio.sleep(0)


async def ticks(count: int) -> AsyncIterator[str]:
    try:
        for number in range(count):
            yield f"id: {number}\ndata: tick\n\n"
            await asyncio.sleep(0.01)
    finally:
        DONE.append(f"sse {count}")


async def later(name: str) -> None:
    await asyncio.sleep(0.05)
    DONE.append(name)


async def dependency(request: Request) -> AsyncIterator[str]:
    """One that has something to tidy up, which runs around the request."""
    yield request.url.path
    DONE.append(f"tidied up {request.url.path}")


@app.get("/items/{item_id}")
async def item(
    item_id: int, q: Annotated[list[str] | None, Query()] = None
) -> dict[str, int | dict[str, list[str]]]:
    return {"id": item_id, "query": {"q": q} if q else {}}


@app.post("/json")
async def json_echo(thing: Thing) -> Thing:
    return thing


@app.post("/form")
async def form(
    name: Annotated[str, Form()], tag: Annotated[list[str], Form()]
) -> dict[str, str | list[str]]:
    return {"name": name, "tags": tag}


@app.post("/upload")
async def upload(
    file: Annotated[UploadFile, File()], note: Annotated[str, Form()]
) -> dict[str, str | int | None]:
    content = await file.read()
    told = {"name": file.filename, "size": len(content), "note": note}
    return {**told, "sha256": hashlib.sha256(content).hexdigest()}


@app.api_route("/raw", methods=["PUT", "POST"])
async def raw(request: Request) -> PlainTextResponse:
    digest = hashlib.sha256()
    async for piece in request.stream():
        digest.update(piece)
    return PlainTextResponse(digest.hexdigest())


@app.get("/stream")
async def stream(n: int) -> StreamingResponse:
    return StreamingResponse(lines(n), media_type="text/plain")


@app.get("/sse")
async def sse(n: int) -> StreamingResponse:
    return StreamingResponse(ticks(n), media_type="text/event-stream")


@app.post("/background", status_code=202)
async def background(name: str, tasks: BackgroundTasks) -> str:
    tasks.add_task(later, name)
    return "accepted"


@app.get("/done")
async def done() -> list[str]:
    return DONE


@app.get("/state")
async def state(request: Request, name: str) -> dict[str, str | list[str]]:
    request.state.shared.append(name)
    request.state.own = True
    return {"token": request.state.token, "shared": request.state.shared}


@app.get("/boom")
async def boom() -> None:
    raise ValueError("boom")


@app.get("/thread")
def thread() -> str:
    """Runs in a thread of anyio's."""
    return "from a thread"


@app.get("/dependency")
async def depends(path: Annotated[str, Depends(dependency)]) -> str:
    return path


@app.get("/empty", status_code=204)
async def empty() -> Response:
    return Response(status_code=204)


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse("static/big.txt")


@app.websocket("/ws/echo")
async def echo(websocket: WebSocket) -> None:
    """What comes back is what came, in kind; ``close CODE REASON`` closes."""
    await websocket.accept(subprotocol="kit" if websocket.scope["subprotocols"] else None)
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


@app.websocket("/ws/json")
async def json_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        told = await websocket.receive_json()
    except WebSocketDisconnect:
        return
    await websocket.send_json({"told": told, "token": websocket.state.token})
    await websocket.close()


@app.websocket("/ws/refuses")
async def refuses(websocket: WebSocket, politely: bool = False) -> None:
    if politely:
        await websocket.send_denial_response(PlainTextResponse("no entry", status_code=401))
    else:
        await websocket.close()


@app.websocket("/ws/breaks")
async def breaks(websocket: WebSocket) -> None:
    await websocket.accept()
    raise ValueError("boom")
