"""protocol/frames.py: the rules of RFC 6455 section 5, the limits, and frames cut anywhere."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, ParseFailed

from gunicorn_asgi.protocol.frames import Control, FrameError, FrameReader, Opcode, frame
from kit.wire import websocket_frame
from protocol.fuzz import FUZZ
from protocol.peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

__all__: list[str] = []

Item = str | bytes | Control
BEFORE, AFTER = websocket_frame(TEXT, b"before"), websocket_frame(TEXT, b"after")


def read(pieces: Iterable[bytes], limit: int = 0) -> tuple[list[Item], int]:
    """What comes of the stream, and the code for which it fails; 0 if it does not."""
    reader, items = FrameReader(limit), list[Item]()
    try:
        for piece in pieces:
            items += reader.feed(piece)
    except FrameError as exc:
        return items + exc.args[1], exc.code
    return items, 0


def each_byte(raw: bytes) -> list[bytes]:
    """The long way for every frame."""
    return [bytes((byte,)) for byte in raw]


def head(opcode: int, length: bytes, *, fin: bool = True) -> bytes:
    """The first bytes of a masked frame whose length is written like that."""
    return bytes((fin << 7 | opcode, 0x80 | length[0])) + length[1:] + b"mask"


# -- the rules -------------------------------------------------------------------------------------

BROKEN: dict[str, bytes] = {
    **{
        f"5.1 unmasked, opcode {opcode}": websocket_frame(opcode, b"", mask=False)
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
    },
    **{f"5.2 reserved bits {bits}": websocket_frame(TEXT, b"x", rsv=bits) for bits in range(1, 8)},
    "5.2 reserved bit in a Ping": websocket_frame(PING, b"", rsv=4),
    **{
        f"5.2 opcode {opcode}": websocket_frame(opcode, b"")
        for opcode in (*range(3, 8), *range(11, 16))
    },
    "5.4 nothing to continue": websocket_frame(CONTINUATION, b""),
    "5.4 nothing to end": websocket_frame(CONTINUATION, b"", fin=False),
    "5.5 fragmented Ping": websocket_frame(PING, b"", fin=False),
    "5.5 fragmented Pong": websocket_frame(PONG, b"", fin=False),
    "5.5 fragmented Close": websocket_frame(CLOSE, b"", fin=False),
    "5.5 Ping of 126 bytes": websocket_frame(PING, b"x" * 126),
    "5.5 Pong of 65536 bytes": websocket_frame(PONG, b"x" * 65536),
    "5.5 Close of 200 bytes": websocket_frame(CLOSE, b"\x03\xe8" + b"x" * 198),
}
# What is wrong with these is behind the first two bytes.
BROKEN_BEHIND: dict[str, bytes] = {
    "5.2 length 0 in two bytes": head(TEXT, b"\x7e\0\0"),
    "5.2 length 125 in two bytes": head(BINARY, b"\x7e\0\x7d") + b"x" * 125,
    "5.2 length 0 in eight bytes": head(TEXT, b"\x7f" + bytes(8)),
    "5.2 length 126 in eight bytes": head(TEXT, b"\x7f" + struct.pack("!Q", 126)),
    "5.2 length 65535 in eight bytes": head(BINARY, b"\x7f" + struct.pack("!Q", 65535)),
    "5.2 length of 64 bits": head(BINARY, b"\x7f\x80" + bytes(7)),
    "5.4 message in a message": websocket_frame(TEXT, b"a", fin=False) + AFTER,
    "5.4 fragment in a message": websocket_frame(BINARY, b"a", fin=False) * 2,
}


@pytest.mark.parametrize("rule", [*BROKEN, *BROKEN_BEHIND])
def test_a_broken_rule_is_1002(rule: str) -> None:
    """What came before it is there, and nothing behind it."""
    raw = BEFORE + {**BROKEN, **BROKEN_BEHIND}[rule] + AFTER
    assert read([raw]) == (["before"], 1002)
    assert read(each_byte(raw)) == (["before"], 1002)


@pytest.mark.parametrize("rule", BROKEN)
def test_two_bytes_are_enough_to_see_it(rule: str) -> None:
    """Nobody waits for the rest of a frame that cannot be."""
    assert read([BROKEN[rule][:2]]) == ([], 1002)


def test_a_control_frame_within_a_message_breaks_no_rule() -> None:
    """RFC 6455 5.4: "Control frames MAY be injected in the middle of a fragmented message"."""
    raw = (
        websocket_frame(BINARY, b"a", fin=False)
        + websocket_frame(PING, b"p" * 125)
        + websocket_frame(CONTINUATION, b"", fin=False)
        + websocket_frame(PONG, b"")
        + websocket_frame(CONTINUATION, b"b")
        + websocket_frame(CLOSE, b"\x03\xe8")
        + websocket_frame(BINARY, b"")
    )
    items = [
        Control(Opcode.PING, b"p" * 125),
        Control(Opcode.PONG, b""),
        b"ab",
        Control(Opcode.CLOSE, b"\x03\xe8"),
        b"",
    ]
    assert read([raw]) == (items, 0)
    assert read(each_byte(raw)) == (items, 0)


# -- text ------------------------------------------------------------------------------------------

# RFC 3629: what is no UTF-8, and how many bytes of it show that.
NOT_UTF8 = {
    "a byte that never is": (b"\xff", 1),
    "a continuation alone": (b"\x80", 1),
    "overlong in two": (b"\xc0\xaf", 1),
    "overlong in three": (b"\xe0\x80\xaf", 2),
    "overlong in four": (b"\xf0\x80\x80\xaf", 2),
    "a surrogate": (b"\xed\xa0\x80", 3),  # Python's decoder waits for all of it
    "beyond U+10FFFF": (b"\xf4\x90\x80\x80", 2),
    "five bytes": (b"\xf8\x88\x80\x80\x80", 1),
    "broken off by a letter": (b"\xe2\x82x", 3),
}
TEXTS = ["", "\0", "x" * 125, "é€😀", "\u07ff\u0800\uffff\U00010000\U0010ffff", "ü" * 40_000]


@pytest.mark.parametrize("what", NOT_UTF8)
def test_text_that_is_no_utf8_is_1007(what: str) -> None:
    """RFC 6455 8.1, in a whole message and in fragments."""
    wrong, _ = NOT_UTF8[what]
    raws = [
        websocket_frame(TEXT, b"a" + wrong),
        websocket_frame(TEXT, b"a", fin=False) + websocket_frame(CONTINUATION, wrong, fin=False),
    ]
    for raw in raws:
        assert read([BEFORE + raw + AFTER]) == (["before"], 1007)
        assert read(each_byte(BEFORE + raw)) == (["before"], 1007)


@pytest.mark.parametrize("what", NOT_UTF8)
def test_wrong_text_fails_at_the_byte_that_shows_it(what: str) -> None:
    """A megabyte may follow in the same frame; nobody waits for it."""
    wrong, shown = NOT_UTF8[what]
    raw = websocket_frame(TEXT, b"a" + wrong + b"x" * 1000)
    start = len(raw) - 1000 - len(wrong)
    assert read([raw[: start + shown - 1]]) == ([], 0)
    assert read([raw[: start + shown]]) == ([], 1007)


@pytest.mark.parametrize("raw", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"], ids=repr)
def test_text_that_ends_within_a_character_is_1007(raw: bytes) -> None:
    """In one frame, and at the end of the last fragment."""
    assert read([websocket_frame(TEXT, raw)]) == ([], 1007)
    parts = websocket_frame(TEXT, raw, fin=False) + websocket_frame(CONTINUATION, b"")
    assert read([parts]) == ([], 1007)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:30])
def test_a_character_may_be_cut_by_fragments_and_reads(text: str) -> None:
    """RFC 6455 5.6."""
    raw = text.encode()
    cuts = range(len(raw) + 1) if len(raw) < 200 else (1, 4095, 70_001)
    for cut in cuts:
        fragments = websocket_frame(TEXT, raw[:cut], fin=False)
        fragments += websocket_frame(CONTINUATION, raw[cut:])
        assert read([fragments]) == ([text], 0)
        whole = websocket_frame(TEXT, raw)
        at = len(whole) - len(raw) + cut
        assert read([whole[:at], whole[at:]]) == ([text], 0)


def test_bytes_need_not_be_text() -> None:
    """RFC 6455 5.6: binary is the application's."""
    raw = websocket_frame(BINARY, b"\xff", fin=False) + websocket_frame(CONTINUATION, b"\xc0")
    assert read([raw]) == ([b"\xff\xc0"], 0)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [11, 125, 126, 65535, 65536, 2**63 - 1])
def test_a_frame_that_is_too_large_is_refused_at_its_head(size: int) -> None:
    """1009, before a byte of its payload has come in."""
    raw = head(BINARY, _length(size))
    assert read([raw], limit=10) == ([], 1009)
    assert read(each_byte(raw), limit=10) == ([], 1009)
    assert read([raw], limit=0) == ([], 0)
    assert read([raw], limit=size) == ([], 0)


def _length(size: int) -> bytes:
    """A length as a frame has it."""
    if size < 126:
        return bytes((size,))
    return b"\x7e" + struct.pack("!H", size) if size < 65536 else b"\x7f" + struct.pack("!Q", size)


def test_the_limit_counts_the_fragments_of_one_message() -> None:
    """Each message anew; the fragment that goes too far is refused at its head."""
    parts = websocket_frame(BINARY, b"x" * 6, fin=False) + websocket_frame(CONTINUATION, b"x" * 4)
    assert read([parts * 3], limit=10) == ([b"x" * 10] * 3, 0)
    assert read([parts], limit=9) == ([], 1009)
    assert read([websocket_frame(TEXT, b"x" * 6, fin=False), head(CONTINUATION, b"\x05")], 10) == (
        [],
        1009,
    )


def test_control_frames_do_not_count_as_messages() -> None:
    """They have a limit of their own."""
    raw = websocket_frame(PING, b"p" * 125)
    assert read([raw], limit=1) == ([Control(Opcode.PING, b"p" * 125)], 0)


@pytest.mark.parametrize(
    ("payload", "most"),
    # 1024 are free, and one more for each 16 bytes: n <= 1024 + n * size // 16
    [(b"", 1024), (b"x", 1092), (b"x" * 8, 2048), (b"x" * 15, 16384)],
    ids=["empty", "one byte", "eight bytes", "fifteen bytes"],
)
def test_too_many_fragments_are_1008(payload: bytes, most: int) -> None:
    """A fragment costs the server more than its sender."""
    first = websocket_frame(BINARY, payload, fin=False)
    more = websocket_frame(CONTINUATION, payload, fin=False)
    last = websocket_frame(CONTINUATION, payload)
    assert read([first + more * (most - 2) + last]) == ([payload * most], 0)
    assert read([first + more * (most - 1) + last]) == ([], 1008)


def test_fragments_of_some_size_are_not_counted() -> None:
    """Whoever streams a file in pieces of 16 bytes may."""
    piece = b"0123456789abcdef"
    parts = [websocket_frame(CONTINUATION, piece, fin=False)] * 20_000
    raw = websocket_frame(BINARY, b"", fin=False) + b"".join(parts)
    assert read([raw, websocket_frame(CONTINUATION, b"")]) == ([piece * 20_000], 0)


def test_each_message_has_its_own_count_of_fragments() -> None:
    """Else a long life would be one."""
    one = websocket_frame(TEXT, b"", fin=False) + websocket_frame(CONTINUATION, b"")
    assert read([one * 2000]) == ([""] * 2000, 0)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_drips_is_not_an_object_for_each_byte(opcode: int) -> None:
    """A client that sends byte by byte may not cost fifty times what it sends."""
    size = 20_000
    raw = websocket_frame(opcode, b"x" * size)
    reader = FrameReader(0)
    for byte in each_byte(raw[:-1]):
        assert reader.feed(byte) == []
        assert len(reader._parts) < 1024 + size // 1024
    assert reader.feed(raw[-1:]) == ["x" * size if opcode == TEXT else b"x" * size]


class Counted(bytes):
    """Counts how much of it is copied."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - an index or a slice
        found = super().__getitem__(key)
        if isinstance(found, int):
            return found
        Counted.copied += len(found)
        return Counted(found)


@pytest.mark.parametrize(
    "frames",
    [
        websocket_frame(TEXT, b"ab"),
        websocket_frame(TEXT, b"a", fin=False) + websocket_frame(CONTINUATION, b"b"),
        websocket_frame(PING, b"ab"),
    ],
    ids=["messages", "fragments", "pings"],
)
def test_a_read_full_of_small_frames_costs_what_it_is_long(frames: bytes) -> None:
    """Not its square: nothing behind a frame is copied for it."""
    raw = Counted(frames * 5000)
    Counted.copied = 0
    assert len(FrameReader(0).feed(raw)) == 5000
    assert Counted.copied <= 2 * len(raw)


# -- masks and cuts --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 125, 126, 127, 200])
def test_the_mask_goes_on_wherever_a_payload_is_cut(size: int) -> None:
    """RFC 6455 5.3: byte i of the payload with byte i modulo 4 of the key."""
    payload = bytes(range(size))
    raw = websocket_frame(BINARY, payload)
    for first in range(len(raw) + 1):
        for second in {first, min(first + 1, len(raw)), (first + len(raw)) // 2}:
            pieces = [raw[:first], raw[first:second], raw[second:]]
            assert read(pieces) == ([payload], 0)


def test_a_large_payload_in_reads_of_odd_sizes() -> None:
    """One frame of 300 kB, as a socket gives it."""
    dice = random.Random(7)  # the same cuts every time
    payload = dice.randbytes(300_000)
    raw, pieces = websocket_frame(BINARY, payload), []
    while raw:
        size = dice.choice([1, 2, 3, 1023, 1024, 1025, 1027, 65_536, 70_001])
        pieces.append(raw[:size])
        raw = raw[size:]
    assert read(pieces) == ([payload], 0)


FRAMES = [
    *[websocket_frame(opcode, b"", fin=fin) for opcode in (0, 1, 2) for fin in (False, True)],
    *[
        websocket_frame(opcode, "aé€".encode(), fin=fin)
        for opcode in (0, 1, 2)
        for fin in (False, True)
    ],
    websocket_frame(TEXT, b"\xe2\x82", fin=False),
    websocket_frame(CONTINUATION, b"\xac", fin=False),
    websocket_frame(CONTINUATION, b"\xac"),
    websocket_frame(TEXT, b"x" * 126),
    websocket_frame(BINARY, b"x" * 65536),
    *[websocket_frame(opcode, payload) for opcode in (PING, PONG) for payload in (b"", b"p" * 125)],
    # Broken ones, more rarely.
    websocket_frame(TEXT, b"\xff"),
    websocket_frame(TEXT, b"x", mask=False),
    websocket_frame(PING, b"x", fin=False),
    websocket_frame(PING, b"x" * 126),
    websocket_frame(BINARY, b"x", rsv=2),
    websocket_frame(5, b"x"),
]
# Rules are broken by order as well, so most streams are short of that.
STREAMS = st.lists(st.sampled_from(FRAMES), max_size=12) | st.lists(
    st.sampled_from(
        [
            websocket_frame(TEXT, b"whole"),
            websocket_frame(TEXT, b"\xe2\x82", fin=False)
            + websocket_frame(PING, b"p")
            + websocket_frame(CONTINUATION, b"\xac" + b"y" * 130),
            websocket_frame(BINARY, b"z" * 70_000),
            websocket_frame(BINARY, b"", fin=False) + websocket_frame(CONTINUATION, b""),
        ]
    ),
    max_size=8,
)


def by_wsproto(raw: bytes) -> tuple[list[Item], int]:
    """The same of another implementation."""
    oracle = FrameProtocol(client=False, extensions=[])
    oracle.receive_bytes(raw)
    items: list[Item] = []
    parts: list[Any] = []
    try:
        for found in oracle.received_frames():
            if found.opcode.iscontrol():
                assert isinstance(found.payload, bytes)
                items.append(Control(Opcode(int(found.opcode)), found.payload))
            else:
                parts.append(found.payload)
                if found.message_finished:
                    items.append(type(parts[0])().join(parts))
                    parts = []
    except ParseFailed as exc:
        return items, int(exc.code)
    return items, 0


@FUZZ
@given(STREAMS)
def test_wsproto_reads_the_same(frames: list[bytes]) -> None:
    """Messages, control frames, and the code of the first that is wrong."""
    raw = b"".join(frames)
    assert read([raw]) == by_wsproto(raw)


@FUZZ
@given(STREAMS, st.data())
def test_where_a_stream_is_cut_makes_no_difference(
    frames: list[bytes], data: st.DataObject
) -> None:
    """The short way takes what is whole, the long one what is cut: they agree."""
    raw = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    bounds = [0, *cuts, len(raw)]
    pieces = [raw[start:stop] for start, stop in itertools.pairwise(bounds)]
    assert read(pieces) == read([raw])
    if len(raw) < 3000:
        assert read(each_byte(raw)) == read([raw])


@FUZZ
@given(st.binary(max_size=60), st.integers(0, 60), st.sampled_from([0, 9]))
def test_noise_is_read_the_same_wherever_it_is_cut(raw: bytes, cut: int, limit: int) -> None:
    """Bytes that are nothing at all: a code or none, and nothing but a FrameError."""
    assert read([raw[:cut], raw[cut:]], limit) == read([raw], limit)


# -- our own frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_of_ours_is_whole_minimal_and_not_masked(opcode: int, size: int) -> None:
    """RFC 6455 5.1 and 5.2."""
    payload = b"x" * size
    assert frame(opcode, payload) == websocket_frame(opcode, payload, mask=False)
    squeezed = websocket_frame(opcode, payload, mask=False, rsv=4)
    assert frame(opcode, payload, compressed=True) == squeezed
