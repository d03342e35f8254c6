"""WebSocket frames (RFC 6455 section 5): a client's bytes to messages, messages to our bytes.

Most messages come as one frame that is complete when it is looked at. Those take a short way,
without an object or a call for each frame. Everything else takes the long one, piece by piece as
the bytes come in: fragments, frames larger than a read, compressed frames. There text is decoded
and inflated as it comes too, so that what is wrong, or too large, is refused before its end.
"""

from __future__ import annotations

import codecs
import struct
from enum import IntEnum
from typing import Any, NamedTuple

from gunicorn_asgi.protocol.deflate import Inflater
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.masking import apply_mask

__all__ = ["Control", "FrameError", "FrameReader", "Opcode", "frame"]


class Opcode(IntEnum):
    """RFC 6455 section 11.8."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class FrameError(RemoteProtocolError):
    """A frame that breaks a rule or a limit.

    Attributes:
        code: what to close the connection with (RFC 6455 section 7.4.1).
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Control(NamedTuple):
    """A control frame: Close, Ping or Pong."""

    opcode: Opcode
    payload: bytes


# No message is under way. Before Python 3.12 a member that is looked up costs seven times a name.
_NONE = Opcode.CONTINUATION

_FIN = 0x80
_RSV1 = 0x40
_MASKED = 0x80

# What the short way takes: a whole message, text or binary, not compressed.
_WHOLE_TEXT = _FIN | Opcode.TEXT
_WHOLE_BINARY = _FIN | Opcode.BINARY

# RFC 6455 5.5: "All control frames MUST have a payload length of 125 bytes or less".
_MAX_CONTROL = 125

# A message may have this many frames, and one more for each so many bytes of payload: a fragment
# costs us a hundred times what it costs its sender.
_FREE_FRAMES = 1024
_BYTES_PER_FRAME = 16

# So many pieces of a message are joined: an object for each byte costs fifty times its size.
_PIECES = 1024

# From here on (bytes) a view is cheaper than a copy.
_VIEW = 4096

_NO_UTF8 = "text is not UTF-8"

_PROTOCOL_ERROR = 1002
_INVALID_DATA = 1007
_POLICY = 1008
_TOO_BIG = 1009


# The heads of short frames of ours, by first byte and size: to make one takes four times as long.
_SHORT = {
    first: [bytes((first, size)) for size in range(126)]
    for opcode in Opcode
    for first in (_FIN | opcode, _FIN | _RSV1 | opcode)
}
_MEDIUM = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack


def frame(opcode: int, payload: bytes, compressed: bool = False) -> bytes:
    """A whole message, or a control frame, of ours: one frame, not masked (RFC 6455 5.1)."""
    first = opcode | (_FIN | _RSV1 if compressed else _FIN)
    size = len(payload)
    if size < 126:
        return _SHORT[first][size] + payload
    if size < 65536:
        return _MEDIUM(first, 126, size) + payload
    return _LONG(first, 127, size) + payload


class FrameReader:
    """Parses what a client sends behind the handshake.

    Attributes:
        controls: whether the last ``feed()`` has brought a control frame.
    """

    __slots__ = (
        "_bytes",
        "_decoder",
        "_first",
        "_frames",
        "_inflater",
        "_joined",
        "_key",
        "_kind",
        "_limit",
        "_parts",
        "_remaining",
        "_rest",
        "_size",
        "_squeezed",
        "_wire",
        "controls",
    )

    def __init__(self, limit: int, inflater: Inflater | None = None) -> None:
        """``limit`` (bytes) of a message, 0 for none; ``inflater`` if RFC 7692 was agreed upon."""
        self._limit = limit
        self._inflater = inflater
        # Feed
        self.controls = False
        # Stream: what a header lacks, or a control frame.
        self._rest = b""
        # Message
        self._kind = Opcode.CONTINUATION  # of the message that is not complete; none yet
        self._squeezed = False
        self._decoder: codecs.IncrementalDecoder | None = None
        self._parts: list[str] | list[bytes] = []
        self._joined = 0  # how many of them are many that were joined
        self._size = 0
        self._wire = 0
        self._frames = 0
        # Frame: what is still to come of its payload
        self._remaining = 0
        self._first = 0
        self._key = b""

    def feed(self, data: bytes) -> list[str | bytes | Control]:
        """What ``data`` completes, in its order.

        Raises:
            FrameError: a rule or a limit is broken; what was complete before is in ``args[1]``.
        """
        out: list[str | bytes | Control] = []
        self.controls = False
        at = 0
        try:
            if self._remaining:
                at = self._payload(data, 0, out)
            elif self._rest:
                data = self._rest + data
                self._rest = b""
            self._frames_of(data, at, out)
        except UnicodeDecodeError:
            raise _behind(out, FrameError(_INVALID_DATA, _NO_UTF8)) from None
        except FrameError as exc:
            raise _behind(out, exc) from None
        return out

    def _frames_of(self, data: bytes, at: int, out: list[str | bytes | Control]) -> None:
        end = len(data)
        idle = self._kind is _NONE
        while end - at >= 2:
            first, second = data[at], data[at + 1]
            if idle and (first == _WHOLE_TEXT or first == _WHOLE_BINARY) and second >= 128:
                size = second & 127
                start = at + 6
                if size == 126:
                    size = int.from_bytes(data[at + 2 : at + 4], "big")
                    start = at + 8
                    if size < 126:
                        size = end  # the long way finds what is wrong with it
                elif size == 127:
                    size = end
                stop = start + size
                if stop <= end and (size <= self._limit or not self._limit):
                    source = data if size < _VIEW else memoryview(data)
                    payload = apply_mask(source[start:stop], data[start - 4 : start])
                    out.append(payload.decode() if first == _WHOLE_TEXT else payload)
                    at = stop
                    continue
            at = self._frame(data, at, out)
            if at < 0:
                return
            idle = self._kind is _NONE
        self._rest = data[at:]

    # The long way

    def _frame(self, data: bytes, at: int, out: list[str | bytes | Control]) -> int:
        """Take the frame at ``at``; where the next one begins, -1 if more has to come in."""
        first, second = data[at], data[at + 1]
        self._check_header(first, second)
        size = second & 127
        start = at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            if len(data) < start + width:
                self._rest = data[at:]
                return -1
            size = int.from_bytes(data[start : start + width], "big")
            start += width
            if size < (126 if width == 2 else 65536) or size >> 63:
                raise FrameError(_PROTOCOL_ERROR, "payload length is not minimal")
        if len(data) < start + 4:
            self._rest = data[at:]
            return -1
        key = data[start : start + 4]
        start += 4
        opcode = first & 15
        if opcode >= Opcode.CLOSE:
            if len(data) < start + size:
                self._rest = data[at:]
                return -1
            payload = apply_mask(data[start : start + size], key)
            out.append(Control(Opcode(opcode), payload))
            self.controls = True
            return start + size
        self._begin(first, size)
        self._first, self._key, self._remaining = first, key, size
        if not size:
            self._end(out)
            return start
        return self._payload(data, start, out)

    def _check_header(self, first: int, second: int) -> None:
        """RFC 6455 sections 5.1, 5.2, 5.4 and 5.5."""
        opcode = first & 15
        if first & 0x30 or (first & _RSV1 and not self._may_be_squeezed(opcode)):
            raise FrameError(_PROTOCOL_ERROR, "reserved bit is set")
        if not second & _MASKED:
            raise FrameError(_PROTOCOL_ERROR, "frame is not masked")
        if opcode >= Opcode.CLOSE:
            if opcode > Opcode.PONG:
                raise FrameError(_PROTOCOL_ERROR, f"unknown opcode {opcode}")
            if not first & _FIN or second & 127 > _MAX_CONTROL:
                raise FrameError(_PROTOCOL_ERROR, "control frame is fragmented or too long")
        elif opcode > Opcode.BINARY:
            raise FrameError(_PROTOCOL_ERROR, f"unknown opcode {opcode}")
        elif (opcode == Opcode.CONTINUATION) is (self._kind is Opcode.CONTINUATION):
            raise FrameError(_PROTOCOL_ERROR, "fragments are out of order")

    def _may_be_squeezed(self, opcode: int) -> bool:
        # RFC 7692 6: only the first frame of a data message says that it is compressed.
        return self._inflater is not None and opcode in (Opcode.TEXT, Opcode.BINARY)

    def _begin(self, first: int, size: int) -> None:
        """A data frame begins, and with it perhaps a message."""
        opcode = first & 15
        if opcode:
            self._kind = Opcode(opcode)
            self._squeezed = bool(first & _RSV1)
            self._parts = []
            self._joined = 0
            self._size = self._wire = self._frames = 0
            self._decoder = _utf8("strict") if opcode == Opcode.TEXT else None
        self._frames += 1
        self._wire += size
        if self._frames > _FREE_FRAMES + self._wire // _BYTES_PER_FRAME:
            raise FrameError(_POLICY, "too many fragments")
        if not self._squeezed:
            self._count(size)

    def _count(self, size: int) -> None:
        self._size += size
        if 0 < self._limit < self._size:
            raise FrameError(_TOO_BIG, "message too big")

    def _payload(self, data: bytes, at: int, out: list[str | bytes | Control]) -> int:
        """Take what has come in of the payload, from ``at`` on; where it ends."""
        source = data if self._remaining < _VIEW else memoryview(data)
        piece = source[at : at + self._remaining]
        turn = len(piece) % 4
        plain = apply_mask(piece, self._key)
        self._key = self._key[turn:] + self._key[:turn]
        self._remaining -= len(piece)
        self._take(plain)
        if not self._remaining:
            self._end(out)
        return at + len(piece)

    def _take(self, plain: bytes) -> None:
        if self._squeezed and self._inflater is not None:
            plain = self._inflate(self._inflater, plain)
        self._keep(plain, final=False)

    def _inflate(self, inflater: Inflater, plain: bytes | None) -> bytes:
        """At most what the limit leaves, and one byte more to see that it is passed.

        None for ``plain`` is the end of the message.
        """
        left = self._limit - self._size + 1 if self._limit else 0
        try:
            plain = inflater.finish(left) if plain is None else inflater.inflate(plain, left)
        except ValueError as exc:
            raise FrameError(_INVALID_DATA, str(exc)) from None
        self._count(len(plain))
        return plain

    def _keep(self, plain: bytes, final: bool) -> None:
        piece: str | bytes = plain
        if self._decoder is not None:
            try:
                piece = self._decoder.decode(plain, final)
            except UnicodeDecodeError:
                raise FrameError(_INVALID_DATA, _NO_UTF8) from None
        if piece:
            parts: list[Any] = self._parts
            parts.append(piece)
            if len(parts) - self._joined >= _PIECES:
                parts[self._joined :] = [type(piece)().join(parts[self._joined :])]
                self._joined += 1

    def _end(self, out: list[str | bytes | Control]) -> None:
        """A data frame is complete, and with it perhaps a message."""
        if not self._first & _FIN:
            return
        if self._squeezed and self._inflater is not None:
            self._keep(self._inflate(self._inflater, None), final=False)
        self._keep(b"", final=True)
        parts, self._parts = self._parts, []
        empty: Any = "" if self._kind is Opcode.TEXT else b""
        self._kind = Opcode.CONTINUATION
        self._decoder = None
        out.append(parts[0] if len(parts) == 1 else empty.join(parts))


_utf8 = codecs.getincrementaldecoder("utf-8")


def _behind(before: list[str | bytes | Control], error: FrameError) -> FrameError:
    """``error``, with what was complete before it."""
    error.args = (error.args[0], before)
    return error
