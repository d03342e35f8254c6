"""What a plain request costs in Python, counted and not timed: ``python bench/budget.py``.

Counted in the process, without a network: a connection with a transport that only takes notes, on a
real loop, with everything that a worker has switched on by default. So the numbers are the same on
every machine and in every run, and ``tests/test_budget.py`` holds them.

- **frames**: calls and resumptions of Python functions of this package (``sys.setprofile``).
- **C calls**: calls of functions written in C out of those; constructors of types do not count.
- **blocks**: how often its lines have taken memory (``sys.getallocatedblocks``, looked at with each
  opcode). What comes from a free list of the interpreter, or has more than 512 bytes, does not
  count. On Python 3.11 only: others take memory themselves for showing each opcode, or hide some.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import gunicorn.config
import uvloop

import gunicorn_asgi
from app import app
from gunicorn_asgi.aio.http1 import HTTP1Protocol
from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.state import ASGIApp, ServerState
from gunicorn_asgi.worker.meter import install
from gunicorn_asgi.worker.scoreboard import Scoreboard
from gunicorn_asgi.worker.settings import Settings
from report import markdown
from workloads import BROWSER

__all__ = ["BUDGETS", "REQUESTS", "Budget", "Cost", "budget", "count"]


@dataclass(frozen=True)
class Cost:
    """Of one request.

    Attributes:
        frames, calls, blocks: see above; blocks are 0 where they are not counted.
    """

    frames: float
    calls: float
    blocks: float


@dataclass(frozen=True)
class Budget:
    """What a request may cost: exactly so many frames, and so many of the others at the most.

    Attributes:
        frames: on Python 3.10, on 3.11, and from 3.12 on.
        calls, blocks: on every Python.
    """

    frames: tuple[float, float, float]
    calls: float
    blocks: float


# Frames are held exactly: what is saved is to be taken from here too, or it could come back unseen.
BUDGETS = {
    "get": Budget((38, 37, 42), 34, 23),
    "get-20-headers": Budget((38, 37, 42), 34, 26),
    "get-pipelined": Budget((46.0625, 45.0625, 46.0625), 31.625, 36),
    "post-1k": Budget((52, 51, 55), 42, 40),
}

_PIPELINED = 16
# Before anything is counted: lines become known, caches fill.
_WARM_UP = 64
# The least of so many: a timer or a new second may fall into some of them.
_TIMES = 5
# Turns of the loop in which each request is over, and all are.
_TURNS = 4
_LAST_TURNS = 8
_SHOWS_BLOCKS = sys.version_info[:2] == (3, 11)
_OURS = str(Path(gunicorn_asgi.__file__).parent)


def _request(start: str, fields: tuple[str, ...] = (), body: bytes = b"") -> bytes:
    lines = [f"{start} HTTP/1.1", "Host: localhost", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


# What comes in at once, and how many requests that are.
REQUESTS: dict[str, tuple[bytes, int]] = {
    "get": (_request("GET /"), 1),
    "get-20-headers": (_request("GET /", BROWSER), 1),
    "get-pipelined": (_request("GET /") * _PIPELINED, _PIPELINED),
    "post-1k": (_request("POST /echo", body=b"x" * 1024), 1),
}


class _Wire(asyncio.Transport):
    """A transport whose peer takes everything at once."""

    def __init__(self) -> None:
        ends = {"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 8000)}
        super().__init__(ends)
        self.data = b""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.data += data

    def writelines(self, list_of_data: Any) -> None:  # noqa: ANN401 - as asyncio has it
        self.data += b"".join(list_of_data)

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Nothing comes but what is fed."""

    def resume_reading(self) -> None:
        """Likewise."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """It has no buffer."""

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        """Nobody reads on."""

    abort = close


class _Connection:
    """A connection to a worker of default settings, but for the process around it."""

    def __init__(self) -> None:
        settings = Settings.resolve(gunicorn.config.Config())
        log = logging.getLogger("budget")
        state = ServerState(cast("ASGIApp", app), log, settings.limits, settings.policy)
        # Nothing may depend on how fast this machine is, as does what is gathered.
        state.clock = itertools.count(1.0, 3.6e-4).__next__
        # What counts requests and shows them to the operator is a part of what they cost.
        install(Scoreboard.create().claim(True, 1), state, settings.values)
        listener = Listener(cast("socket.socket", SimpleNamespace(family=socket.AF_INET)))
        self.wire = _Wire()
        self.protocol = HTTP1Protocol(state, listener)
        self.protocol.connection_made(self.wire)

    async def serve(self, data: bytes, count: int) -> None:
        """Feed ``data`` and let the loop turn.

        Raises:
            RuntimeError: there were not so many answers.
        """
        self.wire.data = b""
        self.protocol.data_received(data)
        for _ in range(_TURNS * count + _LAST_TURNS):
            await asyncio.sleep(0)
        answers = self.wire.data.count(b"HTTP/1.1 200 OK\r\n")
        if answers != count or not self.wire.data.endswith((b"Hello, world!", b"x" * 1024)):
            raise RuntimeError(f"{answers} answers to {count} requests: {self.wire.data[:500]!r}")


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OURS)


class _Calls:
    """Counts calls."""

    def __init__(self) -> None:
        self.frames = 0
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            self.frames += _is_ours(frame)
        elif event == "c_call":
            self.calls += _is_ours(frame)


class _Blocks:
    """Counts each rise of the number of allocated blocks from one opcode of ours to the next."""

    def __init__(self) -> None:
        self.blocks = 0
        self._before = 0
        self._ours = False

    def __call__(self, frame: FrameType, event: str, _arg: object) -> _Blocks:
        rise = sys.getallocatedblocks() - self._before
        if event == "call" and frame.f_trace is None:
            rise -= 1  # the object that shows us this frame, and is made for that only
        if self._ours and rise > 0:
            self.blocks += rise
        if not frame.f_trace_opcodes:
            frame.f_trace_opcodes = True
        self._ours = _is_ours(frame)
        self._before = sys.getallocatedblocks()
        return self


async def _count(data: bytes, requests: int) -> Cost:
    connection = _Connection()
    for _ in range(_WARM_UP):
        await connection.serve(data, requests)
    tracing = sys.gettrace()
    seen: list[Cost] = []
    gc.disable()
    try:
        for _ in range(_TIMES):
            calls, blocks = _Calls(), _Blocks()
            sys.setprofile(calls)
            await connection.serve(data, requests)
            sys.setprofile(None)
            if _SHOWS_BLOCKS:
                sys.settrace(blocks)
                await connection.serve(data, requests)
                sys.settrace(tracing)
            seen.append(Cost(calls.frames, calls.calls, blocks.blocks))
    finally:
        sys.setprofile(None)
        sys.settrace(tracing)
        gc.enable()
    return Cost(
        min(each.frames for each in seen) / requests,
        min(each.calls for each in seen) / requests,
        min(each.blocks for each in seen) / requests,
    )


_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def count(name: str, loop_kind: str = "uvloop") -> Cost:
    """What a request of that name costs on that loop."""
    loop = _LOOPS[loop_kind]()
    try:
        return loop.run_until_complete(_count(*REQUESTS[name]))
    finally:
        loop.close()


def budget(name: str) -> Cost:
    """What it may cost on this Python."""
    allowed = BUDGETS[name]
    column = min(sys.version_info[1] - 10, 2)
    return Cost(allowed.frames[column], allowed.calls, allowed.blocks)


def main() -> None:
    """Count all; with ``--json LOOP`` for who reads it by machine."""
    if sys.argv[1:2] == ["--json"]:
        costs = {name: asdict(count(name, sys.argv[2])) for name in REQUESTS}
        sys.stdout.write(json.dumps(costs))
        return
    rows = []
    for name in REQUESTS:
        cost, allowed = asdict(count(name)), asdict(budget(name))
        rows.append([name, *(f"{cost[key]:g} of {allowed[key]:g}" for key in cost)])
    sys.stdout.write(markdown(("one request of", "frames", "C calls", "blocks"), rows))


if __name__ == "__main__":
    main()
