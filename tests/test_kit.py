"""The kit itself, on real masters: what it promises to every live test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import pytest
import requests

from kit import proc
from kit.master import Master, free_port, wait_until
from kit.wire import WebSocketWire, Wire

__all__: list[str] = []

pytestmark = [pytest.mark.live, pytest.mark.slow]

APP = """
import os, subprocess

async def app(scope, receive, send):
    await {"lifespan": lifespan, "http": http, "websocket": websocket}[scope["type"]](
        scope, receive, send
    )

async def lifespan(scope, receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            os.write(1, b"goodbye from %d\\n" % os.getpid())  # two workers say it at once
            return

async def http(scope, receive, send):
    if scope["path"] == "/orphan":
        subprocess.Popen(["sleep", "60"])
    body = os.environ.get("KIT_ANSWER", "pid %d" % os.getpid()).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

async def websocket(scope, receive, send):
    await receive()
    subprotocol = next(iter(scope["subprotocols"]), None)
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    while (message := await receive())["type"] == "websocket.receive":
        text, data = message.get("text"), message.get("bytes")
        if text == "close":
            return await send({"type": "websocket.close", "code": 3000, "reason": "asked"})
        await send({"type": "websocket.send", "text": text, "bytes": data})
    print("disconnected with", message["code"], flush=True)
"""
FILES = {"app.py": APP}


def _ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_a_master_serves_and_is_gone() -> None:
    """Everything that most tests need, in one life."""
    with Master("app:app", files=FILES, workers=2, access_log=True) as m:
        first, second = m.wait_workers(2)
        assert requests.get(m.base_url, timeout=5).text in {f"pid {first}", f"pid {second}"}
        with Wire(m.connect()) as wire:
            assert wire.request("GET", "/raw").status == 200
        assert "GET /raw HTTP/1.1" in m.wait_access(2)[1]
        assert m.base_url == f"http://127.0.0.1:{m.port}"
        assert m.address == ("127.0.0.1", m.port)
        assert m.memory(first) > 1 << 20
        assert m.fds(first) > 3
        assert m.threads(first) >= 1
        directory, pids = m.dir, (m.pid, first, second)
        assert m.stop() == 0
        assert sorted(re_pids(m.log())) == [first, second]
    assert not directory.exists()
    assert not any(map(proc.alive, pids))


def re_pids(log: str) -> list[int]:
    """Pids that have said goodbye."""
    return [int(line.split()[-1]) for line in log.splitlines() if line.startswith("goodbye")]


@pytest.mark.parametrize(
    "bind",
    [
        pytest.param("tcp6", marks=pytest.mark.skipif(not _ipv6(), reason="no IPv6 here")),
        "unix",
        ["tcp", "unix"],
        f"127.0.0.1:{free_port()}",
    ],
    ids=["tcp6", "unix", "several", "port"],
)
def test_binds(bind: str | list[str]) -> None:
    """Every address answers."""
    with Master("app:app", files=FILES, bind=bind) as m:
        assert len(m.addresses) == (2 if isinstance(bind, list) else 1)
        for address in m.addresses:
            with Wire(m.connect(address=address)) as wire:
                assert wire.request().status == 200


def test_sockets_of_systemd() -> None:
    """Sockets are handed over in the order given, and stay open when the master ends."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        with Master("app:app", files=FILES, bind=[], activate=[two, one]) as m:
            assert m.addresses == [two.getsockname(), one.getsockname()]
            with Wire(m.connect(address=one.getsockname())) as wire:
                assert wire.request().status == 200
        socket.create_connection(one.getsockname(), 5).close()


def test_inherited_descriptor() -> None:
    """``fd://`` binds to a descriptor that the test has opened."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        with Master("app:app", files=FILES, bind=f"fd://{fd}", pass_fds=[fd]) as m:
            assert m.address == sock.getsockname()
            with Wire(m.connect()) as wire:
                assert wire.request().status == 200


def test_config_and_environment() -> None:
    """The configuration is a file that gunicorn finds; the environment is the test's."""
    config = "def when_ready(server):\n    server.log.info('ready, says the file')\n"
    with Master("app:app", files=FILES, config=config, env={"KIT_ANSWER": "hello"}) as m:
        m.wait_log("ready, says the file")
        assert requests.get(m.base_url, timeout=5).text == "hello"


def test_environment_of_the_machine_is_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """GUNICORN_CMD_ARGS of whoever runs the tests does not leak in."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 3")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with Master("app:app", files=FILES) as m:
        assert len(m.workers()) == 1


def test_a_worker_is_killed_and_replaced() -> None:
    """``wait_workers`` takes a predicate, ``after`` a mark."""
    with Master("app:app", files=FILES) as m:
        (old,) = m.workers()
        mark = m.mark()
        m.kill_worker(old)
        (new,) = m.wait_workers(lambda pids: bool(pids) and old not in pids)
        match = m.wait_log(r"Booting worker with pid: (\d+)", after=mark)
        assert int(match[1]) == new
        m.wait_log(str(m.ready), after=mark)


def test_only_our_own_are_killed() -> None:
    """A pid of somebody else is refused."""
    with Master("app:app", files=FILES) as m:
        with pytest.raises(AssertionError, match="is not ours"):
            m.kill_worker(os.getpid(), signal.SIGCONT)


def test_usr2_makes_a_second_master() -> None:
    """The new master is no worker, and can be adopted."""
    with Master("app:app", files=FILES) as m:
        old, workers = m.pid, m.workers()
        m.signal(signal.SIGUSR2)
        new = wait_until(m.new_master, 10, "the new master")
        assert new is not None
        m.wait_log(str(m.ready), count=2)
        assert m.workers() == workers
        assert len(m.workers(new)) == 1
        m.signal(signal.SIGTERM)
        assert m.wait_exit() == 0
        m.adopt(new)
        assert (m.pid, proc.alive(old)) == (new, False)
        with Wire(m.connect()) as wire:
            assert wire.request().status == 200


def test_a_start_that_fails() -> None:
    """Without ``ready`` nothing is waited for, and the exit status can be asked."""
    with Master("nosuch:app", ready=None) as m:
        assert m.wait_exit() == 3
        assert "nosuch" in m.log()


def test_a_start_that_fails_is_told_at_once() -> None:
    """Nobody waits for the log line of the dead, and the failure shows their last words."""
    with pytest.raises(AssertionError, match=r"(?s)nobody lives.*No module named 'nosuch'"):
        Master("nosuch:app", start_timeout=60).__enter__()


def test_a_log_line_that_never_comes() -> None:
    """The failure names the pattern and shows the log's tail."""
    with Master("app:app", files=FILES) as m:
        with pytest.raises(AssertionError, match=r"(?s)/never/.*Booting worker"):
            m.wait_log("never", timeout=0.1)
        with pytest.raises(AssertionError, match=r"workers: \[\d+\]"):
            m.wait_workers(2, timeout=0.1)


def test_an_orphan_is_found_and_ended() -> None:
    """What the app leaves behind fails the test, and does not stay."""
    with pytest.raises(AssertionError, match=r"still alive: \d+ \(sleep\)") as failure:
        with Master("app:app", files=FILES) as m:
            assert requests.get(m.base_url + "/orphan", timeout=5).ok
            m.leftover_grace = 0.2
            assert "sleep" in [each.name for each in m.leftovers()]
    assert not m.leftovers(), failure


def test_a_master_that_does_not_end() -> None:
    """TERM in vain fails the test; what is left is killed all the same."""
    with pytest.raises(AssertionError, match="to exit"):
        with Master("app:app", files=FILES) as m:
            m.signal(signal.SIGSTOP)
            m.stop(timeout=0.2)
    assert not m.leftovers()


def test_a_master_that_ends_badly() -> None:
    """An exit status nobody asked for fails the test."""
    config = "def on_exit(server):\n    import os\n    os._exit(7)\n"
    with pytest.raises(AssertionError, match="master exited 7"):
        with Master("app:app", files=FILES, config=config):
            pass


def test_websocket_client() -> None:
    """Text, bytes, fragments, pings, and the end from either side."""
    with Master("app:app", files=FILES) as m:
        with WebSocketWire(m.connect()) as ws:
            assert ws.connect("/ws", ["a", "b"]).status == 101
            assert ws.subprotocol == "a"
            ws.send_text("in ", final=False)
            ws.send_text("two")
            assert ws.recv_text() == "in two"
            ws.ping(b"?")
            ws.send_bytes(b"\0" * 70000)
            assert ws.recv_bytes() == b"\0" * 70000
            ws.close(1000, "enough")
            assert ws.recv_close()[0] == 1000
            ws.recv_eof()
        m.wait_log("disconnected with 1000")


def test_websocket_server_closes() -> None:
    """Code and reason arrive, and the connection ends in order."""
    with Master("app:app", files=FILES) as m, WebSocketWire(m.connect()) as ws:
        ws.connect()
        ws.send_text("close")
        assert ws.recv_close() == (3000, "asked")
        ws.recv_eof()


def test_websocket_client_vanishes() -> None:
    """A reset is what the app hears of as 1006."""
    with Master("app:app", files=FILES) as m:
        ws = WebSocketWire(m.connect())
        ws.connect()
        ws.abort()
        m.wait_log("disconnected with 1006")
