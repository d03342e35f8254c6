"""protocol/deflate.py: messages both ways, with wsproto's permessage-deflate, and our stream."""

from __future__ import annotations

import itertools
import random

import pytest
from wsproto.events import BytesMessage, Event, Message, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from gunicorn_asgi.protocol.deflate import Deflater
from kit.wire import websocket_frame
from protocol.peers import BINARY, TEXT, Pair, agreement

__all__: list[str] = []

# -- with wsproto ----------------------------------------------------------------------------------

LINES = [
    *("", "x", "text " * 100, "é€😀" * 200),
    "".join(map(chr, range(0x100, 0x1000))),
    "once more the same, " * 50,
    "once more the same, " * 50,
]


def joined(events: list[Event]) -> list[str | bytes]:
    """The messages that these events are."""
    messages: list[str | bytes] = []
    parts: list[str] | list[bytes] = []
    for event in events:
        assert isinstance(event, Message)
        parts.append(event.data)
        if event.message_finished:
            messages.append(type(event.data)().join(parts))
            parts = []
    return messages


@pytest.mark.parametrize("ours", [9, 12, 15])
@pytest.mark.parametrize("theirs", [9, 11, 15])
@pytest.mark.parametrize(
    ("client", "server"), list(itertools.product([False, True], repeat=2)), ids=repr
)
def test_messages_go_both_ways(client: bool, server: bool, theirs: int, ours: int) -> None:
    """Context takeover on and off, all windows, text and bytes, small and large."""
    extension = PerMessageDeflate(client, theirs, server, theirs)
    pair = Pair(extensions=[extension], websocket_window_bits=ours, websocket_deflate_minimum=0)
    assert (extension.client_no_context_takeover, extension.server_no_context_takeover) == (
        client,
        server,
    )
    assert extension.server_max_window_bits == extension.client_max_window_bits == min(theirs, ours)
    binary = [line.encode() * 30 for line in LINES]
    for line, data in zip(LINES, binary, strict=True):
        assert pair.send(TextMessage(line), BytesMessage(data)) == [line, data]
        assert pair.answer == b""
        raw = pair.server.message(line) + pair.server.message(data)
        assert joined(pair.to_client(raw)) == [line, data]


def test_empty_messages_are_messages() -> None:
    """RFC 7692 7.2.3.6: one byte each, compressed or not; zlib has nothing to flush for them."""
    pair = Pair(extensions=[PerMessageDeflate()], websocket_deflate_minimum=0)
    for sent in ("", "x", "", ""):
        raw = pair.server.message(sent)
        assert len(raw) > 2
        assert joined(pair.to_client(raw)) == [sent]
        assert pair.send(TextMessage(sent), BytesMessage(b"")) == [sent, b""]


def test_fragments_are_one_stream_and_control_frames_may_be_between_them() -> None:
    """RFC 7692 6.1: the first fragment says it for all; a Ping is never compressed."""
    pair = Pair(extensions=[PerMessageDeflate()])
    text = "fragments of a message, " * 40
    parts = [TextMessage(text[at : at + 100], message_finished=False) for at in range(0, 900, 100)]
    for _ in range(2):
        events: list[Event] = [each for part in parts for each in (part, Ping(b"between"))]
        assert pair.send(*events, TextMessage(text[900:])) == [text]
        assert pair.to_client(pair.answer) == [Pong(b"between")] * 9


def test_small_messages_are_not_compressed() -> None:
    """asgi_ws_deflate_minimum, in bytes of what is sent."""
    pair = Pair(extensions=[PerMessageDeflate()], websocket_deflate_minimum=100)
    assert pair.server.message("x" * 99) == websocket_frame(TEXT, b"x" * 99, mask=False)
    assert pair.server.message(b"x" * 100)[0] == 0x80 | 0x40 | BINARY
    assert len(pair.server.message("é" * 50)) < 20


# -- our stream ------------------------------------------------------------------------------------


def test_the_window_is_kept_or_begun_anew() -> None:
    """RFC 7692 7.1.1.1: server_no_context_takeover."""
    data = random.Random(2).randbytes(1000)  # the same every time; nothing in it repeats
    kept = Deflater(agreement(), 4)
    assert len(kept.deflate(data)) > 1000
    assert len(kept.deflate(data)) < 50
    anew = Deflater(agreement(server_takeover=False), 4)
    assert anew.deflate(data) == anew.deflate(data)


@pytest.mark.parametrize("bits", range(9, 16))
def test_no_distance_goes_beyond_the_window(bits: int) -> None:
    """RFC 7692 7.1.2.1: what is further back is not referred to."""
    block = random.Random(3).randbytes(1 << bits)
    near = Deflater(agreement(bits=bits), 9)
    near.deflate(block[:100])
    assert len(near.deflate(block[:100])) < 50
    far = Deflater(agreement(bits=bits), 9)
    far.deflate(block)
    assert len(far.deflate(block[:100])) > 100


def test_a_higher_level_makes_messages_smaller() -> None:
    """asgi_ws_deflate_level."""
    dice = random.Random(4)
    words = [dice.randbytes(dice.randrange(2, 9)) for _ in range(300)]
    data = b" ".join(dice.choice(words) for _ in range(5000))
    sizes = [len(Deflater(agreement(bits=12), level).deflate(data)) for level in (1, 4, 9)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


def test_memory_is_taken_with_the_first_message() -> None:
    """Browsers always offer it; ten thousand idle sockets need no streams."""
    pair = Pair(extensions=[PerMessageDeflate()])
    server = pair.server
    assert server._deflater is not None
    assert server._reader._inflater is not None
    pair.to_client(server.message("small"))
    pair.feed(websocket_frame(TEXT, b"plain"))
    streams = [server._deflater._stream, server._reader._inflater._stream]
    assert streams == [None, None]
    server.message("x" * 1000)
    pair.send(TextMessage("x"))
    assert None not in (server._deflater._stream, server._reader._inflater._stream)
