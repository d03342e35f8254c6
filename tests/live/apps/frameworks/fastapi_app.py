"""The application of test_framework_matrix.py, written with FastAPI, anyio, asyncio, strawberry."""

# No `from __future__ import annotations`: strawberry and FastAPI resolve annotations by themselves.
import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import strawberry
from fastapi import BackgroundTasks, FastAPI, File, Form, Request, UploadFile, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from strawberry.fastapi import GraphQLRouter

VERSION = "one"

log = logging.getLogger("gunicorn.error")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    log.info("application started: %s", VERSION)
    yield
    log.info("application stopped: %s", VERSION)


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=PlainTextResponse)
async def version() -> str:
    return VERSION


@app.get("/json")
async def greet(name: str) -> dict[str, str]:
    return {"hello": name}


@app.post("/echo")
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"line {number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/boom")
async def boom() -> str:
    raise ValueError("boom")


@app.websocket("/ws")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.post("/upload")
async def upload(
    file: Annotated[UploadFile, File()], note: Annotated[str, Form()]
) -> dict[str, Any]:
    content = await file.read()
    digest = hashlib.sha256(content).hexdigest()
    return {"name": file.filename, "size": len(content), "note": note, "sha256": digest}


@app.post("/background", status_code=202)
async def background(tasks: BackgroundTasks) -> str:
    async def later() -> None:
        await asyncio.sleep(0)
        log.info("background task ran")

    tasks.add_task(later)
    return "accepted"


@app.get("/anyio")
async def anyio_group() -> list[int]:
    """Children that wait for each other, one in a thread, and a scope that is cancelled."""
    found = []

    async def put(number: int) -> None:
        found.append(await anyio.to_thread.run_sync(int, number))

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(put, number)
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    return sorted(found)


@app.get("/taskgroup")
async def task_group(request: Request) -> dict[str, Any]:
    """asyncio's: a child that fails cancels its sibling, and both are told of."""
    cancelled = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(request.url.path)
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("failed")

    errors = []
    try:
        async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined,unused-ignore]
            group.create_task(waits())
            group.create_task(fails())
    except Exception as error:  # noqa: BLE001 - a group, which `except*` takes from 3.11 on only
        errors = [str(each) for each in getattr(error, "exceptions", ())]
    return {"cancelled": cancelled, "errors": errors}


@app.get("/timeout")
async def times_out() -> str:
    try:
        async with asyncio.timeout(0.01):  # type: ignore[attr-defined,unused-ignore]
            await asyncio.Event().wait()
    except TimeoutError:
        return "timed out"
    return "went on"


@strawberry.type
class Query:
    @strawberry.field
    def hello(self) -> str:
        return "world"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, target: int) -> AsyncGenerator[int, None]:
        for number in range(target):
            yield number
            await asyncio.sleep(0)


app.include_router(
    GraphQLRouter(strawberry.Schema(Query, subscription=Subscription)), prefix="/graphql"
)
