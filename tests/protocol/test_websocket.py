"""protocol/websocket.py: wsproto, in client mode, is the peer."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason

from gunicorn_asgi.protocol.errors import LocalProtocolError, RemoteProtocolError
from gunicorn_asgi.protocol.websocket import (
    TRANSITIONS,
    WebSocketConnection,
    WebSocketEvent,
    WebSocketState,
)
from kit.wire import websocket_frame
from protocol.peers import (
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    TEXT,
    Fields,
    Pair,
    asked,
    with_field,
)

__all__: list[str] = []

S, E = WebSocketState, WebSocketEvent


# -- the opening handshake -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "method", "status"),
    [
        # RFC 6455 4.2.1, in its order.
        pytest.param(HANDSHAKE, "POST", 405, id="POST"),
        pytest.param(HANDSHAKE, "HEAD", 405, id="HEAD"),
        pytest.param(with_field(b"sec-websocket-key", None), "GET", 400, id="no key"),
        pytest.param(with_field(b"sec-websocket-key", b"short"), "GET", 400, id="short key"),
        pytest.param(
            with_field(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZZ=="),
            "GET",
            400,
            id="stray bits",
        ),
        # 11.3.1: "MUST NOT appear more than once"; 11.3.5 of the version.
        pytest.param([*HANDSHAKE, HANDSHAKE[4]], "GET", 400, id="two keys"),
        pytest.param([*HANDSHAKE, HANDSHAKE[3]], "GET", 400, id="version 13 twice"),
        pytest.param(with_field(b"sec-websocket-version", None), "GET", 400, id="no version"),
        # 4.4: "an appropriate HTTP error code (such as 426 Upgrade Required)".
        pytest.param(with_field(b"sec-websocket-version", b"8"), "GET", 426, id="version 8"),
        pytest.param(with_field(b"sec-websocket-version", b"8, 13"), "GET", 426, id="two"),
        # Bytes that cannot be decoded.
        pytest.param(with_field(b"host", b"\xff"), "GET", 400, id="odd byte in Host"),
        pytest.param(
            with_field(b"sec-websocket-protocol", b"\xff"), "GET", 400, id="odd subprotocol"
        ),
    ],
)
def test_a_handshake_that_is_none_is_refused(fields: Fields, method: str, status: int) -> None:
    """RFC 6455 4.2.1 and 4.4; the state stays, for the answer is plain HTTP.

    Upgrade and Connection are the HTTP parser's: tests/aio/test_http1_upgrade.py.
    """
    server = asked(fields, method)
    with pytest.raises(RemoteProtocolError) as caught:
        server.handshake()
    assert caught.value.status_hint == status
    assert server.state is S.HANDSHAKE


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(with_field(b"connection", b"keep-alive, uPGRADE"), id="Connection"),
        pytest.param(with_field(b"upgrade", b"WebSocket"), id="Upgrade"),
        pytest.param(with_field(b"host", b"[::1]:8000"), id="IPv6"),
        pytest.param(with_field(b"host", b"xn--bcher-kva.example:80"), id="IDN"),
        pytest.param(with_field(b"host", b""), id="empty Host"),
        # Nothing of a handshake's, and none of its business.
        pytest.param([*HANDSHAKE, (b"cookie", b"\xff\xfe; a")], id="odd bytes elsewhere"),
        pytest.param([*HANDSHAKE, (b"content-length", b"0" * 30)], id="odd length"),
        pytest.param([*HANDSHAKE, (b"transfer-encoding", b"chunked")], id="chunked"),
        pytest.param([*HANDSHAKE, (b"x", b"y" * 50_000)], id="large"),
        pytest.param(
            [*HANDSHAKE, (b"sec-websocket-extensions", b"permessage-deflate; \xff")],
            id="extensions",
        ),
    ],
)
def test_a_handshake_that_is_right_is_accepted(fields: Fields) -> None:
    """RFC 6455 4.2.2, with the example key of section 1.3; no extension is agreed upon."""
    server = asked(fields)
    assert server.handshake() == []
    lines = server.accept(None, ()).lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 101 switching protocols"
    assert sorted(lines[1:]) == [
        b"",
        b"",
        b"connection: upgrade",
        b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
        b"upgrade: websocket",
    ]
    assert server.state is S.OPEN


def test_subprotocols_are_offered_in_the_clients_order() -> None:
    """RFC 6455 4.1, item 10; ASGI: scope["subprotocols"]."""
    assert Pair(["chat", "Super.chat"]).offered == ["chat", "Super.chat"]
    fields = [*HANDSHAKE, (b"sec-websocket-protocol", b"a"), (b"sec-websocket-protocol", b"b,c")]
    assert asked(fields).handshake() == ["a", "b", "c"]


def test_a_subprotocol_is_agreed_upon() -> None:
    """RFC 6455 4.2.2, item 5."""
    assert Pair(["a", "b"], accept=False).accept("b").subprotocol == "b"
    assert Pair(["a", "b"], accept=False).accept().subprotocol is None


def test_the_applications_fields_are_in_the_answer() -> None:
    """ASGI: websocket.accept, ``headers``; a 101 has no body to frame (RFC 9110 8.6)."""
    headers = [
        (b"set-cookie", b"a=1"),
        (b"Set-Cookie", b" b=2\t"),
        (b"x-odd", b"\xe9"),
        (b"content-length", b"x"),
        (b"Transfer-Encoding", b"gzip"),
    ]
    event = Pair(accept=False).accept(None, iter(headers))
    assert event.extra_headers == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"x-odd", b"\xe9"),
    ]


@pytest.mark.parametrize(
    ("subprotocol", "headers"),
    [
        pytest.param("c", (), id="not offered"),
        pytest.param("é", (), id="odd subprotocol"),
        pytest.param(None, [(b"a", b"b\r\nc: d")], id="splitting by value"),
        pytest.param(None, [(b"a\r\nb", b"c")], id="splitting by name"),
        pytest.param(None, [(b"", b"c")], id="no name"),
        pytest.param(None, [(b":status", b"200")], id="pseudo header"),
        pytest.param(None, [("a", b"b")], id="name as str"),
        pytest.param(None, [(b"a", "b")], id="value as str"),
        pytest.param(None, [(b"Sec-WebSocket-Protocol", b"a")], id="subprotocol as header"),
        pytest.param(None, [(b"sec-websocket-extensions", b"x-zip")], id="extension as header"),
        pytest.param(None, [(b"Sec-WebSocket-Accept", b"x")], id="another accept"),
    ],
)
def test_an_accept_that_cannot_be_sent_is_refused(
    subprotocol: str | None, headers: Iterable[Iterable[bytes]]
) -> None:
    """ASGI: websocket.accept; the handshake is still open after it, for another try."""
    pair = Pair(["a", "b"], accept=False)
    with pytest.raises(LocalProtocolError):
        pair.server.accept(subprotocol, headers)
    assert pair.state() is S.HANDSHAKE
    assert pair.accept("a").subprotocol == "a"


def test_nothing_is_read_before_the_handshake_is_answered() -> None:
    """RFC 6455 4.1: the client has to wait."""
    assert asked().feed(b"\x81\x80abcd") == ([], b"")


# -- messages ------------------------------------------------------------------------------------

SIZES = [0, 1, 125, 126, 65535, 65536]
MESSAGES: list[str | bytes] = [
    *[b"\xff" * size for size in SIZES],
    *["x" * size for size in SIZES],
    "é€😀\0",
]


def joined(events: list[Event]) -> str | bytes:
    """The one message that these events are."""
    assert all(isinstance(event, Message) for event in events)
    parts: list[Any] = [event.data for event in events if isinstance(event, Message)]
    assert [event.message_finished for event in events if isinstance(event, Message)][-1]
    whole: str | bytes = type(parts[0])().join(parts)
    return whole


@pytest.mark.parametrize("data", MESSAGES, ids=lambda data: f"{type(data).__name__}{len(data)}")
def test_a_message_goes_out_as_it_is(data: str | bytes) -> None:
    """RFC 6455 5.6 and 6.1; an empty one is a message too."""
    pair = Pair()
    received = joined(pair.to_client(pair.server.message(data)))
    assert received == data
    assert type(received) is type(data)


@pytest.mark.parametrize("data", MESSAGES, ids=lambda data: f"{type(data).__name__}{len(data)}")
def test_a_message_comes_in_as_it_is(data: str | bytes) -> None:
    """RFC 6455 6.2."""
    pair = Pair()
    message = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
    received = pair.send(message)
    assert received == [data]
    assert type(received[0]) is type(data)
    assert pair.answer == b""


@pytest.mark.parametrize("pieces", [["a"], ["", "a", "", "b", ""], ["", ""], list("é€😀" * 3)])
def test_fragments_become_one_message(pieces: list[str]) -> None:
    """RFC 6455 5.4; with a ping between them, which may come in the middle."""
    *first, last = pieces
    texts = [TextMessage(piece, message_finished=False) for piece in first]
    assert Pair().send(*texts, Ping(b"p"), TextMessage(last)) == ["".join(pieces)]
    parts = [BytesMessage(piece.encode(), message_finished=False) for piece in first]
    assert Pair().send(*parts, Ping(b"p"), BytesMessage(last.encode())) == [
        "".join(pieces).encode()
    ]


def test_a_character_may_be_cut_by_a_fragment() -> None:
    """RFC 6455 5.6: "a particular text frame might include a partial UTF-8 sequence"."""
    euro = "€".encode()
    frames = websocket_frame(TEXT, euro[:1], fin=False) + websocket_frame(CONTINUATION, euro[1:])
    assert Pair().feed(frames) == ["€"]


def test_text_that_cannot_be_encoded_is_refused() -> None:
    """RFC 6455 5.6: text is UTF-8; the connection lives on."""
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.server.message("\ud800")
    assert joined(pair.to_client(pair.server.message("fine"))) == "fine"


# -- pings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"p", b"\xff" * 125])
def test_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    """RFC 6455 5.5.2 and 5.5.3; a pong nobody asked for is taken in silence."""
    pair = Pair()
    assert pair.send(Ping(payload)) == []
    assert pair.to_client(pair.answer) == [Pong(payload)]
    assert pair.send(Pong(payload)) == []
    assert pair.answer == b""


# -- closing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "going"), (1012, "é"), (3000, ""), (4999, "x" * 123)]
)
def test_we_close(code: int, reason: str) -> None:
    """RFC 6455 7.1.2: our Close, then the client's; the application is told our own code."""
    pair = Pair()
    (close,) = pair.to_client(pair.server.close(code, reason))
    assert isinstance(close, CloseConnection)
    assert (close.code, close.reason or "") == (code, reason)
    assert pair.state() is S.CLOSING
    assert pair.send(CloseConnection(1000, "as you like")) == []
    assert pair.answer == b""
    assert pair.state() is S.CLOSED
    assert (pair.server.close_code, pair.server.close_reason) == (code, reason)


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (CloseConnection(1000), 1000, ""),
        (CloseConnection(1001, "bye"), 1001, "bye"),
        (CloseConnection(4000, "é"), 4000, "é"),
        (CloseConnection(CloseReason.NO_STATUS_RCVD), 1005, ""),  # a frame without a code
    ],
)
def test_the_client_closes(sent: CloseConnection, code: int, reason: str) -> None:
    """RFC 6455 5.5.1 and 7.1.5: the code is echoed, and 1005 where there was none."""
    pair = Pair()
    messages = pair.feed(
        pair.client.send(TextMessage("last"))
        + pair.client.send(sent)
        + websocket_frame(TEXT, b"after")
    )
    assert messages == ["last"]
    assert pair.state() is S.CLOSED
    assert (pair.server.close_code, pair.server.close_reason) == (code, reason)
    assert type(pair.server.close_code) is int
    payload = b"" if code == 1005 else struct.pack("!H", code) + reason.encode()
    assert pair.answer == websocket_frame(CLOSE, payload, mask=False)
    (echo,) = pair.to_client(pair.answer)
    assert isinstance(echo, CloseConnection)
    assert echo.code == code


def test_both_close_at_once() -> None:
    """RFC 6455 7.1.2: crossing Close frames are both halves of the handshake."""
    pair = Pair()
    close = pair.client.send(CloseConnection(1001, "mine"))
    pair.server.close(1012, "ours")
    assert pair.feed(close) == []
    assert pair.answer == b""
    assert pair.state() is S.CLOSED
    assert pair.server.close_code == 1012


def test_a_lost_connection_is_1006() -> None:
    """RFC 6455 7.1.5: no Close frame came; from any state."""
    pair = Pair()
    pair.server.fire(E.LOST)
    assert pair.state() is S.CLOSED
    assert (pair.server.close_code, pair.server.close_reason) == (1006, "")
    assert pair.feed(websocket_frame(TEXT, b"late")) == []


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1014, 3000, 4999])
def test_codes_that_may_travel_do(code: int) -> None:
    """RFC 6455 7.4 and the registry made by it."""
    assert Pair().server.close(code, "") == b"\x88\x02" + struct.pack("!H", code)


@pytest.mark.parametrize(
    "code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535, 65536]
)
def test_codes_that_must_not_travel_are_refused(code: int) -> None:
    """RFC 6455 7.4.1 and 7.4.2; the connection is open after it, and can be closed."""
    pair = Pair()
    with pytest.raises(LocalProtocolError, match=f"close code cannot be sent: {code}"):
        pair.server.close(code, "")
    assert pair.state() is S.OPEN
    assert pair.server.close_code == 1006
    assert pair.server.close(1011, "")


def test_a_reason_that_cannot_be_encoded_is_refused() -> None:
    """RFC 6455 5.5.1: the reason is UTF-8; nothing was sent, so the connection is still open."""
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.server.close(1000, "\ud800")
    assert pair.state() is S.OPEN
    assert (pair.server.close_code, pair.server.close_reason) == (1006, "")
    (close,) = pair.to_client(pair.server.close(1011, ""))
    assert isinstance(close, CloseConnection)
    assert close.code == 1011


def test_a_long_reason_is_cut_between_characters() -> None:
    """RFC 6455 5.5: a control frame carries 125 bytes."""
    pair = Pair()
    (close,) = pair.to_client(pair.server.close(1000, "é" * 100))
    assert isinstance(close, CloseConnection)
    assert close.reason == "é" * 61


# -- the machine ---------------------------------------------------------------------------------

# What the documents promise, written down once more.
EXPECTED: dict[tuple[WebSocketState, WebSocketEvent], WebSocketState] = {
    (S.HANDSHAKE, E.ACCEPT): S.OPEN,
    (S.HANDSHAKE, E.DENY): S.DENIAL,
    (S.HANDSHAKE, E.LOST): S.CLOSED,
    (S.OPEN, E.CLOSE): S.CLOSING,
    (S.OPEN, E.SHUT): S.CLOSED,
    (S.OPEN, E.LOST): S.CLOSED,
    (S.DENIAL, E.SHUT): S.CLOSED,
    (S.DENIAL, E.LOST): S.CLOSED,
    (S.CLOSING, E.SHUT): S.CLOSED,
    (S.CLOSING, E.LOST): S.CLOSED,
    (S.CLOSED, E.LOST): S.CLOSED,
}
WAYS: dict[WebSocketState, list[WebSocketEvent]] = {
    S.HANDSHAKE: [],
    S.OPEN: [E.ACCEPT],
    S.DENIAL: [E.DENY],
    S.CLOSING: [E.ACCEPT, E.CLOSE],
    S.CLOSED: [E.ACCEPT, E.SHUT],
}


def in_state(state: WebSocketState) -> WebSocketConnection:
    """Lead a new connection there, by its gate."""
    server = asked()
    server.handshake()
    for event in WAYS[state]:
        server.fire(event)
    assert server.state is state
    return server


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)))
def test_every_event_leads_where_it_should_or_is_refused(
    state: WebSocketState, event: WebSocketEvent
) -> None:
    """All 25 pairs."""
    server = in_state(state)
    following = EXPECTED.get((state, event))
    if following is not None:
        server.fire(event)
        assert server.state is following
    else:
        with pytest.raises(LocalProtocolError, match=f"^can't {event.name} while {state.name}$"):
            server.fire(event)
        assert server.state is state


def test_the_table_names_every_state() -> None:
    """And a connection can be lost in each."""
    assert set(TRANSITIONS) == set(S)
    assert all(E.LOST in row for row in TRANSITIONS.values())


@pytest.mark.parametrize("state", [each for each in S if each is not S.HANDSHAKE])
def test_a_connection_is_accepted_once(state: WebSocketState) -> None:
    """ASGI: websocket.accept, only as an answer to websocket.connect."""
    with pytest.raises(LocalProtocolError, match=f"ACCEPT while {state.name}"):
        in_state(state).accept(None, ())


@pytest.mark.parametrize("state", [each for each in S if each is not S.OPEN])
def test_only_an_open_connection_sends(state: WebSocketState) -> None:
    """ASGI: websocket.send and websocket.close after accept, and not after the end."""
    server = in_state(state)
    with pytest.raises(LocalProtocolError, match=f"message while {state.name}"):
        server.message("x")
    with pytest.raises(LocalProtocolError, match=f"CLOSE while {state.name}"):
        server.close(1000, "")
    assert server.state is state
    assert (server.close_code, server.close_reason) == (1006, "")


def test_a_connection_is_not_accepted_before_its_handshake_was_looked_at() -> None:
    """There is nothing to accept yet."""
    server = asked()
    with pytest.raises(LocalProtocolError, match="can't ACCEPT while HANDSHAKE"):
        server.accept(None, ())
    assert server.state is S.HANDSHAKE


def test_an_open_connection_was_not_closed() -> None:
    """Until a Close frame comes, a loss would be 1006 (RFC 6455 7.1.5)."""
    assert (Pair().server.close_code, Pair().server.close_reason) == (1006, "")
