"""A worker process as the status application sees it, without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from boards import new_board
from gunicorn_asgi.aio.overload import RateLimitedLog
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.worker import berthed
from gunicorn_asgi.worker.berthed import Berthed
from gunicorn_asgi.worker.scoreboard import Scoreboard
from kit.fakes import FakeLog

__all__ = ["LOOPBACK", "Answer", "ask", "http_scope", "moored", "new_berth"]

LOOPBACK = ("127.0.0.0/8", "::1")

Scope = dict[str, Any]


def new_berth(
    board: Scoreboard | None = None,
    *,
    allow: tuple[str, ...] = LOOPBACK,
    stopping: Callable[[], bool | None] = lambda: False,
    log: FakeLog | None = None,
    master: int = 0,
) -> Berthed:
    """What a worker would register."""
    return Berthed(
        board or new_board(),
        Networks.parse(allow),
        RateLimitedLog(log or FakeLog(), lambda: 0.0),
        asyncio.Event(),
        stopping,
        master,
    )


@contextmanager
def moored(berth: Berthed | None) -> Iterator[None]:
    """This process is that worker, as long as the block lasts."""
    before = berthed.berthed()
    berthed._Process.current = berth
    try:
        yield
    finally:
        berthed._Process.current = before


@dataclass
class Answer:
    """What an application has sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    def take(self, message: MutableMapping[str, Any]) -> None:
        """One message of it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {n.decode(): v.decode() for n, v in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)


def http_scope(
    path: str,
    *headers: tuple[str, str],
    method: str = "GET",
    root_path: str = "",
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    server: tuple[str, int | None] | None = ("127.0.0.1", 80),
) -> Scope:
    """The scope of a request."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": client,
        "server": server,
    }


async def ask(app: Any, scope: Scope) -> Answer:  # noqa: ANN401 - any ASGI application
    """Its whole answer; the client stays until then."""
    answer = Answer()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: MutableMapping[str, Any]) -> None:
        answer.take(message)

    await app(scope, receive, send)
    return answer
