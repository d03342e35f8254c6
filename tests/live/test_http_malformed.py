"""Requests that are none (RFC 9112, 3 and 5 and 6), against a real worker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.master import Master
from kit.wire import Wire, WireError, chunked, request

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(__file__).parent / "apps" / "wire.py"


@pytest.fixture(scope="module")
def server() -> Iterator[Master]:
    """One worker, which knows who is to blame: nothing of this is an error of ours."""
    args = ("--limit-request-line", "2000")
    with Master("app:app", *args, files={"app.py": APP.read_text()}) as master:
        yield master
        assert not re.search(r"\[ERROR\]|Traceback", master.log()), master.log()[-4000:]


@pytest.fixture
def wire(server: Master) -> Iterator[Wire]:
    """One connection."""
    with Wire(server.connect()) as opened:
        yield opened


HOST = b"Host: kit\r\n"
MALFORMED = {
    "nonsense": (b"nonsense\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50, 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "http 2": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "h2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : kit\r\n\r\n", 400),
    "folded": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: kit\n\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400),
    "escape in the target": (b"GET /\x1b[31m HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "length and chunks": (
        b"POST /echo HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
        400,
    ),
    "length with a sign": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: +4\r\n\r\nbody",
        400,
    ),
    "unknown coding": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    "chunks in 1.0": (
        b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunk size no number": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
    ),
    "line too long": (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "field too long": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 9000 + b"\r\n\r\n",
        431,
    ),
    "too many fields": (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 101 + b"\r\n", 431),
    "connect": (b"CONNECT kit:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused_and_nothing_behind_it_is_believed(
    wire: Wire, case: str
) -> None:
    """RFC 9112, 2.2, 5.1, 6.1 and 6.3; RFC 9110, 15.5 and 15.6: answer, then close."""
    data, status = MALFORMED[case]
    wire.send(data + request("GET", "/pieces"))
    response = wire.recv_response()
    assert response.status == status
    assert not response.keeps_alive
    wire.recv_eof()


@pytest.mark.parametrize("case", MALFORMED)
def test_what_was_asked_before_a_malformed_request_is_answered_first(wire: Wire, case: str) -> None:
    data, _ = MALFORMED[case]
    wire.send(request("POST", "/echo", body=b"good") + data)
    assert wire.recv_response().body == b"good"
    assert wire.recv_response().status >= 400
    wire.recv_eof()


def test_a_broken_chunk_amid_a_response_cuts_it(wire: Wire) -> None:
    wire.send(request("POST", "/piecewise-echo", {"Transfer-Encoding": "chunked"}))
    wire.send(chunked(b"ping", last=False))
    assert wire.recv_head().status == 200
    assert wire.recv_chunk() == b"ping"
    wire.send(b"xyz\r\n")
    with pytest.raises(WireError, match="instead of"):
        wire.recv_chunk()
