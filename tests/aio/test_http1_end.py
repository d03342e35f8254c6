"""aio/http1.py: requests that are none, deadlines, and how a connection ends."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from kit.message import WireError, chunked
from kit.rig import (
    Client,
    Receive,
    Rig,
    Scope,
    Send,
    body,
    both_loops,
    read_all,
    request,
    respond,
    scripted,
    start,
    turns,
    until,
)

__all__: list[str] = []

CHUNKED = request("POST", "/chunked", {"Transfer-Encoding": "chunked"})
HALF = CHUNKED + chunked(b"half", last=False)
BROKEN = b"ZZ\r\n"

MALFORMED = [
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET ftp://host/ HTTP/1.1\r\nHost: host\r\n\r\n", 400),
    (request("POST", "ftp://host/", body=b"body"), 400),
    (request("GET", "/", {"Expect": "miracles"}), 417),
    (request("GET", "/" + "x" * 5000), 414),
    (request("GET", "/", {"X-Long": "x" * 9000}), 431),
]


def ended(client: Client) -> bool:
    """Whether the server has said that it sends no more."""
    return client.ended or client.transport.eof_written


# -- malformed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "status"), MALFORMED, ids=[repr(d[:40]) for d, _ in MALFORMED])
@pytest.mark.parametrize("bytewise", [False, True])
@both_loops
async def test_malformed_request_is_answered_and_logged(
    bytewise: bool, data: bytes, status: int
) -> None:
    """RFC 9112 section 2.2 and others: an answer, and the end."""
    rig = Rig()
    client = rig.connect()
    for piece in [bytes([byte]) for byte in data] if bytewise else [data]:
        client.send(piece)
    await until(lambda: ended(client))
    (response,) = client.responses()
    assert (response.status, response.keeps_alive) == (status, False)
    (line,) = rig.complaints
    assert line.startswith(f"Refused a request from 192.0.2.1:50000 with {status}: ")
    assert not rig.state.tasks
    client.get("/late")
    await turns()
    assert len(client.responses()) == 1


@both_loops
async def test_refusal_on_a_unix_socket_names_it() -> None:
    """There is no address to log."""
    rig = Rig()
    rig.connect(unix="/run/app.sock").send(b"nonsense\r\n\r\n")
    (line,) = rig.complaints
    assert line.startswith("Refused a request from unix socket with 400: ")


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("data", "status"), MALFORMED, ids=[repr(d[:40]) for d, _ in MALFORMED])
@both_loops
async def test_requests_before_a_malformed_one_are_answered_first(
    data: bytes, status: int, together: bool
) -> None:
    """RFC 9112 section 9.3.2: in order; then the 4xx, then the end."""
    good = request("GET", "/1") + request("POST", "/2", body=b"body")
    rig, client, app = await scripted(good + data if together else good)
    if not together:
        client.send(data)
    for number in (1, 2):
        await until(lambda number=number: app.scope["path"] == f"/{number}")  # type: ignore[misc]
        assert b" %d " % status not in client.received
        await app.respond(b"%d" % number)
    await until(lambda: ended(client))
    assert [response.status for response in client.responses()] == [200, 200, status]
    assert len(rig.complaints) == 1


@pytest.mark.parametrize("together", [False, True])
@both_loops
async def test_body_that_turns_out_malformed_is_answered_with_400(together: bool) -> None:
    """Nothing had been sent: the client learns what was wrong, the application never gets it."""
    got: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await read_all(receive))
        await respond(send)

    rig = Rig(app)
    client = rig.connect()
    client.send(HALF + BROKEN if together else HALF)
    if not together:
        await turns()
        client.send(BROKEN)
    await until(lambda: ended(client) and not rig.state.tasks)
    assert [response.status for response in client.responses()] == [400]
    assert got == [None]
    assert [record.status for record in rig.records] == [400]
    assert rig.log.lines("error") == []


@both_loops
async def test_body_that_turns_out_malformed_cuts_a_begun_response_off() -> None:
    """Its end must not look like an end."""
    rig, client, app = await scripted(HALF)
    await app.send(start())
    await app.send(body(b"begun", True))
    await turns()
    client.send(BROKEN)
    await until(lambda: client.ended)
    with pytest.raises(WireError):
        client.responses()
    assert client.received.count(b"HTTP/1.1 ") == 1
    assert await app.receive() == {"type": "http.disconnect"}
    assert len(rig.complaints) == 1


@both_loops
async def test_body_that_turns_out_malformed_behind_its_answer_ends_the_connection() -> None:
    """What was to be discarded cannot even be told from the next request."""
    rig, client, app = await scripted(HALF)
    await app.respond()
    await client.response()
    client.send(BROKEN + request())
    await until(lambda: ended(client))
    assert [response.status for response in client.responses()] == [200]
    assert rig.counted == 1


@both_loops
async def test_malformed_body_of_a_waiting_request_is_refused_in_its_turn() -> None:
    """It was never begun, so the application never sees it."""
    rig, client, app = await scripted(request("GET", "/1") + HALF + BROKEN)
    await app.respond(b"1")
    await until(lambda: ended(client))
    assert [response.status for response in client.responses()] == [200, 400]
    assert rig.counted == 1


@both_loops
async def test_malformed_body_of_the_last_request_is_judged() -> None:
    """Connection: close ends what follows it, not itself."""
    last = {"Connection": "close", "Transfer-Encoding": "chunked"}
    _, client, app = await scripted(request("POST", "/", last) + BROKEN)
    assert await app.receive() == {"type": "http.disconnect"}
    assert [response.status for response in client.responses()] == [400]


@both_loops
async def test_fault_of_the_application_ends_before_a_malformed_request_is_answered() -> None:
    """After a 500 nothing more is promised, a 400 neither."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError

    client = Rig(app).connect()
    client.send(request() + b"nonsense\r\n\r\n")
    await until(lambda: ended(client))
    await turns()
    assert [response.status for response in client.responses()] == [500]


# -- lingering -------------------------------------------------------------------------------------


async def refused(**limits: Any) -> tuple[Rig, Client]:
    """Make a connection that has given its last answer."""
    rig = Rig(**limits)
    client = rig.connect()
    client.send(b"nonsense\r\n\r\n")
    await until(lambda: client.transport.eof_written)
    return rig, client


@both_loops
async def test_lingering_connection_reads_on_and_closes_when_the_client_does() -> None:
    """RFC 9112 section 9.6: half-close, read, close; unread bytes would mean a reset."""
    rig, client = await refused()
    for _ in range(10):
        client.send(b"x" * 100_000)
    assert client.transport.inbound == b""
    assert not client.ended
    client.eof()
    await until(lambda: client.ended)
    assert client.transport.unread_at_end == b""
    assert not client.transport.aborted
    assert not rig.state.connections


@both_loops
async def test_lingering_connection_closes_at_its_deadline() -> None:
    """Limits.linger: nobody lingers for ever."""
    rig, client = await refused(linger=5.0)
    rig.clock.advance(4.9)
    await turns()
    assert not client.ended
    rig.clock.advance(0.5)
    await until(lambda: client.ended)


@both_loops
async def test_lingering_over_tls_does_without_a_half_close() -> None:
    """TLS transports have no write_eof; the deadline ends it."""
    rig = Rig(linger=5.0)
    client = rig.connect(extra={"sslcontext": object()})
    client.send(b"nonsense\r\n\r\n")
    await until(lambda: client.received)
    assert not client.transport.eof_written
    client.send(b"x" * 100_000)
    assert not client.ended
    rig.clock.advance(5.5)
    await until(lambda: client.ended)


@both_loops
async def test_lingering_reads_what_was_held_back() -> None:
    """Reading was paused for two reasons: both are over."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await turns()
        raise ValueError

    client = Rig(app, read_buffer=1000).connect()
    client.transport.chunk = 2000
    client.send(request("POST", body=b"x" * 100_000) + request() * 3)
    await until(lambda: client.transport.eof_written and not client.transport.inbound)
    client.eof()
    await until(lambda: client.ended)
    assert client.transport.unread_at_end == b""


@both_loops
async def test_connection_that_is_closing_is_not_half_closed() -> None:
    """write_eof on a closing transport is an error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        client.transport.close()
        raise ValueError

    client = Rig(app).connect()
    client.get()
    await until(lambda: client.ended)
    assert not client.transport.eof_written
    assert client.received == b""


@both_loops
async def test_lingering_again_does_not_prolong_it() -> None:
    """Idempotent: the deadline stays."""
    rig, client = await refused(linger=5.0)
    rig.clock.advance(3.0)
    client.http.linger()
    rig.clock.advance(2.5)
    await until(lambda: client.ended)


@both_loops
async def test_discard_lingers_in_the_middle_of_what_came_in_together() -> None:
    """Limits.discard_body: the next request in the same packet is neither begun nor answered."""
    head = {"Transfer-Encoding": "chunked"}
    rig, client, app = await scripted(request("POST", headers=head), discard_body=1000)
    await app.respond()
    await client.response()
    client.send(chunked(b"x" * 600, b"x" * 600, b"x" * 600) + request("GET", "/next"))
    await until(lambda: client.transport.eof_written)
    await turns()
    assert rig.counted == 1
    assert client.transport.is_reading()
    rig.clock.advance(2.5)  # not Limits.keep_alive
    await turns()
    assert not client.ended
    rig.clock.advance(3.0)  # but Limits.linger
    await until(lambda: client.ended)


class FakeSocket:
    """Remembers its options."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, bytes]] = []

    def setsockopt(self, *option: Any) -> None:
        """Remember."""
        self.options.append(option)


@pytest.mark.parametrize("has_socket", [False, True])
@both_loops
async def test_http_1_0_response_that_is_cut_off_is_reset(has_socket: bool) -> None:
    """The end of the connection is the end of its body, so it has to be another end."""
    sock = FakeSocket() if has_socket else None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"begun", True))
        raise ValueError

    client = Rig(app).connect(extra={"socket": sock})
    client.get(version="1.0")
    await until(lambda: client.ended)
    assert client.transport.aborted
    if sock is not None:
        linger = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert sock.options == [linger]


# -- deadlines -------------------------------------------------------------------------------------


@both_loops
async def test_idle_connection_closes_silently_after_keepalive() -> None:
    """Gunicorn's setting keepalive; a request meanwhile starts it anew."""
    rig = Rig(keep_alive=2.0)
    client = rig.connect()
    for number in (1, 2):
        client.get()
        await client.response(number)
        rig.clock.advance(1.9)
        await turns()
        assert not client.ended
    rig.clock.advance(0.5)
    await until(lambda: client.ended)
    assert len(client.responses()) == 2
    assert rig.complaints == []


@both_loops
async def test_connection_that_says_nothing_closes_silently() -> None:
    """Limits.request_head, from the accept: there is no request to answer."""
    rig = Rig(request_head=30.0)
    client = rig.connect()
    rig.clock.advance(29.9)
    await turns()
    assert not client.ended
    rig.clock.advance(0.5)
    await until(lambda: client.ended)
    assert client.received == b""
    assert rig.complaints == []


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("partial", [b"GET /sl", request()[:-2]])
@both_loops
async def test_head_that_does_not_end_is_answered_with_408(partial: bytes, before: int) -> None:
    """RFC 9110 section 15.5.9; Limits.request_head, and dribbling does not prolong it."""
    rig = Rig(request_head=30.0, keep_alive=2.0)
    client = rig.connect()
    if before:
        client.get()
        await client.response()
    client.send(partial)
    for _ in range(9):
        rig.clock.advance(3.2)
        await turns(3)
        assert not ended(client)
        client.send(b"" if partial[-1:] == b"l" else b"X")
    rig.clock.advance(1.5)
    await until(lambda: ended(client))
    assert client.responses()[-1].status == 408


@both_loops
async def test_partial_head_behind_a_request_has_its_own_time() -> None:
    """It is not idle: Limits.request_head and not keepalive is its clock."""
    rig, client, app = await scripted(request("GET", "/1"))
    client.send(b"GET /2 HT")
    await app.respond()
    await client.response()
    rig.clock.advance(10)
    await turns()
    assert not client.ended
    client.send(b"TP/1.1\r\nHost: kit\r\n\r\n")
    await until(lambda: app.scope["path"] == "/2")


@both_loops
async def test_no_deadline_runs_while_the_application_works() -> None:
    """A slow answer is the application's matter, and the client's."""
    rig, client, app = await scripted(request())
    rig.clock.advance(3600)
    await turns()
    assert not client.ended
    await app.respond()
    assert (await client.response()).status == 200


@both_loops
async def test_body_that_is_to_be_discarded_has_a_deadline() -> None:
    """The application has answered; nobody waits for the rest for ever."""
    rig, client, app = await scripted(
        request("POST", headers={"Content-Length": "9"}), request_head=30.0
    )
    await app.respond()
    await client.response()
    rig.clock.advance(29)
    await turns()
    assert not client.transport.eof_written
    rig.clock.advance(1.5)
    await until(lambda: client.transport.eof_written)
    assert len(client.responses()) == 1


@both_loops
async def test_body_discarded_in_time_starts_the_keepalive() -> None:
    """The end of the body and not of the answer is the end of the request."""
    rig, client, app = await scripted(request("POST", headers={"Content-Length": "3"}))
    await app.respond()
    await client.response()
    rig.clock.advance(10)
    client.send(b"abc")
    rig.clock.advance(1.9)
    await turns()
    assert not ended(client)
    rig.clock.advance(0.5)
    await until(lambda: client.ended)


@both_loops
async def test_keepalive_0_closes_after_each_answer() -> None:
    """Gunicorn's setting keepalive: 0 promises nothing."""
    client = Rig(keep_alive=0.0).connect()
    client.get()
    response = await client.response()
    assert not response.keeps_alive
    assert client.transport.eof_written


@both_loops
async def test_head_only_costs_its_deadline_once() -> None:
    """A lost connection is no longer watched."""
    rig = Rig()
    client = rig.connect()
    client.leave()
    assert client.http.deadline == 0.0
    rig.clock.advance(60)
    assert rig.clock.pending == 0
