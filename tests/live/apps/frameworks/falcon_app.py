"""The application of test_framework_matrix.py, written with Falcon."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from falcon import MEDIA_TEXT, WebSocketDisconnected
from falcon.asgi import App, Request, Response, WebSocket

VERSION = "one"

log = logging.getLogger("gunicorn.error")


class Lifespan:
    """A middleware, which is where Falcon has it."""

    async def process_startup(self, _scope: dict[str, object], _event: object) -> None:
        log.info("application started: %s", VERSION)

    async def process_shutdown(self, _scope: dict[str, object], _event: object) -> None:
        log.info("application stopped: %s", VERSION)


class Version:
    async def on_get(self, _request: Request, response: Response) -> None:
        response.content_type = MEDIA_TEXT
        response.text = VERSION


class Greeting:
    async def on_get(self, request: Request, response: Response) -> None:
        response.media = {"hello": request.get_param("name")}


class Echo:
    async def on_post(self, request: Request, response: Response) -> None:
        response.media = await request.get_media()


class Stream:
    async def on_get(self, _request: Request, response: Response) -> None:
        response.content_type = MEDIA_TEXT
        response.stream = self.lines()

    async def lines(self) -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"line %d\n" % number


class Boom:
    async def on_get(self, _request: Request, _response: Response) -> None:
        raise ValueError("boom")


class Socket:
    async def on_websocket(self, _request: Request, socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except WebSocketDisconnected:
            pass


app = App(middleware=[Lifespan()])
app.add_route("/", Version())
app.add_route("/json", Greeting())
app.add_route("/echo", Echo())
app.add_route("/stream", Stream())
app.add_route("/boom", Boom())
app.add_route("/ws", Socket())
