"""WebSocket frames and handshakes for connections on fake transports (see ``kit.rig``)."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from kit.message import Fields, WireError, field_pairs, request
from kit.rig import Client, Message, Rig, Script, turns, until
from kit.wire import websocket_frame

__all__ = [
    "ACCEPT",
    "KEY",
    "Frame",
    "arrived",
    "close_frame",
    "disconnect",
    "frames",
    "half_closed",
    "handshake",
    "opened",
    "parse_frames",
    "text_frame",
    "waiting",
]

# RFC 6455, 1.3: the sample nonce, and the accept value that belongs to it.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Frame(NamedTuple):
    """One frame of the server's."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The status code of a Close frame; 1005 without one."""
        assert self.opcode == 8, self
        return int(struct.unpack("!H", self.payload[:2])[0]) if self.payload else 1005


def handshake(path: str = "/ws", headers: Fields = (), **replaced: str | None) -> bytes:
    """Build an opening handshake (RFC 6455, 4.1); a field may be replaced, or left out by None."""
    fields: dict[str, str | None] = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
    kept = [(name, value) for name, value in fields.items() if value is not None]
    return request("GET", path, [*field_pairs(kept), *field_pairs(headers)])


def text_frame(text: str) -> bytes:
    """Build a whole text message of the client's."""
    return websocket_frame(1, text.encode())


def close_frame(code: int | None = 1000, reason: str = "") -> bytes:
    """Build a Close frame of the client's; None leaves the code out."""
    return websocket_frame(8, b"" if code is None else struct.pack("!H", code) + reason.encode())


def parse_frames(data: bytes) -> list[Frame]:
    """Parse all of ``data`` as unmasked, unfragmented frames (RFC 6455, 5.2)."""
    frames = []
    while data:
        first, length = data[0], data[1]
        start = 2
        if length == 126:
            length, start = struct.unpack("!H", data[2:4])[0], 4
        elif length == 127:
            length, start = struct.unpack("!Q", data[2:10])[0], 10
        if not first & 0x80 or data[1] & 0x80 or len(data) < start + length:
            raise WireError(f"not a whole, unmasked frame: {data[:20]!r}")
        frames.append(Frame(first & 0x0F, data[start : start + length]))
        data = data[start + length :]
    return frames


def frames(client: Client) -> list[Frame]:
    """What has arrived behind the 101 response."""
    _, _, rest = client.received.partition(b"\r\n\r\n")
    return parse_frames(rest)


async def arrived(client: Client) -> list[Frame]:
    """What has arrived behind the 101, with what this turn of the loop has gathered."""
    await turns(3)
    return frames(client)


async def opened(
    data: bytes = b"",
    *,
    headers: Fields = (),
    extra: dict[str, Any] | None = None,
    **limits: Any,
) -> tuple[Rig, Client, Script]:
    """Make a connection whose application has accepted; ``extra`` is of its transport."""
    app = Script()
    rig = Rig(app, **limits)
    client = rig.connect(extra=extra)
    client.send(handshake(headers=headers))
    await until(lambda: app.task)
    assert await app.receive() == {"type": "websocket.connect"}
    await app.send({"type": "websocket.accept"})
    await until(lambda: client.received)
    client.send(data)
    return rig, client, app


async def waiting(early: bytes = b"", **limits: Any) -> tuple[Rig, Client, Script]:
    """Make a connection whose application has not answered the handshake yet."""
    app = Script()
    rig = Rig(app, **limits)
    client = rig.connect()
    client.send(handshake(headers={"Sec-WebSocket-Protocol": "chat, superchat"}) + early)
    await until(lambda: app.task)
    return rig, client, app


async def half_closed(client: Client) -> None:
    """Expect FIN of a server that reads on without looking, and closes at the client's FIN."""
    await until(lambda: client.transport.eof_written, "FIN")
    client.send(text_frame("nobody reads this"))
    await turns()
    assert not client.ended
    client.eof()
    await until(lambda: client.ended)
    assert not client.transport.aborted


def disconnect(code: int, reason: str = "") -> Message:
    """Build what the application gets at the end."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
