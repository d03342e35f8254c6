"""The access log in a hurry: no line is lost, doubled or out of order, whatever goes on."""

from __future__ import annotations

import re
import threading
from signal import SIGABRT, SIGHUP, SIGUSR1
from typing import TYPE_CHECKING

import pytest

from kit.master import Master, wait_until
from kit.wire import Wire, request

if TYPE_CHECKING:
    from pathlib import Path

APP = """
import asyncio, logging, time

class Own(logging.Handler):
    def emit(self, record):
        print("OWN", record.getMessage(), flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/handler":
        logging.getLogger("gunicorn.access").addHandler(Own())
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
    if scope["path"] == "/stuck":
        print("STUCK", flush=True)
        time.sleep(30)
"""
FORMAT = ("--access-logformat", "%(q)s %(s)s")
_BURST = 40


class Client(threading.Thread):
    """Pipelines bursts of numbered requests on one connection, until it is told to stop."""

    def __init__(self, master: Master, name: str) -> None:
        super().__init__(daemon=True)
        self.asked = 0
        self.stopping = threading.Event()
        self._master = master
        self._letter = name

    def run(self) -> None:
        wire = Wire(self._master.connect(20))
        while not self.stopping.is_set():
            numbers = range(self.asked, self.asked + _BURST)
            wire.send(b"".join(request("GET", f"/?{self._letter}{each}") for each in numbers))
            for _ in numbers:
                response = wire.recv_response()
                assert response.status == 200
                self.asked += 1
                if not response.keeps_alive:  # a drain: what is behind it, has not been begun
                    wire.close()
                    wire = Wire(self._master.connect(20))
                    break
        wire.close()

    def stop(self) -> None:
        self.stopping.set()
        self.join(30)
        assert not self.is_alive()


def lines(folder: Path) -> list[str]:
    """Those of all files, in the order in which they were begun."""
    files = [*sorted(folder.glob("access.log.*")), folder / "access.log"]
    return "".join(each.read_text() for each in files).splitlines()


def test_a_log_that_is_moved_again_and_again_under_load_loses_no_line() -> None:
    """USR1, as logrotate sends it, and a reload: as many lines as requests, in their order."""
    with Master("app:app", *FORMAT, files={"app.py": APP}, access_log=True, workers=2) as master:
        clients = [Client(master, letter) for letter in "abcd"]
        for client in clients:
            client.start()
        current = master.dir / "access.log"
        for number in range(8):
            wait_until(lambda: current.exists() and current.stat().st_size > 4000, 20, "lines")
            current.rename(master.dir / f"access.log.{number}")
            master.signal(SIGUSR1)
            if number == 4:
                mark = master.mark()
                master.signal(SIGHUP)
                master.wait_log(r"Worker ready", after=mark, count=2)
        for client in clients:
            client.stop()
        asked = sum(client.asked for client in clients)
        assert asked > 1000
        wait_until(lambda: len(lines(master.dir)) >= asked, 10, f"{asked} lines")
        found = lines(master.dir)
        assert "Logging error" not in master.log()
    assert len(found) == asked
    for client, letter in zip(clients, "abcd", strict=True):
        own = [line for line in found if line.startswith(letter)]
        assert sorted(own) == sorted(f"{letter}{each} 200" for each in range(client.asked))


def test_lines_of_a_connection_stand_in_the_order_of_its_requests() -> None:
    """More than are gathered, and on standard output, which all workers share."""
    with Master("app:app", *FORMAT, "--access-logfile", "-", files={"app.py": APP}) as master:
        with Wire(master.connect()) as wire:
            wire.send(b"".join(request("GET", f"/?{number}") for number in range(200)))
            for _ in range(200):
                wire.recv_response()
        master.wait_log(r"^199 200$")
        found = re.findall(r"^(\d+) 200$", master.log(), re.M)
    assert found == [str(number) for number in range(200)]


def test_a_handler_that_the_application_adds_while_it_serves_hears_every_line() -> None:
    """And the file gets them too."""
    with Master("app:app", *FORMAT, files={"app.py": APP}, access_log=True) as master:
        with Wire(master.connect()) as wire:
            for target in ("/?0", "/handler?1", "/?2", "/?3"):
                wire.request("GET", target)
            wire.send(b"".join(request("GET", f"/?{number}") for number in range(4, 24)))
            for _ in range(20):
                wire.recv_response()
        assert master.wait_access(24) == [f"{number} 200" for number in range(24)]
        master.wait_log(r"^OWN 23 200$")
        heard = re.findall(r"^OWN (\d+) 200$", master.log(), re.M)
    assert heard == [str(number) for number in range(1, 24)]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_that_is_stuck_and_aborted_has_written_what_was_over(loop: str) -> None:
    """SIGABRT: the line of the turn of the loop that never came to its end is there too."""
    env, files = {"GUNICORN_ASGI_LOOP": loop}, {"app.py": APP}
    with Master("app:app", *FORMAT, files=files, env=env, access_log=True) as master:
        (worker,) = master.workers()
        with Wire(master.connect()) as wire:
            wire.send(request("GET", "/?0") + request("GET", "/stuck?1"))
            master.wait_log("^STUCK$")
            master.kill_worker(worker, SIGABRT)
            master.wait_log("Worker aborted")
            assert master.wait_access(2) == ["0 200", "1 200"]
