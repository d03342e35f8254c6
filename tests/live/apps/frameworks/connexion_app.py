"""The application of test_framework_matrix.py, written with Connexion: the specification rules."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]
from connexion import AsyncApp
from starlette.responses import PlainTextResponse, StreamingResponse

VERSION = "one"

log = logging.getLogger("gunicorn.error")


@asynccontextmanager
async def lifespan(_app: AsyncApp) -> AsyncIterator[None]:
    log.info("application started: %s", VERSION)
    yield
    log.info("application stopped: %s", VERSION)


async def version() -> PlainTextResponse:
    return PlainTextResponse(VERSION)


async def greet(name: str) -> dict[str, str]:
    return {"hello": name}


async def echo(body: dict[str, Any]) -> dict[str, Any]:
    return body


async def stream() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"line {number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


async def boom() -> str:
    raise ValueError("boom")


SPECIFICATION = """
openapi: 3.0.3
info: {title: matrix, version: "1"}
paths:
  /:
    get: {operationId: app.version, responses: {"200": {description: which}}}
  /json:
    get:
      operationId: app.greet
      parameters: [{in: query, name: name, required: true, schema: {type: string}}]
      responses: {"200": {description: a greeting}}
  /echo:
    post:
      operationId: app.echo
      requestBody: {required: true, content: {application/json: {schema: {type: object}}}}
      responses: {"200": {description: the same}}
  /stream:
    get: {operationId: app.stream, responses: {"200": {description: lines}}}
  /boom:
    get: {operationId: app.boom, responses: {"200": {description: never}}}
"""

app = AsyncApp(__name__, specification_dir=Path.cwd(), lifespan=lifespan)
app.add_api(yaml.safe_load(SPECIFICATION))
