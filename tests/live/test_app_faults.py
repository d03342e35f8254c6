"""A hundred requests for each fault of an application, each with an innocent one behind it.

The worker lives, the client of a faulty request is told (a 500, or a response that is visibly cut),
and what follows is right: on a fresh connection, and on the same one if it goes on at all.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.master import Master, wait_until
from kit.wire import Wire, WireError, request

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(__file__).parent / "apps" / "faults.py"
TIMES = 100
# An application that runs on although its client has left is cancelled after this time.
GRACE = {"GUNICORN_ASGI_DISCONNECT_GRACE_PERIOD": "0.2"}
# What asyncio says about an error that nobody has taken care of.
UNCARED = re.compile(r"never retrieved|never awaited|Exception in callback|Fatal error")


def _faults() -> Any:  # noqa: ANN401 - a module
    spec = importlib.util.spec_from_file_location("apps_faults", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = _faults()


def faults(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", list(getattr(TABLES, name)))


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker, which has to survive all of it."""
    env = {"GUNICORN_ASGI_LOOP": request.param, **GRACE}
    with Master("app:app", files={"app.py": APP.read_text()}, env=env) as master:
        yield master


@pytest.fixture
def worker(server: Master) -> Iterator[int]:
    """The pid of the worker, which at the end of the test still is the same."""
    (pid,) = server.workers()
    mark = server.mark()
    yield pid
    assert server.workers() == [pid]
    assert ask(server, "/ok?end") == b"ok end"
    log = server.log(after=mark)
    assert not UNCARED.search(log), log[-4000:]


def ask(server: Master, path: str) -> bytes:
    with Wire(server.connect()) as wire:
        response = wire.request("GET", path)
        assert response.status == 200
        return response.body


def path_of(fault: str) -> str:
    return "/" + fault.replace(" ", "_")


def send_both(wire: Wire, fault: str, number: int) -> None:
    """The faulty request and the innocent one, in one segment or in two."""
    first, second = request("GET", path_of(fault)), request("GET", f"/ok?{number}")
    if number % 2:
        wire.send(first + second)
    else:
        wire.send(first)
        wire.send(second)


@faults("BEFORE")
def test_when_nothing_was_sent_the_client_gets_a_500_and_a_clean_close(
    server: Master, worker: int, fault: str
) -> None:
    """ASGI, "Error handling": 500 first if nothing was sent; RFC 9112, 9.6: then close."""
    for number in range(TIMES):
        with Wire(server.connect()) as wire:
            send_both(wire, fault, number)
            response = wire.recv_response()
            assert response.status == 500
            # The client never reads our internals: no message, no trace.
            assert response.body == b"Internal Server Error\n"
            assert not response.keeps_alive
            assert response.all("set-cookie") == []
            wire.recv_eof()
        assert ask(server, f"/ok?{number}") == b"ok %d" % number


@faults("AMID")
def test_when_part_was_sent_the_response_is_cut_and_nothing_follows(
    server: Master, worker: int, fault: str
) -> None:
    """RFC 9112, 8: an incomplete message is one without its last chunk or its full length."""
    for number in range(TIMES):
        with Wire(server.connect()) as wire:
            send_both(wire, fault, number)
            response = wire.recv_head()
            assert response.status == 200
            if response.framing == "chunked":
                assert wire.recv_chunk() == b"part"
            else:
                assert response.header("content-length") == b"10"
                assert wire.recv_exact(4) == b"part"
            # A reset, where the second request comes in after the close, is as visible.
            with pytest.raises(WireError, match=r"^(eof|reset) instead of b'\?'; so far b''$"):
                wire.recv_until(b"?")
        assert ask(server, f"/ok?{number}") == b"ok %d" % number


@faults("AFTER")
def test_when_the_response_was_complete_the_next_one_is_right(
    server: Master, worker: int, fault: str
) -> None:
    """ASGI, "Response Body": further messages on the channel are ignored."""
    for number in range(TIMES):
        with Wire(server.connect()) as wire:
            send_both(wire, fault, number)
            response = wire.recv_response()
            assert (response.status, response.body) == (200, b"whole")
            assert response.keeps_alive
            second = wire.recv_response()
            assert (second.status, second.body) == (200, b"ok %d" % number)
        assert ask(server, f"/ok?{number}") == b"ok %d" % number


@faults("NEVER")
def test_when_the_client_leaves_the_application_ends_within_its_grace(
    server: Master, worker: int, fault: str
) -> None:
    """asgi_disconnect_grace_period: cancelled then, and nothing of it is left."""
    before = int(ask(server, "/tasks"))
    wires = [Wire(server.connect()) for _ in range(TIMES)]
    for number, wire in enumerate(wires):
        wire.send(request("GET", path_of(fault)))
        if number % 10 == 0:
            assert ask(server, f"/ok?{number}") == b"ok %d" % number
    wait_until(lambda: int(ask(server, "/tasks")) >= before + TIMES, 5, "all of them to run")
    for number, wire in enumerate(wires):
        assert not wire.closed()
        wire.abort() if number % 2 else wire.close()
    assert ask(server, "/ok?gone") == b"ok gone"
    wait_until(lambda: int(ask(server, "/tasks")) <= before, 10, "all of them to end")


def test_send_after_the_client_has_left_raises_an_oserror(server: Master, worker: int) -> None:
    """ASGI HTTP 2.4: a server-specific subclass of OSError, which is not logged as an error."""
    mark = server.mark()
    before = ask(server, "/seen")
    for _ in range(TIMES):
        with Wire(server.connect()) as wire:
            wire.send(request("GET", path_of("sends on after disconnect")))
            wire.abort()
    wait_until(lambda: ask(server, "/seen") != before, 10, "the application to be told")
    assert b"ClientDisconnected" in ask(server, "/seen")
    assert "ERROR" not in server.log(after=mark)


def test_sys_exit_in_a_background_task_ends_the_worker_gracefully() -> None:
    """asyncio lets SystemExit out of a task and out of the loop: whoever waits is answered first.

    An application that exits on purpose gets a fresh worker; nobody else notices.
    """
    with Master("app:app", files={"app.py": APP.read_text()}) as master:
        for _ in range(5):
            (pid,) = master.workers()
            mark = master.mark()
            with Wire(master.connect()) as waiting, Wire(master.connect()) as wire:
                waiting.send(request("GET", "/held"))
                assert ask(master, "/ok?before") == b"ok before"
                response = wire.request("GET", path_of("sys.exit in a background task"))
                assert (response.status, response.body) == (200, b"whole")
                assert waiting.recv_response().body == b"held"
            assert ask(master, "/ok?after") == b"ok after"
            master.wait_log(r"A task of the application raised SystemExit\(7\)", after=mark)
            assert pid not in master.wait_workers(1)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_fault_is_logged_with_its_request_and_its_trace(
    server: Master, worker: int, version: str
) -> None:
    mark = server.mark()
    with Wire(server.connect()) as wire:
        response = wire.request("GET", "/raises_before_start?q", version=version)
    assert (response.status, response.version) == (500, version)
    server.wait_log(r"raised ValueError: GET '/raises_before_start\?q'", after=mark)
    server.wait_log(r"^ValueError: secret$", after=mark)


def test_a_close_delimited_response_that_is_cut_ends_with_a_reset(
    server: Master, worker: int
) -> None:
    """HTTP/1.0 without a length: a clean end would look like the end of the body."""
    for _ in range(TIMES):
        with Wire(server.connect()) as wire:
            wire.send(request("GET", path_of("raises amid chunks"), version="1.0"))
            assert wire.wait_end() == "reset"
