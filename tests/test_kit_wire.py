"""The kit's clients and fakes: strict where the tests rely on it."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from kit.fakes import FakeApp, FakeClock, FakeTransport, run
from kit.waiting import wait_until
from kit.wire import WebSocketWire, Wire, WireError, chunked, request, websocket_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.fakes import LoopKind

__all__: list[str] = []


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    """A client, and the socket on which the test plays the server."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)
    with ours, theirs:
        yield Wire(ours), theirs


Pair = tuple[Wire, socket.socket]


# -- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("built", "raw"),
    [
        (request(), b"GET / HTTP/1.1\r\nHost: kit\r\n\r\n"),
        (request(version="1.0"), b"GET / HTTP/1.0\r\n\r\n"),
        (
            request("POST", b"/a", {"host": "x"}, b"hi"),
            b"POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: 2\r\n\r\nhi",
        ),
        (
            request("POST", "/", [("Transfer-Encoding", b"chunked")], chunked(b"hi", b"ho")),
            b"POST / HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhi\r\n2\r\nho\r\n0\r\n\r\n",
        ),
    ],
)
def test_request(built: bytes, raw: bytes) -> None:
    """Nothing is added but what has to be."""
    assert built == raw


# -- responses -----------------------------------------------------------------------------------

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\nX: b\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hi", b"0123456789")
TRAILER = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nSum: 1\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
UNTOUCHED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"


def test_pipelined_responses(pair: Pair) -> None:
    """Each call takes exactly one response and leaves the rest."""
    wire, server = pair
    server.sendall(LENGTH + INTERIM + CHUNKED + EMPTY + TRAILER + UNTOUCHED + LENGTH)
    first = wire.recv_response()
    assert (first.status, first.reason, first.version) == (200, b"OK", "1.1")
    assert (first.body, first.framing, first.raw) == (b"hi", "length", LENGTH)
    assert (first.all("x"), first.header("Content-Length")) == ([b"a", b"b"], b"2")
    with pytest.raises(WireError, match="2 fields"):
        first.header("x")
    assert wire.recv_response().raw == INTERIM
    second = wire.recv_response()
    assert (second.chunks, second.text, second.raw) == (
        [b"hi", b"0123456789"],
        "hi0123456789",
        CHUNKED,
    )
    assert (wire.recv_response().status, wire.buffered[:8]) == (204, b"HTTP/1.1")
    third = wire.recv_response()
    assert (third.trailers, third.raw) == ([(b"sum", b"1")], TRAILER)
    assert wire.recv_response().framing == "none"
    assert wire.recv_response().raw == LENGTH
    assert wire.buffered == b""


def test_response_byte_by_byte(pair: Pair) -> None:
    """However the network cuts it, it is the same response."""
    wire, server = pair

    def trickle() -> None:
        for i in range(len(CHUNKED)):
            server.sendall(CHUNKED[i : i + 1])

    thread = threading.Thread(target=trickle)
    thread.start()
    assert wire.recv_response().raw == CHUNKED
    thread.join(5)


def test_response_to_head(pair: Pair) -> None:
    """A response to HEAD has a length and no body."""
    wire, server = pair
    server.sendall(UNTOUCHED.replace(b"304 Not Modified", b"200 OK") + LENGTH)
    assert wire.recv_response(head=True).body == b""
    assert wire.recv_response().body == b"hi"


def test_response_until_eof(pair: Pair) -> None:
    """Without framing fields, the end of the connection is the end of the body."""
    wire, server = pair
    server.sendall(b"HTTP/1.0 200 OK\r\n\r\nall of it")
    server.close()
    response = wire.recv_response()
    assert (response.body, response.framing, response.keeps_alive) == (b"all of it", "close", False)
    wire.recv_eof()


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"HTTP/1.1 20 OK\r\n\r\n", "not a status line"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "not a header field"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "not a header field"),
        (b"HTTP/1.1 200 OK\nA: b\r\n\r\n", "not a status line"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "both Transfer-Encoding and Content-Length",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "bad Content-Length",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "bad Content-Length"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "bad Transfer-Encoding"),
        (b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", "204 with framing fields"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "eof instead of 9 bytes"),
        (CHUNKED[:-5], "eof instead of"),
        (CHUNKED.replace(b"a\r\n", b"9\r\n"), "is followed by"),
        (CHUNKED.replace(b"a\r\n", b"a;x\r\n"), "not a chunk size"),
    ],
)
def test_response_that_is_none(pair: Pair, raw: bytes, complaint: str) -> None:
    """What RFC 9112 forbids fails the test."""
    wire, server = pair
    server.sendall(raw)
    server.close()
    with pytest.raises(WireError, match=complaint):
        wire.recv_response()


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [("1.1", "", True), ("1.1", "Close", False), ("1.0", "", False), ("1.0", "keep-alive", True)],
)
def test_keeps_alive(pair: Pair, version: str, connection: str, keeps: bool) -> None:
    """RFC 9112, 9.3."""
    wire, server = pair
    field = f"Connection: {connection}\r\n" if connection else ""
    server.sendall(f"HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{field}\r\n".encode())
    assert wire.recv_response().keeps_alive is keeps


# -- bytes ---------------------------------------------------------------------------------------


def test_bytes(pair: Pair) -> None:
    """Exactly, until, and whatever there is."""
    wire, server = pair
    server.sendall(b"one, two; three")
    assert wire.recv_until(b", ") == b"one, "
    assert wire.recv_exact(4) == b"two;"
    assert wire.recv_some() == b" three"
    wire.assert_silent(0.01)
    assert not wire.closed()
    server.sendall(b"!")
    with pytest.raises(WireError, match="expected silence"):
        wire.assert_silent(5)
    assert wire.recv_exact(1) == b"!"
    server.shutdown(socket.SHUT_WR)
    wait_until(wire.closed, 5)
    wire.send(b"still")
    assert server.recv(10) == b"still"
    wire.recv_eof()
    with pytest.raises(WireError, match="eof instead of any byte"):
        wire.recv_some()


def test_bytes_instead_of_eof(pair: Pair) -> None:
    """A byte too many is not an end."""
    wire, server = pair
    server.sendall(b"?")
    with pytest.raises(WireError, match=r"expected EOF, got b'\?'"):
        wire.recv_eof()


def test_reset_is_no_eof() -> None:
    """RST and FIN are told apart; ``abort`` sends the one, ``close`` the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for end in ("eof", "reset"):
            wire = Wire(socket.create_connection(listener.getsockname(), 5))
            peer = Wire(listener.accept()[0])
            peer.sock.settimeout(5)
            with wire, peer:
                wire.send(b"x")
                if end == "eof":
                    wire.close()
                    assert peer.recv_some() == b"x"
                    peer.recv_eof()
                else:
                    wire.abort()
                    wait_until(peer.closed, 5)
                    assert peer.wait_end() == "reset"
                    with pytest.raises(WireError, match="got a reset"):
                        peer.recv_eof()


# -- WebSocket -----------------------------------------------------------------------------------


class Server(threading.Thread):
    """A wsproto server that accepts, says some things and keeps what it hears."""

    def __init__(self, sock: socket.socket, *say: Event) -> None:
        """Serve one connection."""
        super().__init__()
        self.sock = sock
        self.say = say
        self.heard: list[Event] = []
        self.start()

    def run(self) -> None:
        """Until the client ends."""
        server = WSConnection(ConnectionType.SERVER)
        while data := self.sock.recv(65536):
            server.receive_data(data)
            for event in server.events():
                self.heard.append(event)
                if isinstance(event, Request):
                    out = server.send(AcceptConnection(extensions=[]))
                    out += b"".join(map(server.send, self.say))
                    self.sock.sendall(out)
            if any(isinstance(event, CloseConnection) for event in self.heard):
                return


def test_websocket_events(pair: Pair) -> None:
    """What follows the handshake in the same segment is not lost; fragments become one message."""
    wire, sock = pair
    say = (
        TextMessage(data="a", message_finished=False),
        Ping(payload=b"between"),
        TextMessage(data="b"),
        Pong(payload=b"unasked"),
        BytesMessage(data=b"c"),
        CloseConnection(code=1012, reason="reload"),
    )
    server = Server(sock, *say)
    ws = WebSocketWire(wire)
    assert ws.connect("/path", headers={"X-Y": "z"}).header("upgrade") == b"websocket"
    assert ws.recv_text() == "ab"
    assert ws.recv_bytes() == b"c"
    assert ws.recv_close() == (1012, "reload")
    server.join(5)
    first, last = server.heard[0], server.heard[-1]
    assert isinstance(first, Request)
    assert (b"x-y", b"z") in [(name.lower(), value) for name, value in first.extra_headers]
    assert isinstance(last, CloseConnection)
    assert last.code == 1012


def test_websocket_of_the_wrong_kind(pair: Pair) -> None:
    """Text is not binary."""
    wire, sock = pair
    server = Server(sock, TextMessage(data="a"), BytesMessage(data=b"b"))
    ws = WebSocketWire(wire)
    ws.connect()
    with pytest.raises(WireError, match="expected a binary message"):
        ws.recv_bytes()
    with pytest.raises(WireError, match="expected a text message"):
        ws.recv_text()
    ws.close()
    server.join(5)


def test_websocket_denied(pair: Pair) -> None:
    """A denial is a response like any other."""
    wire, sock = pair
    sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    response = WebSocketWire(wire).connect()
    assert (response.status, response.body) == (403, b"no")


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_websocket_frame(size: int) -> None:
    """Frames by hand are frames."""
    server = WSConnection(ConnectionType.SERVER)
    handshake = WSConnection(ConnectionType.CLIENT).send(Request(host="kit", target="/"))
    server.receive_data(handshake)
    list(server.events())
    server.send(AcceptConnection())
    server.receive_data(websocket_frame(2, bytes(size)))
    heard = b"".join(e.data for e in server.events() if isinstance(e, BytesMessage))
    assert heard == bytes(size)
    assert len(websocket_frame(2, bytes(size), mask=False)) + 4 == len(
        websocket_frame(2, bytes(size))
    )


# -- fakes ---------------------------------------------------------------------------------------


def test_clock() -> None:
    """Timers run in order, each at its time, those set meanwhile too; cancelled ones do not."""
    clock = FakeClock(100)
    ran: list[tuple[float, str]] = []

    def tick(name: str) -> None:
        ran.append((clock(), name))
        if name == "b":
            clock.call_later(1, tick, "c")

    clock.call_later(3, tick, "d")
    clock.call_at(101, tick, "b")
    clock.call_soon(tick, "a")
    clock.call_later(2.5, tick, "never").cancel()
    assert (clock.pending, ran) == (3, [])
    clock.advance(2.9)
    assert ran == [(100, "a"), (101, "b"), (102, "c")]
    assert clock.time() == 102.9
    clock.advance(0.1)
    assert ran[3:] == [(103, "d")]
    assert clock.pending == 0


class Recorder(asyncio.Protocol):
    """Remembers which callbacks came."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.calls: list[str] = []

    def pause_writing(self) -> None:
        """Remember."""
        self.calls.append("pause")

    def resume_writing(self) -> None:
        """Remember."""
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember."""
        self.calls.append(f"lost {exc}")


def test_transport() -> None:
    """It records, and behaves as a transport where a protocol can tell."""
    protocol = Recorder()
    transport = FakeTransport(protocol, peername=("::1", 1), extra={"sslcontext": None})
    assert transport.get_extra_info("peername") == ("::1", 1)
    transport.set_write_buffer_limits(high=100)
    assert transport.get_write_buffer_limits() == (25, 100)
    transport.write(b"a")
    transport.writelines([b"b", memoryview(b"c")])
    assert transport.take() == b"abc"
    transport.pause_reading()
    transport.pause_reading()
    assert (transport.is_reading(), transport.pauses) == (False, 1)
    transport.resume_reading()
    transport.fill()
    assert transport.get_write_buffer_size() > 100
    transport.drain()
    transport.close()
    transport.abort()
    transport.write(b"lost")
    assert (transport.data, transport.is_closing(), transport.aborted) == (b"", True, True)
    assert protocol.calls == ["pause", "resume", "lost None"]


def test_run(loop_kind: LoopKind) -> None:
    """The result comes back, the loop is of the kind wanted, and tasks left do not stay."""
    cancelled: list[bool] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(True)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        main.task = loop.create_task(forever())  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        return type(loop).__module__.split(".")[0]

    assert run(main(), loop_kind) == loop_kind
    assert cancelled == [True]


def test_run_hears_complaints(loop_kind: LoopKind) -> None:
    """What a loop would only log fails the test, and so does what takes for ever."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "missing")
        await asyncio.sleep(0.001)

    with pytest.raises(AssertionError, match="missing"):
        run(main(), loop_kind)
    with pytest.raises(asyncio.TimeoutError):
        run(asyncio.sleep(60), loop_kind, timeout=0.01)


def test_app() -> None:
    """The app reads the whole request, answers, and remembers both."""
    inbox: list[dict[str, object]] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b"},
    ]
    sent: list[dict[str, object]] = []

    async def main() -> FakeApp:
        app = FakeApp()

        async def receive() -> dict[str, object]:
            return inbox[len(app.received)]

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        await app({"type": "http"}, receive, send)
        return app

    app = run(main())
    assert len(sent) == app.sent == 2
    assert app.received == inbox
    assert [each["type"] for each in sent] == ["http.response.start", "http.response.body"]
    assert app.scopes == [{"type": "http"}]


def test_wait_until() -> None:
    """It returns the true answer, and names what it waited for in vain."""
    answers = iter([0, 0, 3])
    assert wait_until(lambda: next(answers)) == 3
    with pytest.raises(AssertionError, match="in vain for godot"):
        wait_until(lambda: None, 0.01, "godot")
