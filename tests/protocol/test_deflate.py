"""protocol/deflate.py: RFC 7692, the negotiation, and what a client may compress."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from wsproto.extensions import PerMessageDeflate

from gunicorn_asgi.protocol.deflate import Agreement, Inflater, negotiate
from gunicorn_asgi.protocol.frames import Control, FrameError, FrameReader, Opcode
from kit.wire import websocket_frame
from protocol.peers import BINARY, CONTINUATION, PING, TEXT, Pair, agreement, asked, with_field

__all__: list[str] = []

NAME = "permessage-deflate"
MEBIBYTE = 1024 * 1024
_RSV1 = 4


def squeeze(data: bytes, bits: int = 15) -> bytes:
    """One message, by itself."""
    stream = zlib.compressobj(wbits=-bits)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def squeezed_frame(payload: bytes, opcode: int = BINARY, *, fin: bool = True) -> bytes:
    """A client's frame that says that it is compressed."""
    return websocket_frame(opcode, payload, fin=fin, rsv=_RSV1)


def read(
    pieces: Iterable[bytes], limit: int = 0, agreed: Agreement | None = None
) -> tuple[list[str | bytes | Control], int]:
    """What comes of the stream, and the code for which it fails; 0 if it does not."""
    reader = FrameReader(limit, Inflater(agreed or agreement()))
    items: list[str | bytes | Control] = []
    try:
        for piece in pieces:
            items += reader.feed(piece)
    except FrameError as exc:
        return items + exc.args[1], exc.code
    return items, 0


def each_byte(raw: bytes) -> list[bytes]:
    """Cut wherever it can be."""
    return [bytes((byte,)) for byte in raw]


# -- the negotiation -------------------------------------------------------------------------------

# Windows of 12 bits at most, as by default. What follows "permessage-deflate" in offer and answer.
OFFERS: list[tuple[str, str]] = [
    ("", "; server_max_window_bits=12"),
    # 7.1.1: context takeover
    ("; server_no_context_takeover", "; server_no_context_takeover; server_max_window_bits=12"),
    ("; client_no_context_takeover", "; client_no_context_takeover; server_max_window_bits=12"),
    (
        "; client_no_context_takeover; server_no_context_takeover",
        "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
    ),
    # 7.1.2.1: the same or a smaller window
    *[(f"; server_max_window_bits={n}", f"; server_max_window_bits={n}") for n in range(9, 13)],
    *[(f"; server_max_window_bits={n}", "; server_max_window_bits=12") for n in range(13, 16)],
    # 7.1.2.2: the server may choose, if the client says that it understands
    (
        "; client_max_window_bits",
        "; server_max_window_bits=12; client_max_window_bits=12",
    ),
    *[
        (
            f"; client_max_window_bits={n}",
            f"; server_max_window_bits=12; client_max_window_bits={min(n, 12)}",
        )
        for n in range(9, 16)
    ],
    (
        "; client_max_window_bits=10; server_max_window_bits=11; client_no_context_takeover",
        "; client_no_context_takeover; server_max_window_bits=11; client_max_window_bits=10",
    ),
    # RFC 6455 9.1: quoted strings, and white space
    ('; server_max_window_bits="10"', "; server_max_window_bits=10"),
    (";server_max_window_bits=10", "; server_max_window_bits=10"),
    (" \t; \tserver_max_window_bits = 10\t", "; server_max_window_bits=10"),
]
DECLINED = [
    # 7: unknown, repeated, not what the parameter takes
    "; x",
    "; x=1",
    ";",
    "; ; server_no_context_takeover",
    "; server_no_context_takeover; server_no_context_takeover",
    "; client_no_context_takeover; client_no_context_takeover",
    "; server_max_window_bits=10; server_max_window_bits=10",
    "; client_max_window_bits; client_max_window_bits=10",
    "; server_no_context_takeover=true",
    "; server_no_context_takeover=",
    '; client_no_context_takeover=""',
    "; server_max_window_bits",
    "; server_max_window_bits=",
    "; client_max_window_bits=",
    *[
        f"; {side}_max_window_bits={value}"
        for side in ("server", "client")
        for value in (
            *("0", "7", "16", "99", "1000", "-9", "+9", "09", "0x9", "9.0", "1_0", "x", "1 0"),
            *('"10', '10"', '"', '""', "'10'", "\xb9\xb2", "10 10"),
            "8",  # legal, and zlib has no raw stream with it
        )
    ],
]


def answer(*values: str, bits: int = 12) -> str | None:
    """What Sec-WebSocket-Extensions fields are answered with."""
    agreed = negotiate([value.encode("latin-1") for value in values], bits)
    return None if agreed is None else agreed.answer


@pytest.mark.parametrize(("offered", "answered"), OFFERS)
def test_an_offer_is_answered(offered: str, answered: str) -> None:
    """RFC 7692 7.1: by what the client has asked for, and the windows that we want."""
    assert answer(NAME + offered) == NAME + answered
    assert answer(NAME.title() + offered) == NAME + answered


@pytest.mark.parametrize("offered", DECLINED)
def test_an_offer_that_is_none_is_declined(offered: str) -> None:
    """RFC 7692 7: the server declines it, and takes the next one, if there is one."""
    assert answer(NAME + offered) is None
    assert answer(f"{NAME}{offered}, {NAME}") == f"{NAME}; server_max_window_bits=12"


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [","],
        ["x-webkit-deflate-frame"],
        ["permessage-deflate2", "permessage"],
        ["permessage-bzip2; server_max_window_bits=10"],
        [f'x; y="{NAME}"', f"x; {NAME}"],
    ],
    ids=repr,
)
def test_without_an_offer_there_is_no_agreement(values: list[str]) -> None:
    """RFC 6455 9.1: an extension that was not offered must not be answered."""
    assert answer(*values) is None


def test_the_first_offer_that_will_do_is_taken() -> None:
    """RFC 7692 5: "in order of preference", in one field or in several."""
    first, second = f"{NAME}; server_max_window_bits=9", f"{NAME}; server_max_window_bits=10"
    assert answer(f"x, {first}, {second}") == first
    assert answer("x", second, first) == second
    assert answer(f"{NAME}; server_max_window_bits=8", second) == second


def test_windows_of_15_bits_need_not_be_told_but_an_offer_is_answered() -> None:
    """RFC 7692 7.1.2.1: it is accepted by including the parameter."""
    assert answer(NAME, bits=15) == NAME
    offered = f"{NAME}; server_max_window_bits=15"
    assert answer(offered, bits=15) == offered


def test_both_sides_know_what_was_agreed() -> None:
    """Without its word the client's window stays at 15."""
    first = negotiate([NAME.encode()], 9)
    assert first == Agreement(False, False, 9, 15, f"{NAME}; server_max_window_bits=9")
    second = negotiate([f"{NAME}; client_max_window_bits; server_no_context_takeover".encode()], 9)
    assert second is not None
    assert second.server_no_context_takeover
    assert not second.client_no_context_takeover
    assert (second.server_max_window_bits, second.client_max_window_bits) == (9, 9)


def test_the_handshake_carries_the_agreement() -> None:
    """RFC 6455 9.1; asgi_ws_deflate_level = 0 offers nothing."""
    pair = Pair(extensions=[PerMessageDeflate()], accept=False, websocket_window_bits=10)
    assert f"{NAME}; server_max_window_bits=10; client_max_window_bits=10".encode() in (
        pair.server.accept(None, ())
    )
    pair = Pair(extensions=[PerMessageDeflate()], accept=False, websocket_deflate_level=0)
    assert pair.accept().extensions == []
    fields = with_field(b"sec-websocket-extensions", b"permessage-deflate; x")
    server = asked(fields)
    server.handshake()
    assert b"extensions" not in server.accept(None, ()).lower()


# -- the examples of the RFC -----------------------------------------------------------------------

HELLO = bytes.fromhex("f248cdc9c90700")
EXAMPLES: dict[str, tuple[list[bytes], list[str]]] = {
    "7.2.3.1 one block": ([squeezed_frame(HELLO, TEXT)], ["Hello"]),
    "7.2.3.1 fragments": (
        [squeezed_frame(HELLO[:3], TEXT, fin=False), websocket_frame(CONTINUATION, HELLO[3:])],
        ["Hello"],
    ),
    "7.2.3.2 the window is shared": (
        [squeezed_frame(HELLO, TEXT), squeezed_frame(bytes.fromhex("f200110000"), TEXT)],
        ["Hello", "Hello"],
    ),
    "7.2.3.3 a block without compression": (
        [squeezed_frame(bytes.fromhex("000500faff48656c6c6f00"), TEXT)],
        ["Hello"],
    ),
    "7.2.3.4 a final block": (
        [squeezed_frame(bytes.fromhex("f348cdc9c9070000"), TEXT)],
        ["Hello"],
    ),
    "7.2.3.5 two blocks": (
        [squeezed_frame(bytes.fromhex("f248050000 00ffff cac9c90700"), TEXT)],
        ["Hello"],
    ),
    "7.2.3.6 an empty message": ([squeezed_frame(b"\0", TEXT)] * 2, ["", ""]),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_rfc(example: str) -> None:
    """RFC 7692 7.2.3; whole, and byte by byte."""
    frames, messages = EXAMPLES[example]
    raw = b"".join(frames)
    assert read([raw]) == (messages, 0)
    assert read(each_byte(raw)) == (messages, 0)


def test_a_message_need_not_be_compressed() -> None:
    """RFC 7692 6: each says so by itself; one that does not is not in the window."""
    raw = (
        squeezed_frame(HELLO, TEXT)
        + websocket_frame(TEXT, b"plain")
        + websocket_frame(TEXT, b"pl", fin=False)
        + websocket_frame(PING, b"")
        + websocket_frame(CONTINUATION, b"ain")
        + squeezed_frame(bytes.fromhex("f200110000"), TEXT)
    )
    expected = ["Hello", "plain", Control(Opcode.PING, b""), "plain", "Hello"]
    assert read([raw]) == (expected, 0)
    assert read(each_byte(raw)) == (expected, 0)


# -- final blocks ----------------------------------------------------------------------------------

FINAL = bytes.fromhex("f348cdc9c90700")  # Hello, and the end of the stream


@pytest.mark.parametrize(
    ("payloads", "messages"),
    [
        ([FINAL + b"\0"] * 3, [b"Hello"] * 3),
        ([FINAL] * 3, [b"Hello"] * 3),  # without the byte that 7.2.3.4 wants
        ([FINAL + b"\0", HELLO, bytes.fromhex("f200110000")], [b"Hello"] * 3),
        ([FINAL + HELLO, bytes.fromhex("f200110000")], [b"HelloHello", b"Hello"]),
        ([FINAL * 64 + b"\0"], [b"Hello" * 64]),
    ],
    ids=["each", "and no more", "then others", "within a message", "as many as may be"],
)
def test_a_stream_may_end_and_another_begin(payloads: list[bytes], messages: list[bytes]) -> None:
    """RFC 7692 7.2.3.4; nothing of a message is lost behind a block with the BFINAL bit."""
    raw = b"".join(squeezed_frame(payload) for payload in payloads)
    assert read([raw]) == (messages, 0)
    assert read(each_byte(raw)) == (messages, 0)


def test_final_blocks_without_end_are_refused() -> None:
    """Two bytes each, and a new stream for us; each message has its own count."""
    assert read([squeezed_frame(FINAL * 65)]) == ([], 1007)
    whole = squeezed_frame(FINAL * 40 + b"\0")
    assert read([whole * 3]) == ([b"Hello" * 40] * 3, 0)


def test_what_follows_a_final_block_does_not_pile_up() -> None:
    """A message of 5 MB that says nothing: zlib would keep what is behind the end of a stream."""
    nothing = b"\0\0\0\xff\xff" * 10_000
    frames = [websocket_frame(CONTINUATION, nothing, fin=False)] * 100
    with bounded(MEBIBYTE):
        first = squeezed_frame(FINAL, fin=False)
        assert read([first, *frames, websocket_frame(CONTINUATION, b"\0")]) == ([b"Hello"], 0)


# -- broken streams --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(squeezed_frame(b"\x07"), 1007, id="reserved kind of block"),
        pytest.param(squeezed_frame(b"\0\1\0\0\0"), 1007, id="length and its complement"),
        pytest.param(squeezed_frame(bytes.fromhex("f200110000")), 1007, id="before the beginning"),
        pytest.param(squeezed_frame(squeeze(b"\xff"), TEXT), 1007, id="no UTF-8"),
        pytest.param(squeezed_frame(squeeze(b"\xe2\x82"), TEXT), 1007, id="cut UTF-8"),
        pytest.param(squeezed_frame(b"", PING), 1002, id="compressed Ping"),
        pytest.param(
            websocket_frame(TEXT, b"", fin=False) + squeezed_frame(b"\0", CONTINUATION),
            1002,
            id="compressed continuation",
        ),
        pytest.param(
            squeezed_frame(b"", TEXT, fin=False) + squeezed_frame(b"\0", CONTINUATION),
            1002,
            id="continuation that says it again",
        ),
        pytest.param(websocket_frame(TEXT, b"", rsv=2), 1002, id="another bit"),
        pytest.param(websocket_frame(TEXT, b"", rsv=5), 1002, id="two bits"),
    ],
)
def test_what_is_wrong_with_compression_fails_the_connection(raw: bytes, code: int) -> None:
    """RFC 7692 6.1, 7.2.2 and 8; RFC 6455 8.1."""
    before = squeezed_frame(squeeze(b"before"))
    agreed = agreement(client_takeover=False)
    assert read([before + raw + before], agreed=agreed) == ([b"before"], code)
    assert read(each_byte(before + raw), agreed=agreed) == ([b"before"], code)


def test_without_an_agreement_nothing_may_be_compressed() -> None:
    """RFC 6455 5.2: RSV1 MUST be 0 unless an extension is negotiated."""
    with pytest.raises(FrameError) as caught:
        FrameReader(0).feed(squeezed_frame(HELLO))
    assert caught.value.code == 1002


def test_a_client_that_said_so_begins_anew_with_each_message() -> None:
    """RFC 7692 7.1.1.2: client_no_context_takeover."""
    raw = squeezed_frame(HELLO) + squeezed_frame(bytes.fromhex("f200110000"))
    assert read([raw]) == ([b"Hello"] * 2, 0)
    assert read([raw], agreed=agreement(client_takeover=False)) == ([b"Hello"], 1007)


# -- bombs -----------------------------------------------------------------------------------------


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """At no moment more than ``size`` bytes are taken."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def bomb(mebibytes: int) -> bytes:
    """Zeros, a thousandth of their size."""
    stream = zlib.compressobj(9, wbits=-15)
    return b"".join([*(stream.compress(bytes(MEBIBYTE)) for _ in range(mebibytes)), stream.flush()])


BOMB = bomb(64)
BOMB_FRAME = squeezed_frame(BOMB)
BOMBS = {
    "one frame": [BOMB_FRAME],
    "text": [squeezed_frame(BOMB, TEXT)],
    "reads of 1 kB": [BOMB_FRAME[at : at + 1024] for at in range(0, len(BOMB_FRAME), 1024)],
    "fragments": [
        squeezed_frame(BOMB[:10_000], fin=False)
        + websocket_frame(CONTINUATION, BOMB[10_000:20_000], fin=False)
        + websocket_frame(CONTINUATION, BOMB[20_000:])
    ],
    "behind a final block": [squeezed_frame(FINAL + BOMB)],
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_1009_before_it_costs_memory(name: str) -> None:
    """64 MiB in 64 kB, and a limit of 1 MiB: what is taken is bounded by the limit."""
    pieces = BOMBS[name]
    assert sum(map(len, pieces)) < 70_000
    with bounded(4 * MEBIBYTE):
        assert read(pieces, MEBIBYTE) == ([], 1009)


def test_the_limit_is_of_what_comes_out() -> None:
    """Each message anew, to the byte; what goes in may be more than what comes out."""
    raw = squeezed_frame(squeeze(bytes(1000)))
    agreed = agreement(client_takeover=False)
    assert read([raw * 3], 1000, agreed) == ([bytes(1000)] * 3, 0)
    assert read(each_byte(raw * 3), 1000, agreed) == ([bytes(1000)] * 3, 0)
    assert read([raw], 999, agreed) == ([], 1009)
    assert read(each_byte(raw), 999, agreed) == ([], 1009)
    noise = random.Random(1).randbytes(1000)  # noise has to be the same every time
    raw = squeezed_frame(squeeze(noise))
    assert len(raw) > 1008
    assert read([raw], 1000) == ([noise], 0)


def test_what_zlib_still_holds_counts_too() -> None:
    """The last bytes come out with the end of the message; the limit holds there."""
    for size in range(1, 300):
        raw = squeezed_frame(squeeze(b"a" * size))
        assert read([raw], size) == ([b"a" * size], 0)
        assert read([raw], size - 1)[1] == (1009 if size > 1 else 0)
