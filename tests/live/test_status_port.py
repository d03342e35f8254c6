"""The status port: who sees it, what it says in a drain, and what becomes of it in a reload."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP, SIGTERM, SIGUSR2
from typing import Any

import pytest

from kit import proc
from kit.master import READY, Address, Master, free_port, wait_until
from kit.message import Response, request
from kit.wire import Wire, WireError

__all__: list[str] = []

APP = """
import asyncio, os
{first}

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    while scope["path"] == "/wait" and not os.path.exists("go"):
        await asyncio.sleep(0.02)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"hello"}})
"""
MOUNTED = """
from starlette.applications import Starlette
from starlette.routing import Mount
from gunicorn_asgi.status import app as status

app = Starlette(routes=[Mount("/ops", status)])
"""


def source(first: str = "") -> dict[str, str]:
    return {"app.py": APP.format(first=first)}


def config(bind: str, more: str = "") -> str:
    return f"asgi_status_bind = {bind!r}\ngraceful_timeout = 10\nasgi_drain_linger = 0.5\n{more}"


def status_address(m: Master, after: int = 0) -> Address:
    """Of the last status port that was told in the log."""
    m.wait_log(r"Status page at: ", after=after)
    line = m.log(after).rpartition("Status page at: ")[2].split()[0]
    if line.startswith("unix:"):
        return line[len("unix:") :]
    host, _, port = line.partition("//")[2].rpartition(":")
    return host.strip("[]"), int(port)


def get(m: Master, address: Address, path: str, *headers: tuple[str, str]) -> Response:
    with Wire(m.connect(address=address)) as wire:
        return wire.request("GET", path, headers)


def told(m: Master, address: Address) -> dict[str, Any]:
    response = get(m, address, "/status.json")
    assert response.status == 200, response.raw
    found: dict[str, Any] = json.loads(response.body)
    return found


def listens(m: Master, address: Address) -> bool:
    try:
        m.connect(address=address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    return True


class Prober(threading.Thread):
    """Asks for readiness again and again, as load balancers do."""

    def __init__(self, m: Master, address: Address, path: str = "/ready") -> None:
        super().__init__(daemon=True)
        self._master, self._address, self._path = m, address, path
        self._stopping = threading.Event()
        self.answers: list[int | str] = []

    def run(self) -> None:
        while not self._stopping.wait(0.01):
            self.answers.append(self._ask())

    def _ask(self) -> int | str:
        try:
            return get(self._master, self._address, self._path).status
        except (OSError, WireError) as exc:
            return repr(exc)

    @contextmanager
    def asking(self) -> Iterator[list[int | str]]:
        self.start()
        try:
            yield self.answers
        finally:
            self._stopping.set()
            self.join(20)
            assert not self.is_alive()


# -- who -------------------------------------------------------------------------------------------

# To whom: path, fields, status. The proxy on this machine is one of forwarded_allow_ips.
CLIENTS: list[tuple[str, list[tuple[str, str]], int]] = [
    ("/status.json", [], 200),
    ("/", [("host", "localhost:9100")], 200),
    ("/status.json", [("x-forwarded-for", "203.0.113.9")], 403),
    ("/status.json", [("x-forwarded-for", "127.0.0.1")], 403),
    ("/status.json", [("x-forwarded-for", "203.0.113.9, 10.1.2.3")], 200),
    ("/metrics", [("via", "1.1 proxy")], 403),
    ("/metrics", [("host", "evil.example")], 403),
    ("/events", [("forwarded", "for=127.0.0.1")], 403),
    ("/live", [("x-forwarded-for", "203.0.113.9")], 200),
    ("/ready", [("host", "evil.example")], 200),
    ("/nothing", [("x-forwarded-for", "203.0.113.9")], 403),
]


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:status.sock"])
def test_only_the_clients_that_are_listed_see_more_than_health(bind: str) -> None:
    """Setting: asgi_status_allow; on the status port, and where the application is mounted."""
    allow = "asgi_status_allow = ['127.0.0.0/8', '10.1.2.0/24']\npreload_app = True\n"
    with Master("app:app", files={"app.py": MOUNTED}, config=config(bind, allow)) as m:
        port = status_address(m)
        for path, headers, status in CLIENTS:
            assert get(m, port, path, *headers).status == status, (path, headers)
            assert get(m, m.address, f"/ops{path}", *headers).status == status, (path, headers)
        answer = get(m, port, "/metrics", ("via", "1.1 proxy"))
        assert answer.body == b"forbidden\n"
        lines = m.log().count("Status page refused to ")
        assert lines == 2 * sum(status == 403 for _, _, status in CLIENTS) + 1
        if isinstance(port, str):
            assert Path(port).stat().st_mode & 0o777 == 0o600
    assert not isinstance(port, str) or not Path(port).exists()


def test_the_status_application_runs_alone() -> None:
    """What a sidecar of nothing would be; and what ``--check`` of a deployment may look for."""
    with Master("gunicorn_asgi.status:app", workers=2) as m:
        assert told(m, m.address)["ready"] == 2
        assert get(m, m.address, "/metrics").status == 200


def test_what_goes_on_at_the_status_port_is_not_counted() -> None:
    """No access log, no metrics, no max_requests; and no connection is kept."""
    with Master("app:app", files=source(), config=config("127.0.0.1:0"), access_log=True) as m:
        port = status_address(m)
        for _ in range(10):
            response = get(m, port, "/status.json")
            assert not response.keeps_alive
        with Wire(m.connect()) as wire:
            assert wire.request("GET", "/").status == 200
        assert len(m.wait_access(1)) == 1
        wait_until(lambda: told(m, port)["totals"]["connections_accepted"] == 1, 10, "a beat")
        found = told(m, port)
        assert (found["requests"]["2xx"], found["workers"][0]["requests"]) == (1, 1)


def test_an_address_in_use_refuses_the_start() -> None:
    """In Gunicorn's own way."""
    with Master("app:app", files=source(), config=config("127.0.0.1:0")) as m:
        address = status_address(m)
        bind = f"127.0.0.1:{address[1]}"
        with Master("app:app", files=source(), config=config(bind), ready=None) as other:
            assert other.wait_exit() == 1
            text = f"Error: asgi_status_bind is {bind!r}, which cannot be bound: "
            assert text in other.log()
            assert "Address already in use" in other.log()
        assert get(m, status_address(m), "/live").status == 200


# -- the end ---------------------------------------------------------------------------------------


def test_readiness_ends_with_the_term_and_liveness_with_the_process() -> None:
    """asgi_term_delay: who accepts still says that it will not for long."""
    more = "asgi_term_delay = 4\ngraceful_timeout = 30\n"
    files = source()
    with Master("app:app", workers=2, files=files, config=config("127.0.0.1:0", more)) as m:
        port = status_address(m)
        assert get(m, port, "/ready").body == b"ready\n"
        with Wire(m.connect(30)) as busy:
            busy.send(request("GET", "/wait"))
            wait_until(lambda: told(m, port)["open_requests"], 10, "the request")
            m.signal(SIGTERM)
            m.wait_log(r"Worker leaving")
            response = get(m, port, "/ready")
            assert (response.status, response.body) == (503, b"unready\n")
            # The public address still takes connections.
            assert get(m, m.address, "/").status == 200
            # And when it does not any more, the status port still tells why.
            m.wait_log(r"Worker stops accepting", 20, count=2)
            assert get(m, port, "/ready").status == 503
            assert get(m, port, "/live").status == 200
            assert "draining" in [each["state"] for each in told(m, port)["workers"]]
            m.write("go", "")
            assert busy.recv_response().status == 200
        assert m.wait_exit() == 0
        assert not listens(m, port)


@pytest.mark.parametrize("mounted", [False, True])
def test_a_viewer_does_not_hold_up_the_end(mounted: bool) -> None:
    """Its stream ends with the TERM, in an orderly way: the browser comes back by itself."""
    files = {"app.py": MOUNTED} if mounted else source()
    with Master("app:app", files=files, config=config("127.0.0.1:0")) as m:
        address, path = (m.address, "/ops") if mounted else (status_address(m), "")
        with Wire(m.connect(20, address=address)) as wire:
            wire.send(request("GET", f"{path}/events"))
            response = wire.recv_head()
            assert response.status == 200
            assert (wire.recv_chunk() or b"").startswith(b"retry: ")
            assert (wire.recv_chunk() or b"").startswith(b'data: {"master": ')
            m.signal(SIGTERM)
            while wire.recv_chunk() is not None:
                pass
        assert m.wait_exit(5) == 0
        assert "Cancelled at the end" not in m.log()


# -- reloads ---------------------------------------------------------------------------------------


def test_a_reload_never_says_unready() -> None:
    """Slow to boot, slow to drain: at each moment somebody accepts."""
    with Master("app:app", workers=2, files=source(), config=config("127.0.0.1:0")) as m:
        port = status_address(m)
        with Wire(m.connect(30)) as busy, Prober(m, port).asking() as answers:
            busy.send(request("GET", "/wait"))
            wait_until(lambda: told(m, port)["open_requests"], 10, "the request")
            m.write("app.py", source("import time; time.sleep(1)")["app.py"])
            m.signal(SIGHUP)
            m.wait_log(r"Worker leaving .* its successors are ready", 20, count=2)
            # Old workers that drain answer, too.
            count = len(answers)
            wait_until(lambda: len(answers) > count + 30, 20, "answers in the drain")
            m.write("go", "")
            assert busy.recv_response().status == 200
        assert set(answers) == {200}


def test_the_status_port_moves_with_a_reload_and_stays_if_it_cannot(tmp_path: Path) -> None:
    """Old workers serve the old one until they leave; what is taken is logged."""
    one, other = free_port(), free_port()
    with Master("app:app", files=source(), config=config(f"127.0.0.1:{one}")) as m:
        mark = m.mark()
        m.write("gunicorn.conf.py", config(f"127.0.0.1:{m.port}"))
        m.signal(SIGHUP)
        m.wait_log(READY, after=mark)
        text = f"asgi_status_bind is '127.0.0.1:{m.port}', which cannot be bound: "
        assert text in m.log(mark)
        assert f"; 127.0.0.1:{one} stays" in m.log(mark)
        wait_until(lambda: told(m, ("127.0.0.1", one))["generation"] == 2, 10, "the old address")
        mark = m.mark()
        m.write("gunicorn.conf.py", config(f"127.0.0.1:{other}"))
        m.signal(SIGHUP)
        m.wait_log(READY, after=mark)
        assert told(m, ("127.0.0.1", other))["generation"] == 3
        wait_until(lambda: not listens(m, ("127.0.0.1", one)), 10, "the end of the old address")
        mark = m.mark()
        m.write("gunicorn.conf.py", config(f"unix:{tmp_path}/sock"))
        m.signal(SIGHUP)
        m.wait_log(READY, after=mark)
        assert told(m, f"{tmp_path}/sock")["generation"] == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bind", ["tcp", "unix:{dir}/status.sock"], ids=["tcp", "unix"])
def test_of_two_masters_the_newer_one_answers(bind: str, tmp_path: Path) -> None:
    """USR2, taken back, and again; readiness is that of whoever serves."""
    bind = f"127.0.0.1:{free_port()}" if bind == "tcp" else bind.format(dir=tmp_path)
    with Master("app:app", files=source(), config=config(bind), bind="unix") as m:
        port, old = status_address(m), m.pid
        assert told(m, port)["master"] == old
        new = second_master(m)
        wait_until(lambda: told(m, port)["master"] == new, 10, "the new master")
        # Taken back. A connection that waits for the new one ends with it; nobody says "unready".
        with Prober(m, port).asking() as answers:
            m.kill_worker(new, SIGTERM)
            # Until the old one has reaped it, it takes no other USR2.
            wait_until(lambda: not Path(f"/proc/{new}").exists(), 20, "the new master's end")
        assert 503 not in answers
        assert told(m, port)["master"] == old
        new = second_master(m)
        wait_until(lambda: told(m, port)["master"] == new, 10, "the new master")
        with Prober(m, port).asking() as answers:
            m.signal(SIGTERM)
            wait_until(lambda: not proc.alive(old), 20, "the end of the old master")
        assert set(answers) == {200}
        m.adopt(new)
        assert told(m, port)["master"] == new
        assert m.stop() == 0
    assert not list(tmp_path.iterdir())


def second_master(m: Master) -> int:
    mark = m.mark()
    m.signal(SIGUSR2)
    m.wait_log(READY, 20, after=mark)
    found = wait_until(m.new_master, 10, "the new master")
    assert found is not None
    return found
