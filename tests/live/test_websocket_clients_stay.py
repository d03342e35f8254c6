"""Real WebSocket clients that are silent, and those of a worker that leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP, SIGTERM
from typing import TYPE_CHECKING

import pytest

from kit.master import Master
from kit.wire import WebSocketWire, Wire
from kit.wsclients import PATIENCE, Closed
from kit.wslibraries import LIBRARIES
from kit.wsnode import by_node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.wsclients import Library, Talker

__all__: list[str] = []

APP = (Path(__file__).parent / "apps" / "clients.py").read_text()
# A Ping each half second; to answer takes a client far less than these seconds, however busy.
SILENCE = "asgi_ws_ping_interval = 0.5\nasgi_ws_ping_timeout = 4\n"

all_of_them = pytest.mark.parametrize(
    "names",
    [
        pytest.param([name for name in LIBRARIES if name != "ws"], id="python"),
        pytest.param(["ws"], id="node", marks=by_node),
    ],
)


@pytest.fixture
def libraries(names: list[str]) -> Iterator[list[Library]]:
    """Each of them, started."""
    with ExitStack() as stack:
        started = []
        for name in names:
            started.append(LIBRARIES[name]())
            stack.callback(started[-1].stop)
        yield started


def opened(
    master: Master, libraries: list[Library], path: str, stack: ExitStack, times: int = 1
) -> list[Talker]:
    """So many WebSockets of each library, one half of them with compression where it knows that."""
    url = f"ws://127.0.0.1:{master.port}{path}"
    return [
        stack.enter_context(library.connect(url, deflate=library.deflates and bool(number % 2)))
        for library in libraries
        for number in range(times)
    ]


@all_of_them
def test_silent_clients_stay_as_they_answer_pings(libraries: list[Library]) -> None:
    """asgi_ws_ping_interval, asgi_ws_ping_timeout: one that does not answer is closed meanwhile."""
    with ExitStack() as stack:
        master = stack.enter_context(Master("app:app", config=SILENCE, files={"app.py": APP}))
        sockets = opened(master, libraries, "/listens", stack, 2)
        pool = stack.enter_context(ThreadPoolExecutor(len(sockets)))
        told = [pool.submit(ws.recv) for ws in sockets]
        with WebSocketWire(master.connect(PATIENCE), auto_pong=False) as dead:
            assert dead.connect("/listens").status == 101
            assert dead.recv_close() == (1011, "keepalive ping timeout")
        assert not [each for each in told if each.done()]
        with Wire(master.connect()) as wire:
            assert wire.request("GET", "/tell").text == str(len(sockets))
        assert [each.result(PATIENCE) for each in told] == ["told"] * len(sockets)


@all_of_them
def test_reload_is_1012_and_a_stop_1001(libraries: list[Library]) -> None:
    """The IANA registry, RFC 6455, 7.4.1; who comes back after a reload is served."""
    with ExitStack() as stack:
        master = stack.enter_context(Master("app:app", files={"app.py": APP}))
        for number, code in ((SIGHUP, 1012), (SIGTERM, 1001)):
            sockets = opened(master, libraries, "/echo", stack, 20)
            for ws in sockets:
                ws.send("there?")
                assert ws.recv() == "there?"
            master.signal(number)
            for ws in sockets:
                with pytest.raises(Closed) as closed:
                    ws.recv()
                assert closed.value.code == code
        assert master.wait_exit(40) == 0
