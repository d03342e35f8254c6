"""The WebSocket load: one process on a core of its own, much faster than any server in Python.

What it sends is masked and, where that is asked for, compressed before the clock runs; what comes
back is looked at once and then only counted. Run as ``python wsload.py ORDER``, a
``WebSocketWorkload`` in JSON with ``port``, ``pid`` of the server and ``seconds``; prints a
``Sample``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from procs import cpu_seconds, raise_descriptors
from report import Sample

__all__ = ["Load", "connect", "frame", "payloads"]

# Before the clock runs (seconds): caches fill, pools grow.
_WARM_UP = 0.3
# A frame that does not come within that time (seconds) never comes.
_PATIENCE = 20.0
# Handshakes at the same time.
_AT_ONCE = 50

_LARGEST = 32 * 1024 * 1024
# RFC 7692: windows of 12 bits are what servers agree to. Our messages look back into none but
# themselves, so they fit a stream with context takeover at whatever place.
_OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
_WINDOW = 10
_DATA = (WSMsgType.TEXT, WSMsgType.BINARY)
_TAIL = b"\x00\x00\xff\xff"
# So many different messages in turn: the window of a server's compressor never holds the same.
_VARIANTS = 64


def payloads(size: int, kind: str) -> list[bytes]:
    """Messages of ``size`` bytes; for deflate as compressible as JSON is, and all different."""
    if kind != "deflate":
        return [bytes(random.Random(1).choices(range(32, 127), k=size))]
    source = random.Random(1)
    made = []
    for _ in range(_VARIANTS):
        rows = [
            {"id": source.randrange(10**6), "name": f"{source.getrandbits(40):x}", "ok": True}
            for _ in range(size // 25)
        ]
        made.append(json.dumps(rows).encode()[:size])
    return made


def frame(payload: bytes, text: bool, compressed: bool) -> bytes:
    """A masked frame (RFC 6455 section 5.2), compressed by itself (RFC 7692)."""
    first = 0x80 | (1 if text else 2)
    if compressed:
        stream = zlib.compressobj(6, zlib.DEFLATED, -_WINDOW)
        payload = (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]
        first |= 0x40
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    key = b"\x37\xfa\x21\x3d"
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    return head + key + (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")


@dataclass
class Load:
    """All that the connections share.

    Attributes:
        order: what to do.
        frames: what to send, ready for the wire.
        plain: the same, before masking and compression.
        count: messages that have come back.
        broken: set by the first connection that sees something wrong.
    """

    order: dict[str, Any]
    frames: list[bytes]
    plain: list[bytes]
    broken: asyncio.Future[None]
    count: int = 0

    def fail(self, why: str) -> None:
        """End the measurement."""
        if not self.broken.done():
            self.broken.set_exception(RuntimeError(why))


class _Client(WSListener):
    """Sends as many messages as have come back, in one write."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.frames: Iterator[bytes] = itertools.cycle(load.frames)
        self.unseen = True
        self.came = 0
        self.size: int = load.order["size"]
        self.deflate: bool = load.order["kind"] == "deflate"
        self.write: Any = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.write = transport.underlying_transport.write
        agreed = transport.response.headers.get("Sec-WebSocket-Extensions", "")
        if self.deflate is not ("permessage-deflate" in agreed):
            self.load.fail(f"compression was agreed upon as {agreed!r}")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.load.fail("the server has closed a connection")

    def say(self, times: int) -> None:
        """Send the next messages."""
        self.write(b"".join(itertools.islice(self.frames, times)))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self.unseen:
            self._look(frame)
        elif not self.deflate and frame.payload_size != self.size:
            self.load.fail(f"{frame.msg_type} of {frame.payload_size} bytes")
        self.came += 1
        if frame.last_in_buffer:
            came, self.came = self.came, 0
            self.load.count += came
            self.say(came)

    def _look(self, frame: WSFrame) -> None:
        """The first answer is what was sent, byte for byte."""
        self.unseen = False
        payload = frame.get_payload_as_bytes()
        if self.deflate and frame.rsv1:
            payload = zlib.decompress(payload + _TAIL + b"\x03\x00", -15)
        if payload != self.load.plain[0] or frame.msg_type not in _DATA:
            self.load.fail(f"not the message that was sent: {frame.msg_type} {payload[:64]!r}")


class _Listener(_Client):
    """One of a crowd: when all have heard, the next message is said."""

    speaker: _Client

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        load = self.load
        load.count += 1
        if frame.payload_size != self.size:
            load.fail(f"{frame.msg_type} of {frame.payload_size} bytes")
        if not load.count % load.order["connections"]:
            self.speaker.say(1)


async def connect(load: Load, kind: type[_Client]) -> list[_Client]:
    """Open all connections of the order."""
    order = load.order
    url = f"ws://127.0.0.1:{order['port']}{order['path']}"
    offer = _OFFER if order["kind"] == "deflate" else None
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one() -> _Client:
        client = kind(load)
        async with gate:
            await ws_connect(
                lambda: client,
                url,
                websocket_handshake_timeout=_PATIENCE,
                max_frame_size=_LARGEST,
                extra_headers=offer,
            )
        return client

    return await asyncio.gather(*(one() for _ in range(order["connections"])))


async def _run(order: dict[str, Any]) -> Sample:
    plain = payloads(order["size"], order["kind"])
    deflate = order["kind"] == "deflate"
    frames = [frame(each, order["kind"] != "bytes", deflate) for each in plain]
    load = Load(order, frames, plain, asyncio.get_running_loop().create_future())
    if order["kind"] == "broadcast":
        crowd = await connect(load, _Listener)
        _Listener.speaker = crowd[0]
        crowd[0].say(1)
    else:
        for client in await connect(load, _Client):
            client.say(order["window"])
    await _pass(load, _WARM_UP)
    count, server, own, begun = load.count, cpu_seconds(order["pid"]), _own(), time.monotonic()
    await _pass(load, order["seconds"])
    elapsed = time.monotonic() - begun
    server, own, count = cpu_seconds(order["pid"]) - server, _own() - own, load.count - count
    if not count:
        raise RuntimeError("nothing comes back")
    return Sample(count / elapsed, server / count, server / elapsed, own / elapsed)


def _own() -> float:
    return time.process_time()


async def _pass(load: Load, seconds: float) -> None:
    """Let ``seconds`` pass, unless something breaks."""
    done, _ = await asyncio.wait([load.broken], timeout=seconds)
    for each in done:
        each.result()


def main() -> None:
    """One measurement."""
    raise_descriptors()
    uvloop.install()
    sample = asyncio.run(_run(json.loads(sys.argv[1])))
    sys.stdout.write(json.dumps(sample._asdict()))
    sys.stdout.flush()
    os._exit(0)  # the connections end with the process


if __name__ == "__main__":
    main()
