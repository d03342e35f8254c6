"""WebSockets of FastAPI and Starlette, in the ways in which people write them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from kit.master import Master, wait_until
from kit.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from websockets.sync.client import ClientConnection

__all__: list[str] = []

APP = (Path(__file__).parent / "apps" / "fastapi_sockets.py").read_text()
PATIENCE = 10


@pytest.fixture(scope="module")
def server() -> Iterator[Master]:
    """One for all."""
    with Master("app:app", files={"app.py": APP}) as master:
        yield master


def opened(server: Master, path: str, **options: Any) -> AbstractContextManager[ClientConnection]:
    """A client, for a `with` block."""
    client: AbstractContextManager[ClientConnection] = connect(
        f"ws://127.0.0.1:{server.port}{path}", proxy=None, **options
    )
    return client


def done(server: Master, what: str) -> None:
    """Wait until the application has done it."""

    def told() -> bool:
        with Wire(server.connect()) as wire:
            return what in wire.request("GET", "/done").json()

    wait_until(told, PATIENCE, what)


def test_everybody_in_a_room_hears_everybody(server: Master) -> None:
    """Also that somebody goes, and how."""
    with ExitStack() as stack:
        anna = stack.enter_context(opened(server, "/room/anna"))
        assert anna.recv(PATIENCE) == "anna comes"
        ben = stack.enter_context(opened(server, "/room/ben"))
        for each in (anna, ben):
            assert each.recv(PATIENCE) == "ben comes"
        with opened(server, "/room/caf%C3%A9") as visitor:
            for each in (anna, ben, visitor):
                assert each.recv(PATIENCE) == "caf\xe9 comes"
            visitor.send("hello \N{SNOWMAN}")
            for each in (anna, ben, visitor):
                assert each.recv(PATIENCE) == "caf\xe9: hello \N{SNOWMAN}"
            visitor.close(4000, "late")
        for each in (anna, ben):
            assert each.recv(PATIENCE) == "caf\xe9 goes 4000 late"
        ben.socket.shutdown(SHUT_RDWR)
        assert anna.recv(PATIENCE) == "ben goes 1006"


def test_dependencies_parameters_cookies_and_headers(server: Master) -> None:
    """All of the handshake's; JSON as binary messages; what a dependency has opened it closes."""
    headers = {"Cookie": "session=abc"}
    with opened(
        server, "/guarded/7?token=right", additional_headers=headers, user_agent_header="kit"
    ) as ws:
        assert ws.response is not None
        assert ws.response.headers["Set-Cookie"] == "seen=yes; Path=/"
        assert json.loads(ws.recv(PATIENCE)) == [7, "right", "database", "abc", "kit"]
        ws.send(json.dumps({"a": [1, None]}).encode())
        assert json.loads(ws.recv(PATIENCE)) == {"a": [1, None]}
        done(server, "database opened")
    done(server, "database closed")


def test_exception_of_the_framework_is_its_close_code(server: Master) -> None:
    """Before accept a 403, and behind it the code and the reason; that is no error in our log."""
    mark = server.mark()
    for path in ("/guarded/7", "/guarded/7?token=wrong", "/guarded/seven?token=right"):
        with pytest.raises(InvalidStatus) as refused, opened(server, path):
            pass
        assert refused.value.response.status_code == 403
    with opened(server, "/guarded/7?token=right") as ws:
        ws.recv(PATIENCE)
        ws.send(b'"too much"')
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "too much")
    assert "ERROR" not in server.log(after=mark)


@pytest.mark.parametrize("how", ["closes", "is gone"])
def test_application_that_only_sends_learns_of_the_end(server: Master, how: str) -> None:
    """WebSocket message format 2.4: send() raises an OSError, a framework's WebSocketDisconnect."""
    mark = server.mark()
    # The client's close() does not take what is still coming, and gives up after its own timeout.
    with opened(server, "/ticks", close_timeout=1) as ws:
        for _ in range(100):
            assert ws.recv(PATIENCE) == b"tick" * 1000
        if how == "is gone":
            ws.socket.shutdown(SHUT_RDWR)
        else:
            ws.close()
    done(server, "ticks 1006")
    assert "ERROR" not in server.log(after=mark)


def test_two_tasks_send_and_receive(server: Master) -> None:
    """Nothing of either is lost, or out of order."""
    with opened(server, "/both") as ws:
        for number in range(50):
            ws.send(f"{number}")
        heard: list[str] = []
        counted: list[int] = []
        while len(heard) < 50 or len(counted) < 50:
            text = str(ws.recv(PATIENCE))
            if text.startswith("heard "):
                heard.append(text)
            else:
                counted.append(int(text))
    assert heard == [f"heard {number}" for number in range(50)]
    assert counted == list(range(len(counted)))
    done(server, "both")


def test_class_of_starlette(server: Master) -> None:
    """WebSocketEndpoint: connect, receive, disconnect; it closes what is no JSON with 1003."""
    with opened(server, "/endpoint") as ws:
        ws.send('{"a": 1}')
        assert json.loads(ws.recv(PATIENCE)) == {"got": {"a": 1}}
        ws.close(4002)
    done(server, "endpoint 4002")
    with opened(server, "/endpoint") as ws:
        ws.send("{no")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003
