"""aio/server.py: accepting by hand, on real sockets, with its brakes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.loopback import Bind, anonymous_tls, serving
from kit.rig import Receive, Scope, Send, body, both_loops, respond, start, turns, until

__all__: list[str] = []


async def ends(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with both ends of the connection."""
    await respond(send, repr((scope["scheme"], scope["client"], scope["server"])).encode())


# -- sockets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@both_loops
async def test_tcp_is_served_and_both_ends_are_named(host: str) -> None:
    """HTTP scope, `client` and `server`; IPv6's four-tuple is cut to two."""
    async with serving(ends, binds=[(host, 0)]) as served:
        peer = await served.connect()
        response = await peer.get()
        client = peer.writer.get_extra_info("sockname")[:2]
        server = served.socks[0].getsockname()[:2]
        assert response.body == repr(("http", tuple(client), tuple(server))).encode()


@both_loops
async def test_unix_socket_is_served(tmp_path: Path) -> None:
    """HTTP scope, `server`: path and None."""
    path = tmp_path / "app.sock"
    async with serving(ends, path=path) as served:
        peer = await served.connect()
        assert (await peer.get()).body == repr(("http", None, (str(path), None))).encode()


@both_loops
async def test_abstract_unix_socket_is_served() -> None:
    """unix(7): its name is bytes, with a leading NUL."""
    name = f"\0gunicorn_asgi-{os.getpid()}"
    async with serving(ends, binds=[name]) as served:
        peer = await served.connect()
        assert (await peer.get()).body == repr(("http", None, (name, None))).encode()


@both_loops
async def test_tls_is_served() -> None:
    """The context is the listener's; the scheme tells."""
    async with serving(ends, tls=anonymous_tls()) as served:
        peer = await served.connect(tls=True)
        assert (await peer.get()).body.startswith(b"('https', ('127.0.0.1', ")


@both_loops
async def test_several_sockets_are_served_at_once(tmp_path: Path) -> None:
    """Several binds."""
    binds: list[Bind] = [("127.0.0.1", 0), ("::1", 0), str(tmp_path / "app.sock")]
    async with serving(binds=binds) as served:
        for number in range(3):
            peer = await served.connect(number)
            assert (await peer.get(f"/{number}")).body == b"/%d" % number


@both_loops
async def test_every_connection_of_a_burst_is_accepted() -> None:
    """One for each wake-up, until there is none."""
    async with serving() as served:
        peers = await asyncio.gather(*(served.connect() for _ in range(40)))
        responses = await asyncio.gather(*(peer.get() for peer in peers))
        assert [response.status for response in responses] == [200] * 40
        assert len(served.state.connections) == 40


# -- start and suspend -----------------------------------------------------------------------------


@both_loops
async def test_suspended_server_accepts_no_more_and_serves_on() -> None:
    """The socket is the caller's and stays open: the backlog holds whoever comes meanwhile."""
    async with serving() as served:
        before = await served.connect()
        await before.get()
        served.server.suspend()
        served.server.suspend()
        late = await served.connect()
        late.send(b"GET /late HTTP/1.1\r\nHost: kit\r\n\r\n")
        await before.get()
        await turns(200)
        assert len(served.state.connections) == 1
        assert late.received == b""
        served.server.start()
        served.server.start()
        await until(lambda: late.received.endswith(b"/late"))


@both_loops
async def test_server_that_was_never_started_can_be_suspended() -> None:
    """A worker that leaves while it boots."""
    async with serving() as served:
        served.server.suspend()
        late = await served.connect()
        await turns(200)
        assert not served.state.connections
        await late.close()


@both_loops
async def test_backlog_is_taken_before_the_listeners_are_closed() -> None:
    """Whoever the kernel has let in is served, although nobody accepts any more."""
    async with serving() as served:
        served.server.suspend()
        peers = [await served.connect() for _ in range(5)]
        served.server.take_waiting()
        for peer in peers:
            assert (await peer.get()).status == 200
        late = await served.connect()
        await turns(200)
        assert len(served.state.connections) == 5
        await late.close()


@both_loops
async def test_backlog_is_taken_up_to_worker_connections() -> None:
    """Limits.connections holds to the end, and nothing is resumed below it."""
    async with serving(connections=2) as served:
        served.server.suspend()
        peers = [await served.connect() for _ in range(3)]
        served.server.take_waiting()
        for peer in peers[:2]:
            assert (await peer.get()).status == 200
        await peers[0].close()
        await until(lambda: len(served.state.connections) == 1)
        await turns(200)
        assert len(served.state.connections) == 1


# -- worker_connections ----------------------------------------------------------------------------


async def unfinished(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, and hold the place: whoever is idle would have to make room."""
    await send(start())
    await send(body(b"so far", more=True))
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize("burst", [False, True])
@both_loops
async def test_accepting_stops_at_worker_connections_and_goes_on_below(burst: bool) -> None:
    """Exactly that many, although several are accepted at once; one line, however often."""
    async with serving(unfinished, connections=6) as served:
        if burst:
            served.server.suspend()
        peers = [await served.connect() for _ in range(9)]
        if burst:
            served.server.start()
        for peer in peers:
            peer.send(b"GET / HTTP/1.1\r\nHost: kit\r\n\r\n")
        await until(lambda: sum(bool(peer.received) for peer in peers) == 6)
        await turns(200)
        assert len(served.state.connections) == 6
        for count in (7, 8, 9):
            answered = next(peer for peer in peers if peer.received and not peer.ended)
            await answered.close()
            await until(lambda count=count: sum(bool(p.received) for p in peers) == count)  # type: ignore[misc]
            assert len(served.state.connections) <= 6
        assert served.log.lines("warning") == ["worker_connections (6) reached: not accepting"]


@both_loops
async def test_worker_connections_of_0_is_no_limit() -> None:
    """Limits.connections: 0."""
    async with serving(connections=0) as served:
        peers = [await served.connect() for _ in range(5)]
        for peer in peers:
            assert (await peer.get()).status == 200


@both_loops
async def test_connection_that_fails_to_open_gives_its_place_free() -> None:
    """worker_connections and TLS: a peer that speaks something else must not block the next."""
    async with serving(tls=anonymous_tls(), connections=1) as served:
        wrong = await served.connect()
        wrong.send(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: wrong.ended)
        right = await served.connect(tls=True)
        assert (await right.get()).status == 200
        assert any("could not be opened" in line for line in served.log.lines("debug"))
        assert served.log.lines("error") == []


@both_loops
async def test_suspended_server_does_not_resume_when_a_connection_goes() -> None:
    """worker_connections was reached, and then the drain began."""
    async with serving(connections=1) as served:
        first = await served.connect()
        await first.get()
        late = await served.connect()
        served.server.suspend()
        await first.close()
        await until(lambda: not served.state.connections)
        await turns(200)
        assert not served.state.connections
        await late.close()


# -- descriptors run out ---------------------------------------------------------------------------


class Counting(socket.socket):
    """Counts how often accept is called, and fails as it is told."""

    calls = 0
    failures: list[int] = []  # noqa: RUF012 - one list for the sockets of one test

    def accept(self) -> tuple[socket.socket, Any]:
        """Fail, or accept."""
        type(self).calls += 1
        if self.failures:
            raise OSError(self.failures.pop(), "failed")
        return super().accept()


@pytest.fixture
def counting() -> type[Counting]:
    """A class of its own, so that nothing is left of it."""

    class Fresh(Counting):
        calls = 0
        failures: list[int] = []  # noqa: RUF012

    return Fresh


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let every further open of this process fail with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [int(name) for name in os.listdir("/proc/self/fd")]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    spare = []
    try:
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.dup(taken[0]))  # numbers that are free below the limit
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in spare:
            os.close(number)


@both_loops
async def test_accepting_pauses_while_the_process_has_no_descriptors(
    counting: type[Counting],
) -> None:
    """EMFILE: one attempt and one line for each pause, no busy loop; and on when there are some."""
    async with serving(kind=counting, accept_pause=0.05) as served:
        early = await served.connect()
        await early.get()
        peer_sock = socket.create_connection(served.socks[0].getsockname())
        # Nothing of this block opens a file: what is accepted needs a number that is not free.
        served.server.suspend()
        other = socket.create_connection(served.socks[0].getsockname())
        with no_more_descriptors():
            calls = counting.calls
            served.server.start()
            await until(lambda: len(served.log.lines("error")) >= 2)
            assert counting.calls - calls == len(served.log.lines("error"))
            early.send(b"GET /still HTTP/1.1\r\nHost: kit\r\n\r\n")
            await until(lambda: early.received.endswith(b"/still"))
        for line in served.log.lines("error"):
            assert line.startswith("Not accepting for 0.05 s: [Errno 24]")
        await until(lambda: len(served.state.connections) == 3)
        peer_sock.close()
        other.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
@both_loops
async def test_accepting_goes_on_after_the_pause(code: int, counting: type[Counting]) -> None:
    """accept(2): the machine has run out of something."""
    counting.failures = [code]
    async with serving(kind=counting, accept_pause=0.01) as served:
        peer = await served.connect()
        assert (await peer.get()).status == 200
        (line,) = served.log.lines("error")
        assert line.startswith(f"Not accepting for 0.01 s: [Errno {code}]")


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ECONNABORTED, errno.EINTR])
@both_loops
async def test_connection_that_is_gone_before_it_is_accepted_is_nothing(
    code: int, counting: type[Counting]
) -> None:
    """accept(2): a neighbour was faster, or the peer has left."""
    counting.failures = [code] * 3
    async with serving(kind=counting, accept_pause=60.0) as served:
        peer = await served.connect()
        assert (await peer.get()).status == 200
        assert served.log.lines() == []
        assert counting.calls == 4


@both_loops
async def test_suspended_server_does_not_resume_after_the_pause(counting: type[Counting]) -> None:
    """Descriptors had run out, and then the drain began."""
    counting.failures = [errno.EMFILE]
    async with serving(kind=counting, accept_pause=0.02) as served:
        late = await served.connect()
        await until(lambda: served.log.lines("error"))
        served.server.suspend()
        over = asyncio.Event()
        served.state.loop.call_later(0.1, over.set)
        await over.wait()
        assert counting.calls == 1
        assert not served.state.connections
        await late.close()


@both_loops
async def test_pause_that_ends_in_a_suspended_server_resumes_nothing(
    counting: type[Counting],
) -> None:
    """Started again meanwhile, it accepts once and not twice for each connection."""
    counting.failures = [errno.EMFILE]
    async with serving(kind=counting, accept_pause=0.02) as served:
        peer = await served.connect()
        await until(lambda: served.log.lines("error"))
        served.server.start()
        assert (await peer.get()).status == 200
        over = asyncio.Event()
        served.state.loop.call_later(0.1, over.set)
        await over.wait()
        assert (await peer.get()).status == 200
