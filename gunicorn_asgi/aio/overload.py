"""What a worker does with more than it can take: refusals without a flood of lines, and 503."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gunicorn_asgi.aio.state import Log, Message, Scope

__all__ = ["RateLimitedLog", "overloaded_app"]

# Lines at once, and lines per second after that (CVE-2025-47287: a flood of them is an attack).
_BURST = 20
_RATE = 5.0

# Seconds after which a client that was shed may come back (RFC 9110 section 10.2.3).
_RETRY_AFTER = b"1"


class RateLimitedLog:
    """Warnings that a client can cause as often as it likes.

    A line that follows suppressed ones says how many there were.
    """

    __slots__ = ("_clock", "_last", "_left", "_log", "_suppressed")

    def __init__(self, log: Log, clock: Callable[[], float]) -> None:
        """``clock``: seconds, monotonic."""
        self._log = log
        self._clock = clock
        self._left = float(_BURST)
        self._last = clock()
        self._suppressed = 0

    def tell(self, message: str, *args: object) -> None:
        """Log at WARNING, or count."""
        now = self._clock()
        self._left = min(float(_BURST), self._left + (now - self._last) * _RATE)
        self._last = now
        if self._left < 1.0:
            self._suppressed += 1
            return
        self._left -= 1.0
        if self._suppressed:
            message += " (%d such lines before it were left out)"
            args = (*args, self._suppressed)
            self._suppressed = 0
        self._log.warning(message, *args)


async def overloaded_app(
    scope: Scope,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """ASGI: answers in place of an application that has too much to do already."""
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    headers: list[Any] = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"retry-after", _RETRY_AFTER),
    ]
    await send({"type": f"{kind}.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.body", "body": b"Service Unavailable\n"})
