"""protocol/websocket.py: frames cut anywhere, too large or broken, odd handshakes, and noise."""

from __future__ import annotations

import itertools
import random
import struct

import pytest
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.h1 import RequestParser
from gunicorn_asgi.protocol.known import KnownLines
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.websocket import WebSocketConnection, WebSocketState
from kit.wire import websocket_frame
from protocol.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    HeadSink,
    Pair,
    with_field,
)

__all__: list[str] = []

S = WebSocketState


@pytest.mark.parametrize("name", [pair[0] for pair in HANDSHAKE] + [b"sec-websocket-protocol"])
def test_odd_bytes_in_a_handshake_are_the_peers_fault(name: bytes) -> None:
    """Whatever llhttp lets through, at every place of a value: refused as such, or accepted."""
    value = dict(HANDSHAKE).get(name, b"chat")
    for byte, at in itertools.product(range(256), (0, 1, len(value))):
        odd = value[:at] + bytes([byte]) + value[at:]
        raw = b"".join(b"%b: %b\r\n" % pair for pair in with_field(name, odd))
        sink = HeadSink()
        try:
            rest = RequestParser(sink, Limits(), KnownLines(Limits())).feed(
                b"GET / HTTP/1.1\r\n%b\r\n" % raw
            )
            if rest is None:
                assert name in (b"connection", b"upgrade")
                continue  # a plain request
            server = WebSocketConnection(sink.head, Limits())
            server.handshake()
        except RemoteProtocolError:
            continue
        assert b" 101 " in server.accept(None, ())


# -- frames cut anywhere ---------------------------------------------------------------------------


def test_where_the_stream_is_cut_makes_no_difference() -> None:
    """TCP knows no frames: two pieces at every position, and byte by byte."""
    client = Pair().client
    events: list[Event] = [
        TextMessage("é€", message_finished=False),
        Ping(b"p"),
        TextMessage("x" * 130),
        BytesMessage(b"\0\xff"),
        CloseConnection(1001, "bye"),
    ]
    raw = b"".join(client.send(event) for event in events)
    cuts = [[raw[:at], raw[at:]] for at in range(1, len(raw))]
    for pieces in ([raw], *cuts, [bytes([byte]) for byte in raw]):
        pair = Pair()
        messages, answers = [], b""
        for piece in pieces:
            messages += pair.feed(piece)
            answers += pair.answer
        assert messages == ["é€" + "x" * 130, b"\0\xff"]
        assert pair.state() is S.CLOSED
        assert (pair.server.close_code, pair.server.close_reason) == (1001, "bye")
        assert [type(event) for event in pair.to_client(answers)] == [Pong, CloseConnection]


# -- the limit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([BytesMessage(b"x" * 10)], id="bytes"),
        pytest.param([TextMessage("x" * 10)], id="text"),
        pytest.param([TextMessage("é" * 5)], id="counted in bytes"),
        pytest.param([BytesMessage(b"x" * 5, message_finished=False), BytesMessage(b"x" * 5)]),
        pytest.param([TextMessage("x" * 10), TextMessage("x" * 10)], id="two messages"),
    ],
)
def test_a_message_may_be_as_large_as_the_limit(events: list[Event]) -> None:
    """websocket_max_message_size, in bytes, each message anew; one byte more is 1009."""
    pair = Pair(max_message=10)
    assert sum(len(each.encode() if isinstance(each, str) else each) for each in pair.send(*events))
    assert pair.state() is S.OPEN

    pair = Pair(max_message=9)
    assert pair.send(*events) == []
    assert pair.state() is S.CLOSING
    (close,) = pair.to_client(pair.answer)
    assert isinstance(close, CloseConnection)
    assert (close.code, close.reason) == (1009, "message too big")
    assert (pair.server.close_code, pair.server.close_reason) == (1009, "message too big")


def test_a_too_large_message_is_refused_before_it_ends() -> None:
    """RFC 6455 7.4.1, 1009, and 7.1.7: nothing is looked at behind it."""
    pair = Pair(max_message=10)
    assert pair.feed(websocket_frame(BINARY, b"x" * 100)[:30]) == []
    assert pair.server._reader._parts == []  # nor is it kept
    assert pair.state() is S.CLOSING
    whole = websocket_frame(BINARY, b"x" * 100)[30:] + websocket_frame(TEXT, b"after")
    for piece in (whole, websocket_frame(PING, b"p"), websocket_frame(CLOSE, b"")):
        assert pair.feed(piece) == []
        assert pair.answer == b""
    assert pair.state() is S.CLOSING
    assert pair.server.close_code == 1009


def test_empty_fragments_cost_nothing() -> None:
    """No limit on a message's size sees them, so they must not pile up."""
    pair = Pair(max_message=10)
    empty = websocket_frame(CONTINUATION, b"", fin=False)
    assert pair.feed(websocket_frame(TEXT, b"a", fin=False) + empty * 1000) == []
    assert len(pair.server._reader._parts) == 1
    assert pair.feed(websocket_frame(CONTINUATION, b"b")) == ["ab"]


def test_no_limit_is_no_limit() -> None:
    """websocket_max_message_size 0."""
    assert Pair(max_message=0).send(BytesMessage(b"x" * 1_000_000)) == [b"x" * 1_000_000]


# -- broken frames -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(websocket_frame(TEXT, b"x", mask=False), 1002, id="5.1 unmasked"),
        pytest.param(websocket_frame(TEXT, b"x", rsv=4), 1002, id="5.2 RSV1"),
        pytest.param(websocket_frame(TEXT, b"x", rsv=1), 1002, id="5.2 RSV3"),
        pytest.param(websocket_frame(3, b"x"), 1002, id="5.2 opcode 3"),
        pytest.param(websocket_frame(11, b"x"), 1002, id="5.2 opcode 11"),
        pytest.param(b"\x82\xfe\x00\x05", 1002, id="5.2 length not minimal"),
        pytest.param(b"\x82\xff" + b"\xff" * 8, 1002, id="5.2 length of 64 bits"),
        pytest.param(websocket_frame(CONTINUATION, b"x"), 1002, id="5.4 nothing to continue"),
        pytest.param(
            websocket_frame(TEXT, b"a", fin=False) + websocket_frame(TEXT, b"b"),
            1002,
            id="5.4 message in a message",
        ),
        pytest.param(websocket_frame(PING, b"", fin=False), 1002, id="5.5 fragmented ping"),
        pytest.param(websocket_frame(PING, b"x" * 126), 1002, id="5.5 long ping"),
        pytest.param(websocket_frame(CLOSE, b"\x03"), 1002, id="5.5.1 half a code"),
        pytest.param(websocket_frame(CLOSE, struct.pack("!H", 999)), 1002, id="7.4 code 999"),
        pytest.param(websocket_frame(CLOSE, struct.pack("!H", 1005)), 1002, id="7.4 code 1005"),
        pytest.param(websocket_frame(CLOSE, struct.pack("!H", 1006)), 1002, id="7.4 code 1006"),
        pytest.param(websocket_frame(CLOSE, struct.pack("!H", 2999)), 1002, id="7.4 code 2999"),
        pytest.param(websocket_frame(CLOSE, struct.pack("!H", 5000)), 1002, id="7.4 code 5000"),
        pytest.param(websocket_frame(CLOSE, b"\x03\xe8\xff"), 1007, id="5.5.1 reason"),
        pytest.param(websocket_frame(TEXT, b"\xff"), 1007, id="8.1 UTF-8"),
        pytest.param(websocket_frame(TEXT, b"\xe2\x82"), 1007, id="8.1 cut UTF-8"),
        pytest.param(websocket_frame(TEXT, b"\xed\xa0\x80"), 1007, id="8.1 surrogate"),
        pytest.param(websocket_frame(TEXT, b"\xff", fin=False), 1007, id="8.1 in a fragment"),
    ],
)
def test_a_broken_frame_fails_the_connection(raw: bytes, code: int) -> None:
    """RFC 6455 7.1.7: a Close with the reason's code, and nothing is read behind it."""
    pair = Pair()
    before = websocket_frame(TEXT, b"before")
    assert pair.feed(before + raw + websocket_frame(TEXT, b"after")) == ["before"]
    assert pair.state() is S.CLOSING
    assert pair.server.failed
    (close,) = pair.to_client(pair.answer)
    assert isinstance(close, CloseConnection)
    assert close.code == code
    assert close.reason
    assert pair.server.close_code == code
    assert type(pair.server.close_code) is int
    for late in (websocket_frame(TEXT, b"later"), websocket_frame(CLOSE, b"")):
        assert pair.feed(late) == []
        assert pair.answer == b""


def test_what_came_before_may_still_be_answered() -> None:
    """The connection fails when the application has received it, and not in between."""
    server = Pair().server
    raw = websocket_frame(TEXT, b"before") + websocket_frame(PING, b"p") + websocket_frame(3, b"")
    assert server.feed(raw) == (["before"], websocket_frame(PONG, b"p", mask=False))
    assert server.broken
    assert server.feed(websocket_frame(TEXT, b"after")) == ([], b"")
    assert server.message("answer") == websocket_frame(TEXT, b"answer", mask=False)
    assert server.fail() == websocket_frame(CLOSE, b"\x03\xeaunknown opcode 3", mask=False)
    assert server.fail() == b""
    assert server.state is S.CLOSING


def test_what_is_wrong_behind_a_close_is_nothing() -> None:
    """RFC 6455 1.4: after a Close frame "the peer discards any further data received"."""
    pair = Pair()
    assert pair.feed(websocket_frame(CLOSE, b"\x03\xe8") + b"\xff" * 40) == []
    assert pair.answer == websocket_frame(CLOSE, b"\x03\xe8", mask=False)
    assert not pair.server.broken
    assert pair.state() is S.CLOSED


def test_a_broken_frame_while_closing_ends_it_without_a_second_close() -> None:
    """RFC 6455 5.5.1: nothing is sent after a Close frame."""
    pair = Pair()
    pair.server.close(1000, "")
    assert pair.feed(websocket_frame(3, b"x")) == []
    assert pair.answer == b""
    assert pair.server.failed
    assert pair.state() is S.CLOSING
    assert pair.server.close_code == 1000


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_in_nothing_is_raised(seed: int) -> None:
    """Noise, and frames of all sorts: a client can close its own connection, and no more."""
    dice = random.Random(seed)  # noise has to be the same every time
    for _ in range(20):
        noise = dice.randbytes(dice.randrange(40))
        frames = [noise] if dice.random() < 0.2 else []
        frames += [
            websocket_frame(
                dice.choice([0, 0, 1, 1, 2, 2, 8, 9, 10, dice.randrange(16)]),
                dice.choice([b"", b"text", noise]),
                fin=dice.random() < 0.6,
                mask=dice.random() < 0.95,
                rsv=dice.choice([0] * 19 + [1]),
            )
            for _ in range(dice.randrange(8))
        ]
        raw = b"".join(frames)
        pair = Pair(max_message=dice.choice([0, 9]))
        at = dice.randrange(len(raw) + 1)
        for piece in (raw[:at], raw[at:]):
            assert all(isinstance(each, (str, bytes)) for each in pair.feed(piece))
        assert pair.server.state in (S.OPEN, S.CLOSING, S.CLOSED)
