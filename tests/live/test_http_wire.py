"""HTTP/1.1 to the byte, against a real worker."""

from __future__ import annotations

import hashlib
import re
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.master import Master, wait_until
from kit.wire import Response, Wire, chunked, request

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(__file__).parent / "apps" / "wire.py"
# What asyncio says about an error that nobody has taken care of.
UNCARED = re.compile(r"never retrieved|never awaited|Exception in callback|Fatal error")


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker on each loop."""
    env = {"GUNICORN_ASGI_LOOP": request.param}
    args = ("--keep-alive", "10", "--limit-request-line", "2000")
    with Master("app:app", *args, files={"app.py": APP.read_text()}, env=env) as master:
        yield master
        assert not UNCARED.search(master.log()), master.log()[-4000:]


@pytest.fixture
def wire(server: Master) -> Iterator[Wire]:
    """One connection."""
    with Wire(server.connect()) as opened:
        yield opened


def ask(server: Master, path: str) -> Response:
    with Wire(server.connect()) as wire:
        return wire.request("GET", path)


def event(server: Master, name: str, state: str) -> dict[str, Any]:
    """What the application has recorded under that name, once it is in that state."""

    def there() -> dict[str, Any] | None:
        found: dict[str, Any] = ask(server, f"/events?name={name}").json()
        return found if found.get("state") == state else None

    found = wait_until(there, 5, f"{name} to be {state}")
    assert found is not None
    return found


# Connections (RFC 9112, 9)


def test_a_connection_is_kept_for_the_next_request(wire: Wire) -> None:
    """RFC 9112, 9.3."""
    for number in range(20):
        response = wire.request("POST", "/echo", body=b"%d" % number)
        assert response.body == b"%d" % number
        assert response.keeps_alive
        assert response.header("connection") is None


@pytest.mark.parametrize("path", ["/echo", "/pieces", "/status?status=204"])
def test_a_client_that_says_close_is_told_so_and_gets_it(wire: Wire, path: str) -> None:
    """RFC 9112, 9.6."""
    response = wire.request("GET", path, {"Connection": "close"})
    assert response.header("connection") == b"close"
    wire.recv_eof()


def test_an_application_can_close(wire: Wire) -> None:
    response = wire.request("GET", "/close")
    assert (response.body, response.header("connection")) == (b"bye", b"close")
    wire.recv_eof()


def test_what_follows_the_last_request_is_not_answered(wire: Wire) -> None:
    """RFC 9112, 9.6: a server that sent close must not process further requests."""
    wire.send(request("GET", "/echo", {"Connection": "close"}) + request("GET", "/pieces"))
    assert wire.recv_response().header("connection") == b"close"
    wire.recv_eof()


def test_fifty_pipelined_requests_are_answered_in_their_order(wire: Wire) -> None:
    """RFC 9112, 9.3.2; one segment, and the slow one holds up the others."""
    wanted: list[tuple[str, int, bytes]] = []
    sent = b""
    for number in range(10):
        body = b"%d" % number * 100
        sent += request("POST", "/echo", body=body)
        sent += request("HEAD", "/echo")
        sent += request("POST", "/echo", {"Transfer-Encoding": "chunked"}, chunked(body, b"more"))
        sent += request("GET", "/pieces")
        sent += request("GET", f"/status?status={204 if number % 2 else 304}")
        wanted += [("POST", 200, body), ("HEAD", 200, b""), ("POST", 200, body + b"more")]
        wanted += [("GET", 200, b"onetwothree"), ("GET", 204 if number % 2 else 304, b"")]
    assert len(wanted) == 50
    wire.send(sent)
    for method, status, body in wanted:
        response = wire.recv_response(head=method == "HEAD")
        assert (response.status, response.body) == (status, body)
    wire.assert_silent(0.05)


def test_pipelined_requests_cut_anywhere_are_answered_alike(server: Master) -> None:
    """TCP has no messages: the same bytes in segments of every small size."""
    data = request("POST", "/echo", body=b"first") + request("GET", "/pieces")
    data += request("POST", "/echo", {"Transfer-Encoding": "chunked"}, chunked(b"thi", b"rd"))
    for size in (1, 2, 3, 5, 7, 11, 50):
        with Wire(server.connect()) as wire:
            for start in range(0, len(data), size):
                wire.send(data[start : start + size])
            bodies = [wire.recv_response().body for _ in range(3)]
            assert bodies == [b"first", b"onetwothree", b"third"]


# Framing (RFC 9112, 6)


def test_a_streamed_response_is_chunked_and_an_empty_piece_does_not_end_it(wire: Wire) -> None:
    """RFC 9112, 7.1: a chunk of size 0 would be the last one."""
    response = wire.request("GET", "/pieces")
    assert response.framing == "chunked"
    assert response.chunks == [b"one", b"two", b"three"]


def test_a_content_length_of_the_application_is_kept(wire: Wire) -> None:
    response = wire.request("GET", "/pieces-of-known-length")
    assert (response.framing, response.body) == ("length", b"onetwothree")


def test_a_single_message_gets_its_content_length(wire: Wire) -> None:
    response = wire.request("POST", "/echo", body=b"12345")
    assert (response.header("content-length"), response.body) == (b"5", b"12345")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 300_000, 3_000_001])
def test_a_request_body_of_any_size_arrives_whole(wire: Wire, framing: str, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    if framing == "length":
        wire.send(request("POST", "/digest", {"Content-Length": str(size)}, body))
    else:
        parts = [body[start : start + 10_000] for start in range(0, size, 10_000)]
        wire.send(request("POST", "/digest", {"Transfer-Encoding": "chunked"}, chunked(*parts)))
    assert wire.recv_response().text == hashlib.sha256(body).hexdigest()
    assert wire.request("GET", "/echo").status == 200


def test_chunks_go_both_ways_at_the_same_time(wire: Wire) -> None:
    wire.send(request("POST", "/piecewise-echo", {"Transfer-Encoding": "chunked"}))
    wire.send(chunked(b"ping", last=False))
    assert wire.recv_head().framing == "chunked"
    assert wire.recv_chunk() == b"ping"
    for number in range(50):
        wire.send(chunked(b"%d" % number, last=False))
        assert wire.recv_chunk() == b"%d" % number
    wire.send(chunked())
    assert wire.recv_chunk() is None
    assert wire.request("POST", "/echo", body=b"next").body == b"next"


def test_chunk_extensions_and_trailers_of_a_request_are_dropped(wire: Wire) -> None:
    """RFC 9112, 7.1.1 and 7.1.2: not merged into the header section."""
    body = b"4;name=value\r\nbody\r\n0\r\nX-Trailer: evil\r\n\r\n"
    wire.send(request("POST", "/echo", {"Transfer-Encoding": "chunked"}, body))
    assert wire.recv_response().body == b"body"
    assert "x-trailer" not in wire.request("GET", "/scope").text


@pytest.mark.parametrize("path", ["/echo", "/pieces", "/pieces-of-known-length"])
def test_head_is_answered_without_a_body(wire: Wire, path: str) -> None:
    """RFC 9110, 9.3.2: whatever the application sends."""
    head = wire.request("HEAD", path)
    get = wire.request("GET", path)
    assert (head.status, head.body) == (200, b"")
    if path == "/pieces-of-known-length":
        assert head.header("content-length") == get.header("content-length") == b"11"


@pytest.mark.parametrize(("status", "length"), [(204, None), (304, None), (304, 17)])
def test_a_status_that_has_no_body_gets_none(wire: Wire, status: int, length: int | None) -> None:
    """RFC 9110, 6.4.1 and 8.6: no body, and no Content-Length with 204; 304 may tell one."""
    told = f"&length={length}" if length else ""
    response = wire.request("GET", f"/status?status={status}{told}&body=dropped")
    assert (response.status, response.body) == (status, b"")
    assert response.all("content-length") == ([b"17"] if length else [])
    assert wire.request("POST", "/echo", body=b"next").body == b"next"


def test_a_204_with_a_content_length_loses_it(wire: Wire) -> None:
    """RFC 9110, 8.6: a server must not send it; the kit's parser would refuse it."""
    assert wire.request("GET", "/status?status=204&length=0").status == 204
    assert wire.request("POST", "/echo", body=b"next").body == b"next"


def test_a_status_without_a_name_is_sent_without_one(wire: Wire) -> None:
    """RFC 9112, 4: the reason phrase may be empty, the space before it may not be missing."""
    response = wire.request("GET", "/status?status=299")
    assert (response.status, response.reason) == (299, b"")


# Expectations (RFC 9110, 10.1.1)

EXPECT = {"Expect": "100-continue", "Content-Length": "4"}


def test_100_is_sent_only_when_the_application_reads(server: Master, wire: Wire) -> None:
    wire.send(request("POST", "/reads-late", EXPECT))
    wire.assert_silent(0.2)
    assert ask(server, "/release?name=read").status == 200
    assert wire.recv_response().status == 100
    wire.send(b"body")
    response = wire.recv_response()
    assert (response.status, response.body) == (200, b"body")
    assert wire.request("POST", "/echo", body=b"next").body == b"next"


def test_a_body_that_does_not_wait_for_100_is_read_alike(wire: Wire) -> None:
    """RFC 9110, 10.1.1: the client may send it at any time; 100 may be omitted then."""
    response = wire.request("POST", "/digest", EXPECT, b"body")
    assert response.text == hashlib.sha256(b"body").hexdigest()
    assert wire.request("POST", "/echo", body=b"next").body == b"next"


def test_an_answer_that_does_not_wait_for_the_body_replaces_100(wire: Wire) -> None:
    """RFC 9110, 10.1.1: a final status; the body will not come, so the connection closes."""
    wire.send(request("POST", "/ignore", EXPECT))
    response = wire.recv_response()
    assert (response.status, response.body) == (200, b"ignored")
    assert response.header("connection") == b"close"
    wire.recv_eof()


def test_no_100_behind_the_start_of_a_response(wire: Wire) -> None:
    wire.send(request("POST", "/starts-then-reads", EXPECT))
    response = wire.recv_head()
    assert response.status == 200
    assert wire.recv_chunk() == b"begun "
    wire.send(b"body")
    assert wire.recv_chunk() == b"body"
    assert wire.recv_chunk() is None


def test_an_unknown_expectation_fails(wire: Wire) -> None:
    """RFC 9110, 10.1.1: 417."""
    assert wire.request("POST", "/echo", {"Expect": "miracles"}, b"body").status == 417


# HTTP/1.0 (RFC 9112, 9.3; RFC 9110, 2.5)


def test_http_1_0_is_answered_in_its_own_version_and_closed(wire: Wire) -> None:
    response = wire.request("POST", "/echo", body=b"body", version="1.0")
    assert (response.version, response.body) == ("1.0", b"body")
    assert not response.keeps_alive
    wire.recv_eof()


def test_http_1_0_gets_no_chunks(wire: Wire) -> None:
    """RFC 9112, 6.1: the end of the connection is the end of the body."""
    response = wire.request("GET", "/pieces", version="1.0")
    assert (response.framing, response.body) == ("close", b"onetwothree")
    assert response.all("transfer-encoding") == []


def test_http_1_0_gets_no_100(wire: Wire) -> None:
    """RFC 9110, 10.1.1: must ignore the expectation."""
    wire.send(request("POST", "/echo", EXPECT, version="1.0"))
    wire.assert_silent(0.1)
    wire.send(b"body")
    response = wire.recv_response()
    assert (response.status, response.body) == (200, b"body")


def test_http_1_0_is_kept_alive_when_it_asks_for_it(wire: Wire) -> None:
    for number in range(3):
        body = b"%d" % number
        response = wire.request("POST", "/echo", {"Connection": "keep-alive"}, body, "1.0")
        assert (response.body, response.header("connection")) == (body, b"keep-alive")
    response = wire.request("GET", "/pieces", {"Connection": "keep-alive"}, version="1.0")
    assert (response.framing, response.header("connection")) == ("close", b"close")


# The scope (ASGI, "HTTP Connection Scope"; RFC 9112, 3.2)

TARGETS = [
    ("/a/b?c=d", "/a/b", "/a/b", "c=d"),
    ("/caf%C3%A9/%2F%20x", "/café//\x20x", "/caf%C3%A9/%2F%20x", ""),
    ("/%ff", "/\ufffd", "/%ff", ""),
    ("/100%", "/100%", "/100%", ""),
    ("/a?x=%41&y=%zz", "/a", "/a", "x=%41&y=%zz"),
    ("/a?", "/a", "/a", ""),
    ("//double//slash", "//double//slash", "//double//slash", ""),
    ("http://elsewhere:81/abs%20olute?q=1", "/abs olute", "/abs%20olute", "q=1"),
    ("http://elsewhere", "/", "/", ""),
    ("/a;b=c/../d", "/a;b=c/../d", "/a;b=c/../d", ""),
]


@pytest.mark.parametrize(("target", "path", "raw_path", "query_string"), TARGETS)
def test_a_target_in_the_scope(
    wire: Wire, target: str, path: str, raw_path: str, query_string: str
) -> None:
    scope = wire.request("GET", target).json()
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
        path,
        raw_path,
        query_string,
    )


def test_the_asterisk_form(wire: Wire) -> None:
    """RFC 9112, 3.2.4."""
    scope = wire.request("OPTIONS", "*").json()
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("OPTIONS", "*", "*")


def test_the_scope_tells_what_came_in(server: Master, wire: Wire) -> None:
    fields = [("X-A", "1"), ("x-b", "two"), ("X-A", "3"), ("X-Empty", "")]
    scope = wire.request("PATCH", "/", fields).json()
    assert scope["headers"] == [
        ["host", "kit"],
        ["x-a", "1"],
        ["x-b", "two"],
        ["x-a", "3"],
        ["x-empty", ""],
    ]
    assert scope["type"] == "http"
    assert scope["method"] == "PATCH"
    assert scope["http_version"] == "1.1"
    assert scope["scheme"] == "http"
    assert scope["root_path"] == ""
    assert scope["client"] == list(wire.sock.getsockname())
    assert scope["server"] == ["127.0.0.1", server.port]
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert "tls" not in scope["extensions"]


def test_every_request_gets_a_fresh_context(wire: Wire) -> None:
    """PEP 567: what one request sets, the next on the same connection does not see."""
    assert [wire.request("GET", "/context").body for _ in range(3)] == [b"fresh"] * 3
    wire.send(request("GET", "/context") * 5)
    assert [wire.recv_response().body for _ in range(5)] == [b"fresh"] * 5


# Fields of the response


def test_date_and_server_are_added(wire: Wire) -> None:
    """RFC 9110, 6.6.1 and 10.2.4."""
    response = wire.request("GET", "/echo")
    date = (response.header("date") or b"").decode()
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert parsedate_to_datetime(date).year >= 2024
    assert response.header("server") == b"gunicorn_asgi"


def test_those_of_the_application_win_and_duplicates_are_kept(wire: Wire) -> None:
    response = wire.request("GET", "/own")
    assert response.header("date") == b"Thu, 01 Jan 1970 00:00:00 GMT"
    assert response.header("server") == b"mine"
    assert response.all("set-cookie") == [b"a=1", b""]


# Clients that leave (ASGI 2.4)


@pytest.mark.parametrize("end", ["close", "abort", "shutdown_write"])
def test_disconnect_is_delivered_and_send_raises(server: Master, wire: Wire, end: str) -> None:
    """ASGI, "Disconnect": receive() tells, send() then raises a subclass of OSError."""
    name = f"gone-{end}"
    wire.send(request("POST", f"/disconnected?name={name}", body=b"body"))
    event(server, name, "waiting")
    getattr(wire, end)()
    told = event(server, name, "told")
    assert told["message"] == {"type": "http.disconnect"}
    assert "OSError" in told["raised"]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_stream_nobody_reads_ends_with_an_oserror(server: Master, wire: Wire, end: str) -> None:
    name = f"stream-{end}"
    wire.send(request("GET", f"/streams?name={name}"))
    assert wire.recv_head().status == 200
    assert wire.recv_chunk() == b"tick"
    getattr(wire, end)()
    assert "OSError" in event(server, name, "raised")["raised"]


def test_a_request_that_is_cut_is_never_taken_for_complete(server: Master, wire: Wire) -> None:
    """ASGI, "Request": disconnect, and not more_body False."""
    wire.send(request("POST", "/disconnected?name=cut", {"Content-Length": "10"}, b"half"))
    event(server, "cut", "waiting")
    wire.close()
    event(server, "cut", "cut")


def test_receive_after_the_response_is_a_disconnect_although_the_client_stays(
    server: Master, wire: Wire
) -> None:
    """ASGI, "Disconnect": also after the response has been sent."""
    assert wire.request("GET", "/after?name=after").body == b"done"
    assert event(server, "after", "told")["message"] == {"type": "http.disconnect"}
    assert wire.request("POST", "/echo", body=b"next").body == b"next"


# Answers before the request is complete (RFC 9112, 9.6)


def test_a_small_unread_body_does_not_cost_the_connection(wire: Wire) -> None:
    wire.send(request("POST", "/ignore", body=b"x" * 100_000))
    assert wire.recv_response().body == b"ignored"
    assert wire.request("POST", "/echo", body=b"next").body == b"next"


def test_an_early_answer_to_a_large_upload_can_be_read(server: Master) -> None:
    """RFC 9112, 9.6: lingering close; a reset would destroy the answer."""
    block = b"x" * 65536
    for _ in range(20):
        with Wire(server.connect()) as wire:
            wire.send(request("POST", "/reject", {"Content-Length": str(100 * 65536)}))
            for _ in range(40):
                wire.send(block)
            response = wire.recv_response()
            assert (response.status, response.body) == (413, b"too large " * 2000)
