"""What ``--reload`` needs beyond Gunicorn's reloader: an answer while the code is broken."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

from gunicorn_asgi.aio.state import Message, Scope

__all__ = ["broken_app", "files_of"]

_TEXT = b"The application could not be loaded; the reason is in the error log.\n"


def files_of(exc: BaseException) -> set[str]:
    """Runs in: worker. The files whose change may mend ``exc``, for the reloader to watch."""
    files = {frame.filename for frame in traceback.extract_tb(exc.__traceback__)}
    if isinstance(exc, SyntaxError) and exc.filename:
        files.add(exc.filename)
    return {name for name in files if not name.startswith("<")}


async def broken_app(
    scope: Scope,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Runs in: worker. Answers 500, and keeps the reason, with its traceback, to the log."""
    if scope["type"] == "lifespan":
        # Not refused: with asgi_lifespan "on" that would stop the server.
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})
        return
    if scope["type"] != "http":
        raise RuntimeError("the application could not be loaded")
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")]
    start: Message = {"type": "http.response.start", "status": 500, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": _TEXT})
