"""Every kind of listening socket that Gunicorn's ``bind`` knows, and systemd's (docs, "Settings",
"Deploying Gunicorn"): served, described right in the scope, and left as they are.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM
from typing import Any

import pytest

from kit.master import Address, Master, free_port, wait_until
from kit.wire import WebSocketWire, Wire, request

APP = """
import asyncio, json, os

async def app(scope, receive, send):
    facts = {name: scope.get(name) for name in ("client", "server", "scheme")}
    facts["pid"] = os.getpid()
    body = json.dumps(facts)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body})
        await receive()
        return
    assert scope["type"] == "http"
    if scope["path"] == "/slow":
        with open("began", "w") as file:
            file.write(str(os.getpid()))
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body.encode()})
"""
FILES = {"app.py": APP}


def master(bind: str | list[str] | None = None, *args: str, **more: Any) -> Master:
    return Master("app:app", *args, bind=bind, files=FILES, **more)


def ask(m: Master, address: Address | None = None) -> dict[str, Any]:
    with Wire(m.connect(address=address)) as wire:
        facts: dict[str, Any] = wire.request().json()
        facts["us"] = wire.sock.getsockname()
        facts["them"] = wire.sock.getpeername()
        return facts


def ask_websocket(m: Master) -> dict[str, Any]:
    with WebSocketWire(m.connect()) as ws:
        assert ws.connect("/").status == 101
        facts: dict[str, Any] = json.loads(ws.recv_text())
        facts["us"] = ws.wire.sock.getsockname()
        return facts


@contextmanager
def crowd(m: Master, size: int) -> Iterator[list[Wire]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Wire(m.connect(30))) for _ in range(size)]


def ends(facts: dict[str, Any]) -> tuple[Any, Any]:
    return facts["client"], facts["server"]


def listening(family: int, address: Address) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen(50)
    return sock


# What the scope says (ASGI specs/www, "client" and "server")


@pytest.mark.parametrize("bind", ["tcp", "tcp6"])
def test_scope_has_host_and_port_of_both_ends(bind: str, loop_kind: str) -> None:
    with master(bind, env={"GUNICORN_ASGI_LOOP": loop_kind}) as m:
        facts = ask(m)
        # IPv6: flow and scope id of the address are not part of it, and the port is an int.
        assert ends(facts) == (list(facts["us"][:2]), list(facts["them"][:2]))
        assert facts["scheme"] == "http"
        ws = ask_websocket(m)
        assert ends(ws) == (list(ws["us"][:2]), list(m.address))
        assert ws["scheme"] == "ws"


def test_scope_of_a_unix_socket_has_its_path_and_no_client(loop_kind: str) -> None:
    with master("unix", env={"GUNICORN_ASGI_LOOP": loop_kind}) as m:
        assert isinstance(m.address, str)
        for facts in (ask(m), ask_websocket(m)):
            assert ends(facts) == (None, [m.address, None])


def test_an_ipv4_client_of_a_socket_for_both_families() -> None:
    with master("[::]:0") as m, Wire(m.connect(address=("127.0.0.1", m.port))) as wire:
        facts = wire.request().json()
        assert facts["client"] == ["::ffff:127.0.0.1", wire.sock.getsockname()[1]]
        assert facts["server"] == ["::ffff:127.0.0.1", m.port]


# Ways to bind


def test_several_binds_at_once_are_all_served_by_every_worker() -> None:
    with master(["tcp", "tcp6", "unix"], workers=2) as m:
        assert len(m.addresses) == 3
        pids = set(m.workers())
        for address in m.addresses:
            seen = set()
            for _ in range(300):
                seen.add(ask(m, address)["pid"])
                if seen == pids:
                    break
            assert seen == pids


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0))],
    ids=["tcp", "tcp6"],
)
def test_an_inherited_descriptor_is_served(family: int, address: Address) -> None:
    with listening(family, address) as sock:
        with master(f"fd://{sock.fileno()}", pass_fds=[sock.fileno()]) as m:
            name = list(sock.getsockname()[:2])
            facts = ask(m, tuple(name))
            assert ends(facts) == (list(facts["us"][:2]), name)


def test_an_inherited_unix_socket_is_served() -> None:
    # A short path: sun_path holds 108 bytes, and pytest's own temporary names are long.
    with tempfile.TemporaryDirectory(prefix="kit-") as place:
        path = f"{place}/s.sock"
        with listening(socket.AF_UNIX, path) as sock:
            with master(f"fd://{sock.fileno()}", pass_fds=[sock.fileno()]) as m:
                with Wire(m.connect(address=path)) as wire:
                    assert ends(wire.request().json()) == (None, [path, None])


def test_systemd_hands_over_two_sockets() -> None:
    # sd_listen_fds(3): LISTEN_PID and LISTEN_FDS, descriptors from 3 on.
    with (
        listening(socket.AF_INET, ("127.0.0.1", 0)) as one,
        listening(socket.AF_INET6, ("::1", 0)) as two,
        master([], activate=[one, two], workers=2) as m,
    ):
        for sock in (one, two):
            facts = ask(m, sock.getsockname()[:2])
            assert ends(facts) == (list(facts["us"][:2]), list(sock.getsockname()[:2]))
        m.signal(SIGTERM)
        assert m.wait_exit() == 0
        # systemd's sockets are systemd's: they listen on, for the next start.
        for sock in (one, two):
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_no_connection_is_lost_over_a_restart_under_socket_activation() -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as sock:
        with master([], activate=[sock]) as m:
            assert ask(m, sock.getsockname())
        with Wire(socket.create_connection(sock.getsockname(), 30)) as waiting:
            waiting.send(request())
            with master([], activate=[sock]):
                assert waiting.recv_response().status == 200


def test_an_abstract_unix_socket_is_served() -> None:
    # unix(7): a name that begins with NUL; in systemd ListenStream=@name.
    name = f"\0kit-{os.getpid()}-{free_port()}"
    with listening(socket.AF_UNIX, name) as sock, master([], activate=[sock]) as m:
        with Wire(m.connect(address=name)) as wire:
            assert ends(wire.request().json()) == (None, [name, None])


# The master's sockets stay the master's


def max_backlog(sock: socket.socket) -> int:
    """The length that listen() has set: of a listening socket, that is tcpi_sacked (tcp.h)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    unpacked: int = struct.unpack("8B24I", info)[13]
    return unpacked


def test_the_backlog_is_the_one_of_the_settings() -> None:
    wanted = min(777, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen: that is left to Gunicorn
        bind = f"fd://{sock.fileno()}"
        with master(bind, "--backlog", "777", pass_fds=[sock.fileno()], workers=2) as m:
            for _ in range(10):
                assert ask(m, sock.getsockname())
            assert max_backlog(sock) == wanted
            m.signal(SIGHUP)
            m.wait_log(r"Worker ready", count=4)
            assert max_backlog(sock) == wanted


def test_the_backlog_holds_whom_nobody_accepts_yet() -> None:
    config = "def post_worker_init(worker):\n    import os, time\n"
    config += "    while not os.path.exists('go'):\n        time.sleep(0.01)\n"
    with master(config=config, ready=None) as m:
        m.wait_log(r"Listening at")
        with crowd(m, 20) as wires:
            for wire in wires:
                wire.send(request())
            m.write("go", "")
            assert [wire.recv_response().status for wire in wires] == [200] * 20


# reuse_port (since Gunicorn 24 each worker then has a socket of its own)


def reuse(workers: int = 2) -> Master:
    address = f"127.0.0.1:{free_port()}"
    return master(address, "--reuse-port", "--graceful-timeout", "30", workers=workers)


def test_reuse_port_is_served_by_every_worker() -> None:
    with reuse() as m:
        seen: set[int] = set()
        for _ in range(300):
            seen.add(ask(m)["pid"])
        assert seen == set(m.workers())


def test_with_reuse_port_nobody_is_sent_to_a_worker_that_drains() -> None:
    # A socket of its own that went on listening would still get its share of new connections.
    with reuse() as m, Wire(m.connect(30)) as slow:
        slow.send(request("GET", "/slow"))
        began = m.dir / "began"
        pid = int(wait_until(lambda: began.exists() and began.read_text()))
        m.kill_worker(pid, SIGTERM)
        m.wait_log(rf"Worker leaving \(pid: {pid}\)")
        for _ in range(50):
            assert ask(m)["pid"] != pid
        m.write("go", "")
        assert slow.recv_response().json()["pid"] == pid


def test_with_reuse_port_who_waits_is_not_dropped_when_a_worker_drains() -> None:
    with reuse(workers=1) as m:
        for turn in range(1, 6):
            (pid,) = m.workers()
            with crowd(m, 30) as wires:
                m.kill_worker(pid, SIGTERM)
                for wire in wires:
                    wire.send(request())
                assert {wire.recv_response().json()["pid"] for wire in wires} == {pid}
            m.wait_log(r"Worker ready", count=turn + 1)
            m.wait_workers(1)


# The end of listening


def test_a_server_that_stops_serves_who_waits_and_refuses_who_comes_later() -> None:
    # Neither is left in the backlog of a socket that nobody will accept from again.
    with master(None, "--graceful-timeout", "30") as m, Wire(m.connect(30)) as slow:
        slow.send(request("GET", "/slow"))
        wait_until(lambda: (m.dir / "began").exists())
        (pid,) = m.workers()
        with crowd(m, 20) as wires:
            m.signal(SIGTERM)
            for wire in wires:
                wire.send(request())
            assert {wire.recv_response().json()["pid"] for wire in wires} == {pid}
        m.wait_log(r"Worker leaving")
        wait_until(lambda: refused(m), 10, "new connections to be refused")
        m.write("go", "")
        assert slow.recv_response().status == 200


def refused(m: Master) -> bool:
    try:
        m.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_address_is_free_while_workers_of_a_killed_master_drain() -> None:
    # Such as systemd's Restart=always needs it.
    with master(None, "--graceful-timeout", "30", checked=False) as old:
        with Wire(old.connect(30)) as slow:
            slow.send(request("GET", "/slow"))
            wait_until(lambda: (old.dir / "began").exists())
            old.signal(SIGKILL)
            old.wait_log(r"the master is gone")
            with master(f"127.0.0.1:{old.port}") as new:
                assert ask(new)["pid"] in new.workers()
            old.write("go", "")
            assert slow.recv_response().status == 200
