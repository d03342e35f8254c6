"""The limit: what a WebSocket server in C (picows) makes of the same workloads, without ASGI.

Run as ``python limit.py PORT``.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

__all__: list[str] = []

_LARGEST = 16 * 1024 * 1024
_everybody: set[WSTransport] = set()


class _Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class _Broadcast(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        _everybody.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        _everybody.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        for each in _everybody:
            each.send(WSMsgType.TEXT, payload)


def _listener(request: WSUpgradeRequest) -> WSListener:
    return _Broadcast() if request.path == b"/broadcast" else _Echo()


async def _serve(port: int) -> None:
    server = await ws_create_server(
        _listener, "127.0.0.1", port, backlog=2048, max_frame_size=_LARGEST
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    await server.wait_closed()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(_serve(int(sys.argv[1])))
