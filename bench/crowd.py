"""A crowd of WebSocket clients that only listen, answer Pings, and note when they are closed.

Run as ``python crowd.py PORT COUNT``. Prints one line of JSON when all are open, and one when all
are closed, with times of the monotonic clock, which is the same in every process.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import sys
import time

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from procs import raise_descriptors

__all__: list[str] = []

# Handshakes at the same time, and how long (seconds) one may take.
_AT_ONCE = 100
_PATIENCE = 30.0
# Source addresses: each has a range of ports of its own.
_ADDRESSES = 8


class _Crowd:
    """What has become of all.

    Attributes:
        codes: close codes, each with the number of clients that have seen it; 1006 is none.
        left: how many are open.
        closed: when the first and the last were.
        over: set by the last.
    """

    def __init__(self) -> None:
        self.codes: collections.Counter[int] = collections.Counter()
        self.left = 0
        self.closed: list[float] = []
        self.over = asyncio.Event()

    def lose(self, code: int) -> None:
        """One was closed."""
        self.codes[code] += 1
        self.left -= 1
        now = time.monotonic()
        self.closed = [*self.closed[:1], now]
        if not self.left:
            self.over.set()


class _Listener(WSListener):
    def __init__(self, crowd: _Crowd) -> None:
        self.crowd = crowd
        self.code = 1006

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.code = frame.get_close_code().value
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.crowd.lose(self.code)


async def _run(port: int, count: int) -> None:
    crowd = _Crowd()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> WSTransport:
        async with gate:
            transport, _ = await ws_connect(
                lambda: _Listener(crowd),
                f"ws://127.0.0.1:{port}/echo",
                websocket_handshake_timeout=_PATIENCE,
                read_buffer_init_size=1024,
                local_addr=(f"127.0.0.{2 + number % _ADDRESSES}", 0),
            )
            crowd.left += 1
            return transport

    members = await asyncio.gather(*(one(number) for number in range(count)))
    _tell({"open": len(members)})
    await crowd.over.wait()
    first, last = crowd.closed[0], crowd.closed[-1]
    _tell({"first": first, "last": last, "codes": dict(sorted(crowd.codes.items()))})


def _tell(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise_descriptors()
    uvloop.install()
    asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2])))
    os._exit(0)
