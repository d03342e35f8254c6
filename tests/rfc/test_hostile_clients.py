"""Clients that do not stop, do not read or do not leave, against a real worker on either loop."""

from __future__ import annotations

import zlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from kit.wire import WebSocketWire, Wire, websocket_frame
from rfc.case import CHUNKED, Seen, get, post
from rfc.cases import limits
from rfc.run import check, final, refusal, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.master import Master

__all__: list[str] = []

pytestmark = [pytest.mark.live, pytest.mark.slow]

FLOOD = b"x" * 2_000_000
REFUSED = {
    400: post(CHUNKED, line=b"POST /400 HTTP/1.1") + b"xyz\r\n",
    413: post(b"Content-Length: 999999999", line=b"POST /413 HTTP/1.1"),
    414: b"GET /414" + b"x" * 5000,
    417: get(b"Expect: miracles", line=b"GET /417 HTTP/1.1"),
    421: get(line=b"GET https://kit/421 HTTP/1.1"),
    431: b"GET /431 HTTP/1.1\r\nA: " + b"b" * 9000,
    501: get(line=b"FROB /501 HTTP/1.1"),
    505: get(line=b"GET /505 HTTP/1.2"),
}


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker for all."""
    with worker(request.param) as master:
        yield master


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_can_be_read_by_who_goes_on_sending(server: Master, status: int) -> None:
    """RFC 9112 9.6: closing at once would make a reset of it, which destroys the answer."""
    with Wire(server.connect()) as wire:
        wire.send(REFUSED[status] + FLOOD)
        assert refusal(wire).status == status


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_has_its_line_in_the_access_log(server: Master, status: int) -> None:
    """With as much of the request line as there was."""
    before = len(server.access())
    with Wire(server.connect()) as wire:
        wire.send(REFUSED[status])
        refusal(wire)
    line = server.wait_access(before + 1)[-1]
    assert f'" {status} ' in line
    assert f"/{status}" in line


def test_a_flood_of_garbage_is_no_flood_of_lines(server: Master) -> None:
    """CVE-2025-47287: every one of them is in the access log, and the error log counts."""
    mark, before, count = server.mark(), len(server.access()), 200
    for _ in range(count):
        with Wire(server.connect()) as wire:
            wire.send(b"\x16\x03\x01\x02\0")
            assert refusal(wire).status == 400
    server.wait_access(before + count)
    assert server.log(mark).count("Refused a request") < count / 2


def test_who_keeps_a_connection_busy_keeps_nobody_else_waiting(server: Master) -> None:
    """CVE-2019-16770, CVE-2021-29509: of a pipeline that is never read, there is always more."""
    large = get(b"A: " + b"a" * 4000)
    with Wire(server.connect()) as busy:
        busy.sock.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < 1 << 30:
                sent += busy.sock.send(large * 10)
        with Wire(server.connect()) as wire:
            wire.send(get(b"Connection: close", line=b"GET /fresh HTTP/1.1"))
            check(final(wire), Seen("/fresh"))


def test_idle_connections_keep_nobody_out(server: Master) -> None:
    """CVE-2019-16770: nor do those that have sent half a head, or half a body."""
    starts = (b"", b"GET / HTTP/1.1\r\nHost:", post(b"Content-Length: 9", body=b"12345"), get())
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.connect())) for _ in range(200)]
        for number, wire in enumerate(wires):
            wire.send(starts[number % len(starts)])
        fresh = stack.enter_context(Wire(server.connect()))
        fresh.send(get(b"Connection: close", line=b"GET /fresh HTTP/1.1"))
        check(final(fresh), Seen("/fresh"))


HALF = b"a" * (limits.BODY // 2 + 1)
MESSAGES = {
    "one frame": websocket_frame(2, HALF * 2),
    "two fragments": websocket_frame(2, HALF, fin=False) + websocket_frame(0, HALF),
    "fragments without end": websocket_frame(1, b"a" * 100, fin=False)
    + websocket_frame(0, b"a" * 100, fin=False) * 2000,
    # RFC 6455 5.2: a length of 64 bits, here of a tebibyte, and a mask.
    "a frame without end": b"\x82\xff\x00\x00\x01\x00\x00\x00\x00\x00abcd" + HALF * 2,
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_without_end_ends_its_websocket(server: Master, kind: str) -> None:
    """CVE-2021-21419, CVE-2026-44545, uvicorn #306: counted while it comes in, 1009."""
    with WebSocketWire(server.connect()) as ws:
        assert ws.connect("/listen").status == 101
        ws.send_raw(MESSAGES[kind])
        assert ws.recv_close()[0] == 1009


def test_what_a_message_inflates_to_is_what_counts(server: Master) -> None:
    """CVE-2026-44545, RFC 7692: a kilobyte on the wire that would be a megabyte."""
    bomb = zlib.compressobj(wbits=-12)
    data = bomb.compress(bytes(1_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    with WebSocketWire(server.connect()) as ws:
        response = ws.connect("/listen", deflate=True)
        assert b"permessage-deflate" in (response.header("sec-websocket-extensions") or b"")
        frame = bytearray(websocket_frame(2, data[:-4]))
        frame[0] |= 0x40
        ws.send_raw(bytes(frame))
        assert ws.recv_close()[0] == 1009
