"""The ASGI lifespan protocol (specs/lifespan, version 2.0), run once by each worker.

STARTING -> UP | UNSUPPORTED | FAILED; UP -> STOPPING -> DOWN.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Any

from gunicorn_asgi.aio.messages import no_message
from gunicorn_asgi.aio.state import ASGIApp, Log, Message
from gunicorn_asgi.protocol.errors import LocalProtocolError
from gunicorn_asgi.protocol.machine import Machine

__all__ = [
    "TRANSITIONS",
    "Lifespan",
    "LifespanEvent",
    "LifespanFailed",
    "LifespanState",
]


class LifespanState(IntEnum):
    """How far the application's lifespan is."""

    STARTING = 0
    UP = 1
    UNSUPPORTED = 2
    FAILED = 3
    STOPPING = 4
    DOWN = 5


class LifespanEvent(IntEnum):
    """What happens to it."""

    COMPLETE = 0
    UNKNOWN = 1
    FAIL = 2
    STOP = 3


TRANSITIONS: dict[LifespanState, dict[LifespanEvent, LifespanState]] = {
    LifespanState.STARTING: {
        LifespanEvent.COMPLETE: LifespanState.UP,
        LifespanEvent.UNKNOWN: LifespanState.UNSUPPORTED,
        LifespanEvent.FAIL: LifespanState.FAILED,
    },
    LifespanState.UP: {LifespanEvent.STOP: LifespanState.STOPPING},
    LifespanState.STOPPING: {
        LifespanEvent.COMPLETE: LifespanState.DOWN,
        LifespanEvent.FAIL: LifespanState.DOWN,
    },
    LifespanState.UNSUPPORTED: {},
    LifespanState.FAILED: {},
    LifespanState.DOWN: {},
}


_EARLY = frozenset({"lifespan.startup.complete", "lifespan.startup.failed"})
_LATE = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class LifespanFailed(Exception):
    """The application cannot serve; the message says why."""


class Lifespan(Machine[LifespanState, LifespanEvent]):
    """One application's lifespan.

    In mode "auto" an application that raises before it has received anything, or that answers
    with a message of another protocol, does not know lifespan and is served without. One that
    raises after ``lifespan.startup`` was received has failed: it is half initialised.

    Attributes:
        scope_state: the dict the application fills; each request gets a shallow copy.
        state: its LifespanState.
    """

    transitions = TRANSITIONS

    def __init__(self, app: ASGIApp, log: Log, mode: str = "auto") -> None:
        """``mode`` is Gunicorn's ``asgi_lifespan``: "auto" or "on" ("off" makes no Lifespan)."""
        super().__init__(LifespanState.STARTING)
        self._app = app
        self._log = log
        self._required = mode == "on"
        self._task: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._received = False
        self._foreign = False
        self._failure = ""
        self.scope_state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Send lifespan.startup and wait, without a time limit, for the answer.

        Raises:
            LifespanFailed: startup failed, or lifespan is required and not supported.
        """
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._answered.wait()
        if self.state is LifespanState.FAILED:
            raise LifespanFailed(self._failure)

    async def shutdown(self) -> None:
        """Send lifespan.shutdown and wait for the answer; does nothing unless UP."""
        if self.state is not LifespanState.UP or self._task is None:
            return
        self.fire(LifespanEvent.STOP)
        self._answered.clear()
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        if not self._task.done():
            await self._answered.wait()

    def cancel(self) -> None:
        """Give the application's lifespan task up; idempotent."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.scope_state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            self._ended("lifespan was cancelled")
        except (Exception, SystemExit, KeyboardInterrupt) as exc:  # noqa: BLE001 - the door of the lifespan
            self._raised(exc)
        else:
            self._ended("lifespan returned before startup was complete")

    async def _receive(self) -> Message:
        self._received = True
        return await self._messages.get()

    async def _send(self, message: Message) -> None:
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            self._foreign = True
            raise no_message(message) from None
        early = self.state is LifespanState.STARTING
        if kind in (_LATE if early else _EARLY):
            # The machine's COMPLETE and FAIL would take one for the other.
            raise LocalProtocolError(f"can't send {kind} while {self.state.name}")
        if kind == "lifespan.startup.complete":
            self.fire(LifespanEvent.COMPLETE)
        elif kind == "lifespan.startup.failed":
            self._fail(message.get("message", ""))
        elif kind == "lifespan.shutdown.complete":
            self.fire(LifespanEvent.COMPLETE)
        elif kind == "lifespan.shutdown.failed":
            self._log.error("Lifespan shutdown failed: %s", message.get("message", ""))
            self.fire(LifespanEvent.FAIL)
        else:
            self._foreign = True
            raise LocalProtocolError(f"unknown lifespan message: {kind!r}")
        self._answered.set()

    def _raised(self, exc: BaseException) -> None:
        if self.state is not LifespanState.STARTING:
            self._log.error("Exception in the application's lifespan", exc_info=exc)
            if self.state is LifespanState.STOPPING:
                self.fire(LifespanEvent.FAIL)
        elif self._required or (self._received and not self._foreign):
            self._log.error("Exception in the application's lifespan", exc_info=exc)
            self._fail(f"{type(exc).__name__}: {exc}")
        else:
            self._log.debug("The application does not support lifespan: %r", exc)
            self.fire(LifespanEvent.UNKNOWN)
        self._answered.set()

    def _ended(self, reason: str) -> None:
        if self.state is LifespanState.STARTING:
            if self._required:
                self._fail(reason)
            else:
                self._log.debug("The application does not support lifespan: %s", reason)
                self.fire(LifespanEvent.UNKNOWN)
        elif self.state is LifespanState.STOPPING:
            self.fire(LifespanEvent.COMPLETE)
        self._answered.set()

    def _fail(self, message: str) -> None:
        self._failure = message or "the application gave no reason"
        self.fire(LifespanEvent.FAIL)
