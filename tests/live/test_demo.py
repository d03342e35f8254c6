"""The bundled demo: every route over real connections, every body, and a clean end."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from importlib.resources import files
from signal import SIGTERM
from typing import Any

import pytest

from gunicorn_asgi.demo import app
from kit.fakes import run
from kit.master import Master
from kit.wire import Response, WebSocketWire, Wire, chunked, request

APP = "gunicorn_asgi.demo:app"
TEXT = b"text/plain; charset=utf-8"


@pytest.fixture(scope="module")
def demo() -> Iterator[Master]:
    """The demo with one worker, which therefore is the one that answers."""
    with Master(APP) as master:
        yield master


def ask(demo: Master, method: str, path: str, **more: Any) -> Response:
    with Wire(demo.connect()) as wire:
        return wire.request(method, path, **more)


def worker(demo: Master) -> int:
    (pid,) = demo.workers()
    return pid


def stream(wire: Wire, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    wire.send(request("GET", "/sse", headers))
    response = wire.recv_head()
    assert (response.status, response.framing) == (200, "chunked")
    return response


def blocks(wire: Wire, count: int) -> list[str]:
    """The next blocks of an event stream, however they are cut into chunks."""
    text = ""
    while text.count("\n\n") < count:
        chunk = wire.recv_chunk()
        assert chunk is not None, f"the stream has ended after {text!r}"
        text += chunk.decode()
    assert text.endswith("\n\n")
    return text.split("\n\n")[:-1]


def event(block: str) -> tuple[int, dict[str, Any]]:
    found = re.fullmatch(r"id: (\d+)\ndata: (.*)", block)
    assert found is not None, block
    return int(found[1]), json.loads(found[2])


# HTTP


def test_the_page_is_the_file_and_names_no_other_host(demo: Master) -> None:
    response = ask(demo, "GET", "/")
    assert response.status == 200
    assert response.body == files("gunicorn_asgi.demo").joinpath("index.html").read_bytes()
    assert response.header("content-type") == b"text/html; charset=utf-8"
    assert b"default-src 'none'" in (response.header("content-security-policy") or b"")
    # The namespace of the inline drawing is a name, it is not fetched.
    assert set(re.findall(rb"\w+://[^'\"\s>)`]*", response.body)) == {b"http://www.w3.org/2000/svg"}


def test_hello_tells_who_answers(demo: Master) -> None:
    with Wire(demo.connect()) as wire:
        first = wire.request("GET", "/api/hello")
        second = wire.request("GET", "/api/hello").json()
        client = list(wire.sock.getsockname())
    facts = first.json()
    assert first.status == 200
    assert first.header("content-type") == b"application/json"
    assert first.header("x-worker") == str(worker(demo)).encode()
    assert second["requests"] == facts["requests"] + 1
    assert second["uptime"] >= facts.pop("uptime") > 0
    assert facts.pop("requests") > 0
    assert facts.pop("echoed") >= 0
    assert re.fullmatch(r"(uvloop|asyncio)(\.\w+)+", facts.pop("loop"))
    assert facts == {
        "message": "Hello from gunicorn_asgi",
        "pid": worker(demo),
        "master": demo.pid,
        "python": platform.python_version(),
        "http_version": "1.1",
        "client": client,
    }


def test_healthz(demo: Master) -> None:
    response = ask(demo, "GET", "/healthz")
    assert (response.status, response.body) == (200, b"ok")
    assert response.header("content-type") == TEXT


@pytest.mark.parametrize("path", ["/", "/api/hello", "/healthz", "/sse"])
def test_head_has_the_head_of_get_and_no_body(demo: Master, path: str) -> None:
    with Wire(demo.connect()) as wire:
        head = wire.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        # Had there been a body, it would be in the way of the next answer.
        assert wire.request("GET", "/healthz").body == b"ok"
        get = stream(wire) if path == "/sse" else wire.request("GET", path)
    assert head.header("content-type") == get.header("content-type")
    if path in ("/", "/healthz"):
        assert head.header("content-length") == str(len(get.body)).encode()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/hello/", "/ws"])
def test_an_unknown_path_is_404(demo: Master, method: str, path: str) -> None:
    response = ask(demo, method, path)
    assert (response.status, response.body) == (404, b"Not Found")
    assert response.header("content-type") == TEXT


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/", b"GET, HEAD"),
        ("DELETE", "/api/hello", b"GET, HEAD"),
        ("PUT", "/sse", b"GET, HEAD"),
        ("OPTIONS", "/healthz", b"GET, HEAD"),
        ("GET", "/api/echo", b"POST"),
    ],
)
def test_another_method_is_405_with_allow(
    demo: Master, method: str, path: str, allow: bytes
) -> None:
    response = ask(demo, method, path)
    assert (response.status, response.body) == (405, b"Method Not Allowed")
    assert response.header("allow") == allow


@pytest.mark.parametrize("body", [b"", b"hi", bytes(range(256)) * 256])
def test_echo_gives_back_a_body_of_known_length(demo: Master, body: bytes) -> None:
    fields = {"Content-Type": "application/x-kit", "Content-Length": str(len(body))}
    before = ask(demo, "GET", "/api/hello").json()["echoed"]
    response = ask(demo, "POST", "/api/echo", headers=fields, body=body)
    assert (response.status, response.body) == (200, body)
    assert response.header("content-type") == b"application/x-kit"
    assert response.header("content-length") == str(len(body)).encode()
    assert ask(demo, "GET", "/api/hello").json()["echoed"] == before + len(body)


def test_echo_gives_back_each_chunk_before_the_next_is_sent(demo: Master) -> None:
    fields = {"Transfer-Encoding": "chunked"}
    with Wire(demo.connect()) as wire:
        wire.send(request("POST", "/api/echo", fields) + chunked(b"one", last=False))
        response = wire.recv_head()
        assert (response.status, response.framing) == (200, "chunked")
        assert response.header("content-type") == b"application/octet-stream"
        assert wire.recv_chunk() == b"one"
        wire.send(chunked(b"two", last=False))
        assert wire.recv_chunk() == b"two"
        wire.send(chunked())
        assert wire.recv_chunk() is None
        assert wire.request("GET", "/healthz").body == b"ok"


# Server-Sent Events


def test_sse_sends_an_event_a_second(demo: Master) -> None:
    with Wire(demo.connect()) as wire:
        response = stream(wire)
        retry, *events = blocks(wire, 3)
    assert response.header("content-type") == b"text/event-stream"
    assert response.header("cache-control") == b"no-cache"
    assert retry == "retry: 1000"
    (id1, data1), (id2, data2) = map(event, events)
    assert (id1, id2) == (1, 2)
    assert data1.keys() == data2.keys() == {"id", "time", "pid"}
    assert (data1["id"], data2["id"]) == (1, 2)
    assert data1["pid"] == data2["pid"] == worker(demo)
    assert data1["time"] < data2["time"]


@pytest.mark.parametrize(("last", "expected"), [("41", 42), ("x", 1), ("9" * 5000, 1)])
def test_sse_counts_on_from_the_last_event_id(demo: Master, last: str, expected: int) -> None:
    with Wire(demo.connect()) as wire:
        stream(wire, (("Last-Event-ID", last),))
        assert event(blocks(wire, 2)[1])[0] == expected


# WebSocket


def test_websocket_greets_and_echoes(demo: Master) -> None:
    with WebSocketWire(demo.connect()) as ws:
        assert ws.connect("/ws", ["other", "echo"]).status == 101
        assert ws.subprotocol == "echo"
        assert json.loads(ws.recv_text()) == {"pid": worker(demo), "subprotocol": "echo"}
        for text in ("hi", "", "Grüße ✓"):
            ws.send_text(text)
            assert ws.recv_text() == text
        for data in (b"", bytes(range(256)) * 256):
            ws.send_bytes(data)
            assert ws.recv_bytes() == data
        ws.close(1000)
        assert ws.recv_close()[0] == 1000
        ws.recv_eof()


@pytest.mark.parametrize("offered", [[], ["other"]])
def test_websocket_without_the_subprotocol(demo: Master, offered: list[str]) -> None:
    with WebSocketWire(demo.connect()) as ws:
        assert ws.connect("/ws", offered).status == 101
        assert ws.subprotocol is None
        assert json.loads(ws.recv_text()) == {"pid": worker(demo), "subprotocol": None}


@pytest.mark.parametrize("path", ["/", "/sse", "/ws/"])
def test_websocket_elsewhere_is_refused(demo: Master, path: str) -> None:
    with WebSocketWire(demo.connect()) as ws:
        assert ws.connect(path).status == 403


# The end


def test_term_ends_stream_and_websocket_in_order_and_exits_0() -> None:
    with Master(APP, "--graceful-timeout", "4", workers=2) as master:
        pids = set(master.workers())
        with Wire(master.connect(timeout=15)) as sse, WebSocketWire(master.connect()) as ws:
            assert ask(master, "GET", "/api/hello").json()["pid"] in pids
            stream(sse)
            assert event(blocks(sse, 2)[1])[1]["pid"] in pids
            assert ws.connect("/ws", ["echo"]).status == 101
            assert json.loads(ws.recv_text())["pid"] in pids
            master.signal(SIGTERM)
            assert ws.recv_close()[0] in (1001, 1012)
            ws.recv_eof()
            while (chunk := sse.recv_chunk()) is not None:
                assert event(chunk.decode().removesuffix("\n\n"))[1]["pid"] in pids
        assert master.wait_exit(15) == 0
        assert not re.search(r"\[(WARNING|ERROR|CRITICAL)\]|Traceback", master.log())


# Without a server


Message = dict[str, Any]


def call(scope: Message, *messages: Message) -> list[Message]:
    """Call the app with these messages to receive; return what it has sent."""
    coming, sent = iter(messages), []

    async def receive() -> Message:
        return next(coming)

    async def send(message: Any) -> None:  # noqa: ANN401 - the app's own type
        sent.append(message)

    run(app(scope, receive, send))
    return sent


def http(path: str, **more: Any) -> Message:
    scope = {"type": "http", "method": "GET", "path": path, "http_version": "1.1", "headers": []}
    return {**scope, **more}


@pytest.mark.parametrize("more", [{}, {"state": None}, {"state": {}}, {"state": {"demo": 1}}])
def test_it_needs_no_lifespan_state(more: Message) -> None:
    start, body = call(http("/api/hello", **more))
    assert start["status"] == 200
    facts = json.loads(body["body"])
    assert facts["requests"] > 0
    assert facts["uptime"] >= 0
    assert facts["client"] is None


def test_lifespan_keeps_the_stats_in_the_state() -> None:
    state: Message = {}
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = call({"type": "lifespan", "state": state}, *messages)
    assert sent == [{"type": f"{message['type']}.complete"} for message in messages]
    for number in (1, 2):
        # A server hands out copies of the state: what counts has to be shared by them.
        body = call(http("/api/hello", state=state.copy()))[1]["body"]
        assert json.loads(body)["requests"] == number


def test_lifespan_without_state() -> None:
    sent = call({"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [
        ("/pre/healthz", "/pre", 200),
        ("/healthz", "/pre", 200),
        ("/prehealthz", "/pre", 404),
        ("/healthz", "", 200),
    ],
)
def test_it_works_under_a_prefix(path: str, root: str, status: int) -> None:
    assert call(http(path, root_path=root))[0]["status"] == status


def test_an_upload_that_breaks_off_is_not_answered_as_whole() -> None:
    part = {"type": "http.request", "body": b"half", "more_body": True}
    scope = http("/api/echo", method="POST")
    sent = call(scope, part, {"type": "http.disconnect"})
    assert [message.get("more_body") for message in sent] == [None, True]
    assert call(scope, {"type": "http.disconnect"}) == []


def test_sse_ends_its_stream_when_told_to() -> None:
    ask = {"type": "http.request", "body": b"", "more_body": False}
    start, *body = call(http("/sse"), ask, {"type": "http.disconnect"})
    assert start["status"] == 200
    assert [message.get("more_body", False) for message in body] == [True, True, False]


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="'telegram'"):
        call({"type": "telegram"})
