"""TERM to the master ends the server, and everything that a worker had accepted is answered."""

from __future__ import annotations

import time
from contextlib import ExitStack
from signal import SIGTERM

import pytest

from gunicorn_asgi.worker.scoreboard import Cell, Scoreboard
from kit.load import Load, source
from kit.master import Master, wait_until
from kit.wire import Wire, request

# Half of all requests are under way at any time.
SLOW = "await asyncio.sleep(0.2)"


def master(workers: int, bind: str = "tcp", **more: str) -> Master:
    options = ("--graceful-timeout", "10", "--keep-alive", "5")
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "1", **more}
    files = {"app.py": source("served", answer=SLOW)}
    return Master("app:app", *options, workers=workers, bind=bind, env=env, files=files)


def connections(m: Master) -> int:
    """How many connections the workers have, as they say themselves."""
    board = Scoreboard.of_master(m.pid)
    return sum(slot.get(Cell.CONNECTIONS) for slot in board.used_slots() if slot.alive)


@pytest.mark.parametrize("bind", ["tcp", "unix"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_term_under_load_answers_every_request_that_was_accepted(workers: int, bind: str) -> None:
    with master(workers, bind) as m:
        with Load(m.connect, keep_alive=8, fresh=4, websocket=2, upload=2, until_gone=True) as load:
            load.wait(100)
            m.signal(SIGTERM)
            load.wait_gone()
        load.check()
        assert m.wait_exit() == 0
        assert "SIGKILL" not in m.log()
        assert "Traceback" not in m.log()


def test_connections_that_were_accepted_and_never_used_are_answered_after_term() -> None:
    with master(2) as m, ExitStack() as stack:
        wires = [stack.enter_context(Wire(m.connect(20))) for _ in range(20)]
        wait_until(lambda: connections(m) == 20, 10, "all to be accepted")
        m.signal(SIGTERM)
        m.wait_log("Worker leaving", count=2)
        for wire in wires:
            wire.send(request("GET", "/"))
        for wire in wires:
            response = wire.recv_response()
            assert (response.status, response.body) == (200, b"served")
            # RFC 9112, 9.6: a server that will close says so in its last answer.
            assert response.header("connection") == b"close"
            wire.recv_eof()
        stack.close()
        assert m.wait_exit() == 0


def test_what_came_in_the_same_packet_as_the_signal_is_answered() -> None:
    # Pipelined: the second request was read along with the first (RFC 9112, 9.3.2).
    with master(1) as m, Wire(m.connect(20)) as wire:
        wire.send(request("GET", "/"))
        wait_until(lambda: connections(m) == 1, 10, "it to be accepted")
        m.signal(SIGTERM)
        assert wire.recv_response().status == 200
        wire.close()
        assert m.wait_exit() == 0


def test_term_delay_goes_on_accepting_and_says_close() -> None:
    delay = 3
    with master(2, GUNICORN_ASGI_TERM_DELAY=str(delay)) as m, ExitStack() as stack:
        kept = stack.enter_context(Wire(m.connect(20)))
        assert kept.request().keeps_alive
        begun = time.monotonic()
        m.signal(SIGTERM)
        m.wait_log("Worker leaving", count=2)
        assert kept.request().header("connection") == b"close"
        accepted = 0
        while "Worker stops accepting" not in m.log():
            wire = stack.enter_context(Wire(m.connect(20)))
            wire.send(request("GET", "/"))
            response = wire.recv_response()
            assert (response.status, response.header("connection")) == (200, b"close")
            accepted += 1
        assert accepted > 3
        assert time.monotonic() - begun > delay * 0.9
        stack.close()
        assert m.wait_exit() == 0


def test_term_delay_under_load_fails_nothing_that_comes_before_its_end() -> None:
    with master(2, GUNICORN_ASGI_TERM_DELAY="3") as m:
        with Load(m.connect, keep_alive=4, fresh=4, until_gone=True) as load:
            load.wait(50)
            m.signal(SIGTERM)
            begun = time.monotonic()
            load.wait_gone()
        load.check()
        # Nobody was turned away before the delay was over.
        assert min(load.gone) - begun > 2.5
        assert m.wait_exit() == 0
