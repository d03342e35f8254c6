"""permessage-deflate (RFC 7692): its negotiation, and a deflate stream for each direction."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Agreement", "Deflater", "Inflater", "negotiate"]

_NAME = "permessage-deflate"

# RFC 7692 7.2.1 and 7.2.2: the end of each message, which is left out on the wire.
_TAIL = b"\x00\x00\xff\xff"

# zlib knows no window of 8 bits for a raw stream (it would take 9, which a peer may not stand).
_MIN_BITS = 9
_MAX_BITS = 15

# A block with the BFINAL bit ends a stream, and a new one costs us a thousand times its two bytes.
# Those who use it at all do so once a message.
_MAX_FINAL_BLOCKS = 64


@dataclass(frozen=True)
class Agreement:
    """The parameters that both sides keep to (RFC 7692 section 7.1).

    Attributes:
        server_no_context_takeover: we compress each message by itself.
        client_no_context_takeover: so does the client.
        server_max_window_bits: our window, 9 to 15 bits.
        client_max_window_bits: the client's.
        answer: the Sec-WebSocket-Extensions value of the response.
    """

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int
    answer: str


def negotiate(values: Iterable[bytes], max_bits: int = _MAX_BITS) -> Agreement | None:
    """The first offer in Sec-WebSocket-Extensions ``values`` that we can take, None without one.

    ``max_bits``: the largest window of ours, and of the client's where it lets us choose.
    RFC 7692 section 7: an offer with an unknown, repeated or malformed parameter is declined.
    """
    for value in values:
        for offer in value.decode("latin-1").split(","):
            name, *parameters = [part.strip(" \t") for part in offer.split(";")]
            if name.lower() == _NAME:
                agreement = _agree(parameters, max_bits)
                if agreement is not None:
                    return agreement
    return None


def _agree(parameters: list[str], max_bits: int) -> Agreement | None:
    given: dict[str, str | None] = {}
    for parameter in parameters:
        key, separator, value = parameter.partition("=")
        key = key.rstrip(" \t").lower()
        if key in given:
            return None
        given[key] = _unquoted(value.strip(" \t")) if separator else None
    flags = {"server_no_context_takeover", "client_no_context_takeover"}
    windows = {"server_max_window_bits", "client_max_window_bits"}
    if set(given) - flags - windows or any(given.get(flag) is not None for flag in flags):
        return None
    server, client = _MAX_BITS, _MAX_BITS
    if "server_max_window_bits" in given:
        bits = _bits(given["server_max_window_bits"])
        if bits is None:
            return None
        server = bits
    server = min(server, max_bits)
    answer = [_NAME]
    answer += [flag for flag in sorted(flags, reverse=True) if flag in given]
    if server < _MAX_BITS or "server_max_window_bits" in given:
        answer.append(f"server_max_window_bits={server}")
    if "client_max_window_bits" in given:  # else it does not understand it, and keeps 15
        wanted = given["client_max_window_bits"]
        bits = _MAX_BITS if wanted is None else _bits(wanted)
        if bits is None:
            return None
        client = min(bits, max_bits)
        answer.append(f"client_max_window_bits={client}")
    return Agreement(
        "server_no_context_takeover" in given,
        "client_no_context_takeover" in given,
        server,
        client,
        "; ".join(answer),
    )


def _unquoted(value: str) -> str:
    """RFC 6455 9.1: a value may be a quoted-string, if what it quotes is a token."""
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return value[1:-1] if quoted else value


def _bits(value: str | None) -> int | None:
    """A window that we can do; 8 is legal, and nobody's zlib does it."""
    if value is None or not (value.isascii() and value.isdigit()) or value.startswith("0"):
        return None
    bits = int(value) if len(value) < 3 else 0
    return bits if _MIN_BITS <= bits <= _MAX_BITS else None


class Inflater:
    """The client's direction. Its memory is taken with the first compressed message."""

    __slots__ = ("_bits", "_blocks", "_stream", "_takeover")

    def __init__(self, agreement: Agreement) -> None:
        self._bits = -agreement.client_max_window_bits
        self._takeover = not agreement.client_no_context_takeover
        # Connection, or message without context takeover
        self._stream: zlib._Decompress | None = None
        # Message
        self._blocks = 0

    def inflate(self, data: bytes, limit: int) -> bytes:
        """What ``data`` says; at most ``limit`` bytes of it (0 for all): the rest is lost.

        Raises:
            ValueError: it is no deflate stream.
        """
        out = b""
        try:
            while True:
                if self._stream is None:
                    self._stream = zlib.decompressobj(self._bits)
                out += self._stream.decompress(data, limit - len(out) if limit else 0)
                if not self._stream.eof:
                    return out
                # RFC 7692 7.2.3.4: blocks may follow on one with the BFINAL bit. Those who make
                # such streams (Z_FINISH) begin a new one behind it, without the window.
                data = self._stream.unused_data
                self._stream = None
                self._blocks += 1
                if self._blocks > _MAX_FINAL_BLOCKS:
                    raise ValueError("too many final blocks")
                if not data or len(out) >= limit > 0:
                    return out
        except zlib.error as exc:
            raise ValueError(f"broken deflate stream: {exc}") from None

    def finish(self, limit: int) -> bytes:
        """The rest of a message whose data is complete (RFC 7692 section 7.2.2).

        Raises:
            ValueError: it is no deflate stream.
        """
        # Behind a final block there is nothing to complete, though RFC 7692 7.2.3.4 wants a byte.
        ended = self._stream is None and self._blocks > 0
        rest = b"" if ended else self.inflate(_TAIL, limit)
        self._blocks = 0
        if not self._takeover:
            self._stream = None
        return rest


class Deflater:
    """Our direction. Its memory is taken with the first message that is compressed."""

    __slots__ = ("_bits", "_level", "_memory", "_stream", "_takeover")

    def __init__(self, agreement: Agreement, level: int) -> None:
        """``level``: 1 to 9, as ``zlib.compressobj`` takes it."""
        self._bits = -agreement.server_max_window_bits
        self._level = level
        # As for zlib's own 15 bits, where it is 8: as much for the hashes as for the window.
        self._memory = agreement.server_max_window_bits - 7
        self._takeover = not agreement.server_no_context_takeover
        self._stream: zlib._Compress | None = None

    def deflate(self, payload: bytes) -> bytes:
        """One message (RFC 7692 section 7.2.1)."""
        stream = self._stream
        if stream is None:
            stream = zlib.compressobj(self._level, zlib.DEFLATED, self._bits, self._memory)
            if self._takeover:
                self._stream = stream
        data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
        return data[:-4]
