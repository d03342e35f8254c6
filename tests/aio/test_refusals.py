"""aio/http1.py: what is told of requests that were refused, in the access log and in the other."""

from __future__ import annotations

import pytest

from gunicorn_asgi.protocol.accesslog import RequestView, ResponseView, environ_of
from kit.rig import Client, Rig, Script, both_loops, request, turns, until

__all__: list[str] = []

FORGED = b'GET /\r\n[2026-01-01] "forged\x1b[2J\x9b31m\xff\n'

# What comes in, the status, and what the access log is told: method, target, version.
REFUSED = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, ("-", "-", "1.1")),
    "garbage with spaces": (b"\x00\x01 \x02 \x03", 400, ("-", "\x02", "1.1")),
    "no Host": (b"GET /a?b HTTP/1.1\r\n\r\n", 400, ("GET", "/a?b", "1.1")),
    "no Host in pieces": (b"POST /a HTTP/1.0\r\nA : b\r\n\r\n", 400, ("POST", "/a", "1.0")),
    "a long line": (request("GET", "/" + "x" * 5000), 414, ("GET", "/" + "x" * 5000, "1.1")),
    "a version": (b"GET /2 HTTP/2.0\r\n\r\n", 505, ("GET", "/2", "1.1")),
    "a method": (b"FROB / HTTP/1.1\r\nHost: h\r\n\r\n", 501, ("FROB", "/", "1.1")),
    "a large body": (
        request("POST", "/up", {"Content-Length": "1001"}),
        413,
        ("POST", "/up", "1.1"),
    ),
    "a target": (request("GET", "ftp://h/"), 400, ("GET", "ftp://h/", "1.1")),
    "forged": (FORGED, 400, ("GET", "/", "1.1")),
}


def refused(client: Client) -> bool:
    """Whether the last answer was given."""
    return client.transport.eof_written


@pytest.mark.parametrize("name", REFUSED)
@both_loops
async def test_refused_request_is_in_the_access_log(name: str) -> None:
    """One record, with what is known of it; "-" stands for what is not."""
    data, status, expected = REFUSED[name]
    rig = Rig(request_body=1000)
    client = rig.connect()
    client.send(data)
    await until(lambda: refused(client))
    (record,) = rig.records
    assert record.status == status
    assert (record.head.method, record.head.target.decode(), record.head.version) == expected
    assert record.scope["client"] == ("192.0.2.1", 50000)
    # What Gunicorn's logger makes of it must be there too.
    assert RequestView(record.head, record.scope).remote_addr == ("192.0.2.1", 50000)
    assert ResponseView(record).status_code == status
    assert environ_of(record.head, record.scope)["REQUEST_METHOD"] == expected[0]
    assert rig.counted == (name == "a target")


@both_loops
async def test_request_that_takes_too_long_is_in_the_access_log() -> None:
    """408, for a head that does not end and for a body."""
    rig = Rig(Script(), request_head=10.0, body=10.0)
    head, body = rig.connect(), rig.connect()
    head.send(b"GET /slow HT")
    body.send(request("POST", "/up", {"Content-Length": "9"}))
    await turns()
    rig.clock.advance(10.25)
    await until(lambda: refused(head) and refused(body))
    told = {(each.status, each.head.method, each.head.target) for each in rig.records}
    assert told == {(408, "GET", b"/slow"), (408, "POST", b"/up")}
    assert any("b'GET /slow HT'" in line for line in rig.complaints)


@both_loops
async def test_refusal_without_access_log_costs_nothing() -> None:
    """And fails in nothing."""
    rig = Rig()
    rig.state.on_complete = None
    client = rig.connect()
    client.send(b"nonsense\r\n\r\n")
    await until(lambda: refused(client))
    assert rig.records == []


@pytest.mark.parametrize("name", REFUSED)
@both_loops
async def test_refused_request_is_one_line_in_the_log(name: str) -> None:
    """CWE-117: whatever it quotes of the peer is escaped, and short."""
    data, status, _ = REFUSED[name]
    rig = Rig(request_body=1000)
    client = rig.connect()
    client.send(data)
    await until(lambda: refused(client))
    (line,) = rig.complaints
    assert line.startswith(f"Refused a request from 192.0.2.1:50000 with {status}: ")
    assert line.isprintable()
    assert line.isascii()
    assert len(line) < 400


@both_loops
async def test_flood_of_refusals_does_not_flood_the_log() -> None:
    """CVE-2025-47287; the access log has them all, which is the operator's wish."""
    rig = Rig()
    for _ in range(200):
        client = rig.connect()
        client.send(b"nonsense\r\n\r\n")
        await turns(2)
    assert len(rig.records) == 200
    assert len(rig.complaints) == 20
    rig.clock.advance(0.5)
    rig.connect().send(b"nonsense\r\n\r\n")
    assert "(180 such lines before it were left out)" in rig.complaints[-1]
