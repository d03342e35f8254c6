"""Real WebSocket client libraries, each behind the same few calls.

A ``Library`` opens WebSockets, a ``Talker`` is one of them. All calls block, and are bounded in
time; libraries of asyncio have a loop in a thread of their own.

    library = AsyncWebsockets()
    with library.connect("ws://127.0.0.1:8000/echo", deflate=True) as ws:
        ws.send("hello")
        assert ws.recv() == "hello"
    library.stop()
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from types import TracebackType

__all__ = ["PATIENCE", "Closed", "Library", "LoopLibrary", "Message", "Refused", "Talker"]

Message = str | bytes
T = TypeVar("T")

# Seconds. Everything that has an end of its own has it sooner.
PATIENCE = 30.0


class Refused(Exception):
    """The handshake was answered by HTTP."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        """``body`` is None where the library does not show it."""
        super().__init__(status)
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body


class Closed(Exception):
    """The server's Close frame, or code 1006 if there was none."""

    def __init__(self, code: int, reason: str | None = "") -> None:
        """``reason`` is None where the library does not show it."""
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Talker(ABC):
    """One WebSocket that is open.

    ``subprotocol`` and ``deflate`` are what the library says that was agreed upon.
    """

    subprotocol: str | None
    deflate: bool

    def __enter__(self) -> Talker:
        """Use as a context manager."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the connection."""
        self.drop()

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send a message."""

    def send_fragments(self, parts: Sequence[str]) -> None:
        """Send a text in so many frames, where ``Library.fragments``."""
        raise NotImplementedError

    @abstractmethod
    def recv(self) -> Message:
        """Wait for the next message.

        Raises:
            Closed: there is none any more.

        """

    @abstractmethod
    def ping(self, payload: bytes) -> None:
        """Send a Ping, and wait for its Pong."""

    @abstractmethod
    def close(self, code: int, reason: str) -> Closed:
        """Close; what the server answers."""

    @abstractmethod
    def drop(self) -> None:
        """Give the connection up, in whatever state it is."""


class Library(ABC):
    """A client library.

    ``deflates``: whether it knows permessage-deflate. ``fragments``: whether it can send a message
    in several frames. ``shows_body``: of a handshake that was refused.
    """

    deflates = True
    fragments = True
    shows_body = True

    @abstractmethod
    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
        authority: str = "",
    ) -> Talker:
        """Open a WebSocket; ``authority`` is the path of a certificate that is trusted, for wss.

        Raises:
            Refused: the server did not want to.

        """

    def stop(self) -> None:  # noqa: B027 - most have nothing that runs
        """End what runs for it."""


class LoopLibrary(Library):
    """A library of asyncio, with a loop in a thread."""

    def __init__(self) -> None:
        """Start the thread."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        with contextlib.ExitStack() as stack:
            stack.callback(future.cancel)
            return future.result(PATIENCE)

    def stop(self) -> None:
        """End the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()
