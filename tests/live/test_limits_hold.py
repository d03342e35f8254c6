"""Limits and clocks that an operator sets, over the wire: bodies, overload, requests that take too
long, clients that leave unseen, and places for those who come late (docs, "Limits", "Timeouts").
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from kit.master import Master, wait_until
from kit.wire import WebSocketWire, Wire, WireError, chunked, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APP = """
import asyncio, json
TOLD = {"deaf": 0, "cancelled": 0, "cut": 0}

async def respond(send, body=b"ok"):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

async def deaf():
    TOLD["deaf"] += 1
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        TOLD["cancelled"] += 1
        raise

async def endless(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.Event().wait()

async def read(receive):
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            TOLD["cut"] += 1
            return None
        size += len(message["body"])
        more = message["more_body"]
    return size

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    assert scope["type"] == "http"
    if scope["path"] == "/deaf":
        await deaf()
    elif scope["path"] == "/endless":
        await endless(send)
    elif scope["path"] == "/told":
        await respond(send, json.dumps(TOLD).encode())
    else:
        size = await read(receive)
        if size is not None:
            await respond(send, str(size).encode())
"""
LIMIT = 310_000
SHED = 3


def master(config: str, **options: Any) -> Master:
    return Master("app:app", config=config, files={"app.py": APP}, **options)


@pytest.fixture(scope="module")
def server() -> Iterator[Master]:
    """One worker for all that can be seen side by side."""
    config = f"""
asgi_limit_request_body = {LIMIT}
asgi_shed_requests = {SHED}
asgi_disconnect_grace_period = 0
keepalive = 30
"""
    with master(config, access_log=True) as m:
        yield m
        assert "Traceback" not in m.log(), m.log()[-4000:]


@pytest.fixture
def wire(server: Master) -> Iterator[Wire]:
    """One connection."""
    with Wire(server.connect()) as opened:
        yield opened


def told(server: Master) -> dict[str, int]:
    with Wire(server.connect()) as wire:
        answer: dict[str, int] = wire.request("GET", "/told").json()
    return answer


# Bodies


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(server: Master, wire: Wire) -> None:
    """asgi_limit_request_body, RFC 9110 15.5.14; the next request of this connection is none."""
    assert wire.request("POST", "/", body=b"x" * LIMIT).text == str(LIMIT)
    mark = server.mark()
    # Not a byte of it has to be sent, and no 100 is.
    fields = {"Content-Length": str(LIMIT + 1), "Expect": "100-continue"}
    wire.send(request("POST", "/", fields))
    response = wire.recv_response()
    assert (response.status, response.keeps_alive) == (413, False)
    wire.recv_eof()
    server.wait_log(r"Refused a request from \S+ with 413: ", after=mark)
    wait_until(lambda: any(" 413 " in line for line in server.access()), 10, "the access log")


def test_a_chunked_body_is_refused_at_the_chunk_that_is_too_much(
    server: Master, wire: Wire
) -> None:
    """And the application is told that it is cut off, never that it is complete."""
    head = request("POST", "/", {"Transfer-Encoding": "chunked"})
    wire.send(head + chunked(b"x" * LIMIT))
    assert wire.recv_response().text == str(LIMIT)
    before = told(server)["cut"]
    wire.send(head + chunked(b"x" * LIMIT, last=False) + b"1\r\n")
    assert wire.recv_response().status == 413
    wire.recv_eof()
    wait_until(lambda: told(server)["cut"] == before + 1, 10, "the application to be told")


# Overload


def test_what_is_too_much_is_shed_and_what_is_not_is_served(server: Master, wire: Wire) -> None:
    """asgi_shed_requests, RFC 9110 15.6.4 and 10.2.3; open WebSockets do not count."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(WebSocketWire(server.connect())) for _ in range(SHED + 2)]
        assert {ws.connect("/").status for ws in sockets} == {101}
        running = [stack.enter_context(Wire(server.connect())) for _ in range(SHED)]
        for each in running:
            each.send(request("POST", "/", {"Content-Length": "2", "Expect": "100-continue"}))
            assert each.recv_head().status == 100  # so the application runs
        for _ in range(2):
            response = wire.request("GET", "/")
            assert (response.status, response.header("retry-after")) == (503, b"1")
            assert response.keeps_alive
        late = stack.enter_context(WebSocketWire(server.connect()))
        assert late.connect("/").status == 503
        for each in running:
            each.send(b"ok")
            assert each.recv_response().text == "2"
        assert wire.request("GET", "/").text == "0"


# Clients that leave


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_leaves_while_nobody_reads_is_noticed(
    server: Master, how: str, record_property: Callable[[str, object], None]
) -> None:
    """It is looked for once a second; the bound is a generous one."""
    before = told(server)
    wire = Wire(server.connect())
    # More than a worker holds for an application, and less than what fits into the kernel too.
    wire.send(request("POST", "/deaf", {"Content-Length": str(LIMIT)}) + b"x" * 290_000)
    wait_until(lambda: told(server)["deaf"] > before["deaf"], 10, "the application")
    getattr(wire, how)()
    left = time.monotonic()
    wait_until(lambda: told(server)["cancelled"] > before["cancelled"], 10, "the end of it")
    record_property("noticed after (s)", time.monotonic() - left)


# Requests that take too long


def test_a_request_that_takes_too_long_is_answered_or_cut() -> None:
    """asgi_request_timeout: 504 (RFC 9110 15.6.5), the task is cancelled, and the log says so."""
    with master("asgi_request_timeout = 0.5\nkeepalive = 30\n", access_log=True) as m:
        with Wire(m.connect()) as wire:
            assert wire.request("GET", "/").status == 200
            response = wire.request("GET", "/deaf")
            assert (response.status, response.keeps_alive) == (504, False)
            wire.recv_eof()
        with Wire(m.connect()) as wire:
            wire.send(request("GET", "/endless"))
            assert wire.recv_head().status == 200
            assert wire.recv_chunk() == b"begun"
            with pytest.raises(WireError):
                wire.recv_chunk()
        m.wait_log(r"Cancelled at the end of asgi_request_timeout: GET '/deaf'")
        m.wait_log(r"Cancelled at the end of asgi_request_timeout: GET '/endless'")
        assert told(m)["cancelled"] == 1
        wait_until(lambda: any(" 504 " in line for line in m.access()), 10, "the access log")


# Places


class Regular(threading.Thread):
    """A client that asks on and on, on a connection that is kept as long as the server likes."""

    def __init__(self, server: Master) -> None:
        super().__init__(name="regular", daemon=True)
        self.server = server
        self.stopping = threading.Event()
        self.served = 0
        self.failure = ""

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.visit()
        except (OSError, AssertionError) as exc:
            self.failure = repr(exc)

    def visit(self) -> None:
        with Wire(self.server.connect(30)) as wire:
            while not self.stopping.wait(0.01):
                try:
                    response = wire.request()
                except (ConnectionError, WireError):
                    # It was told to go in the moment in which it asked: RFC 9112 9.5, it may ask
                    # again. What had been answered in part would be a failure.
                    assert not wire.buffered
                    return
                assert response.status == 200
                self.served += 1
                if not response.keeps_alive:
                    return


def test_whoever_comes_late_is_served_although_all_places_are_taken() -> None:
    """worker_connections; Puma's CVE-2021-29509: those who are kept do not starve the others."""
    with master("worker_connections = 5\nkeepalive = 60\n") as m:
        regulars = [Regular(m) for _ in range(5)]
        try:
            for each in regulars:
                each.start()
            wait_until(lambda: all(each.served > 5 for each in regulars), 20, "all places taken")
            for _ in range(3):
                with Wire(m.connect(20)) as wire:
                    assert wire.request().status == 200
            before = [each.served for each in regulars]
            wait_until(
                lambda: all(
                    each.served > count for each, count in zip(regulars, before, strict=True)
                ),
                20,
                "the others to be served on",
            )
        finally:
            for each in regulars:
                each.stopping.set()
            for each in regulars:
                each.join(35)
        assert [each.failure for each in regulars] == [""] * 5
