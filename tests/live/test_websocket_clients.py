"""Real WebSocket clients: what each of them does, and sees, with compression and without."""

from __future__ import annotations

import random
import uuid
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kit.master import Master, wait_until
from kit.tls import Certificates
from kit.wsclients import Closed, Library, Message, Refused, Talker
from kit.wslibraries import LIBRARIES
from kit.wsnode import by_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__: list[str] = []

APP = (Path(__file__).parent / "apps" / "clients.py").read_text()
LARGEST = 2_000_000
FORMAT = "%(s)s %(q)s %(b)s %({ws_bytes_received}e)s"
CONFIG = f"websocket_max_message_size = {LARGEST}\naccess_log_format = {FORMAT!r}\n"
# Where the length of a frame takes another form (RFC 6455, 5.2), and a large one.
SIZES = (1, 125, 126, 65535, 65536, 1_000_000)


class Case(NamedTuple):
    """A client library, whether it offers compression, and whom it talks to."""

    name: str
    deflate: bool
    server: str = "uvloop"

    def __str__(self) -> str:
        """For pytest."""
        return f"{self.name}-{'deflate' if self.deflate else 'plain'}-{self.server}"


CASES = [
    *(
        Case(name, deflate)
        for name, library in LIBRARIES.items()
        for deflate in ([False, True] if library.deflates else [False])
    ),
    *(Case("websockets", deflate, "asyncio") for deflate in (False, True)),
    Case("ws", True, "asyncio"),
    # Not websockets.sync: reading and writing in two threads, it hangs now and then over TLS,
    # with its own server too (websockets 17.4 on Python 3.11; one of some 300 handshakes).
    Case("websockets", True, "tls"),
    Case("aiohttp", False, "tls"),
    Case("ws", True, "tls"),
]


every = pytest.mark.parametrize(
    "case",
    [
        pytest.param(each, id=str(each), marks=by_node if each.name == "ws" else ())
        for each in CASES
    ],
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For wss."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def started(certificates: Certificates) -> Iterator[Callable[[str], Any]]:
    """Masters and libraries by name, each started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def start(name: str) -> Master | Library:
            if name in LIBRARIES:
                library = LIBRARIES[name]()
                stack.callback(library.stop)
                return library
            args = certificates.args() if name == "tls" else ()
            loop = {"GUNICORN_ASGI_LOOP": "asyncio" if name == "asyncio" else "uvloop"}
            files = {"app.py": APP}
            master = Master("app:app", *args, config=CONFIG, files=files, env=loop, access_log=True)
            return stack.enter_context(master)

        yield start


class Server:
    """A master as the client library of a case sees it."""

    def __init__(self, case: Case, master: Master, library: Library, authority: str) -> None:
        """Nothing is opened yet."""
        self.case = case
        self.master = master
        self.library = library
        self.authority = authority if case.server == "tls" else ""

    def open(self, path: str, *subprotocols: str) -> Talker:
        """Open a WebSocket."""
        scheme = "wss" if self.authority else "ws"
        url = f"{scheme}://127.0.0.1:{self.master.port}{path}"
        return self.library.connect(
            url, subprotocols=subprotocols, deflate=self.case.deflate, authority=self.authority
        )


@pytest.fixture
def server(case: Case, started: Callable[[str], Any], certificates: Certificates) -> Server:
    """One master for all cases of a kind."""
    authority = certificates.cert("ca")
    return Server(case, started(case.server), started(case.name), authority)


def text(size: int) -> str:
    """A text of so many bytes, in characters of one to four."""
    several = "a\N{SNOWMAN}\U0001f600\xe9"
    whole = several * (size // len(several.encode()))
    return whole + "z" * (size - len(whole.encode()))


def wire_bytes(server: Server, path: str) -> tuple[int, int]:
    """What the access log has of the WebSocket that has ended there: bytes to it, and from it."""
    query = path.partition("?")[2]

    def line() -> list[str]:
        lines = [each.split() for each in server.master.access()]
        return next((each for each in lines if each[1] == query and each[0] != "101"), [])

    _, _, sent, received = wait_until(line, 10, f"the end of {query}")
    return int(sent), int(received)


# -- handshake -------------------------------------------------------------------------------------


@every
def test_subprotocol_and_extension_are_agreed_upon(server: Server) -> None:
    """RFC 6455, 4.2.2 and RFC 7692, 5: what was offered, and nothing else."""
    with server.open("/echo", "kit.v1", "kit.v2") as ws:
        assert ws.subprotocol == "kit.v2"
        assert ws.deflate is server.case.deflate
    with server.open("/echo") as ws:
        assert ws.subprotocol is None


@every
def test_handshake_that_is_refused(server: Server) -> None:
    """WebSocket, "Close", and the extension websocket.http.response, in one piece and in many."""
    with pytest.raises(Refused) as refused:
        server.open("/refuses")
    assert refused.value.status == 403
    for path in ("/denies", "/denies-piece-by-piece"):
        with pytest.raises(Refused) as refused:
            server.open(path)
        assert (refused.value.status, refused.value.headers["x-why"]) == (401, "no name")
        # websocket-client reads a body by its Content-Length only.
        whole = path == "/denies" or server.case.name != "websocket-client"
        if server.library.shows_body and whole:
            assert refused.value.body == b"who are you?"


# -- messages --------------------------------------------------------------------------------------


@every
def test_messages_of_every_size_come_back(server: Server) -> None:
    """In kind: text behind binary and the other way round; what compresses, and what does not."""
    with server.open("/echo") as ws:
        for message in ("", b"", "\N{SNOWMAN}", b"\0\xff"):
            ws.send(message)
            assert ws.recv() == message
        for size in SIZES:
            messages: list[Message] = [random.randbytes(size), "x" * size, b"\0" * size, text(size)]
            for message in messages:
                ws.send(message)
                assert ws.recv() == message


@every
def test_fragments_are_one_message(server: Server) -> None:
    """RFC 6455, 5.4; characters are cut in the middle nowhere."""
    if not server.library.fragments:
        assert server.case.name == "aiohttp"
        return
    parts = ["one ", "", "\N{SNOWMAN}" * 5000, " three"]
    with server.open("/echo") as ws:
        ws.send_fragments(parts)
        assert ws.recv() == "".join(parts)
        ws.send("whole")
        assert ws.recv() == "whole"


@every
def test_pings_are_answered(server: Server) -> None:
    """RFC 6455, 5.5.3: with the payload of the Ping."""
    with server.open("/echo") as ws:
        for payload in (b"p", b"x" * 125):
            ws.ping(payload)
        ws.send("and on")
        assert ws.recv() == "and on"


@every
def test_hundred_messages_with_what_both_ends_remember(server: Server) -> None:
    """RFC 7692, 7.1.1: with context takeover they cost nearly nothing, else what they are."""
    path = f"/echo?{uuid.uuid4().hex}"
    one = random.randbytes(600).hex()
    with server.open(path) as ws:
        for number in range(100):
            ws.send(f"{number} {one}")
            assert ws.recv() == f"{number} {one}"
        ws.close(1000, "")
    for size in wire_bytes(server, path):
        if server.case.deflate:
            assert size < 20_000
        else:
            assert size > 120_000


@every
def test_fifty_at_a_time(server: Server) -> None:
    """Each gets its own, in its order, whatever is between."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(server.open("/echo")) for _ in range(50)]
        for turn in range(3):
            for number, ws in enumerate(sockets):
                ws.send(f"{turn} of {number}")
                ws.send(b"%d" % number * 100)
            for number, ws in reversed(list(enumerate(sockets))):
                assert ws.recv() == f"{turn} of {number}"
                assert ws.recv() == b"%d" % number * 100


# -- the end ---------------------------------------------------------------------------------------


@every
def test_client_closes_with_code_and_reason(server: Server) -> None:
    """RFC 6455, 5.5.1: the application is told, and the server answers with the same."""
    query = uuid.uuid4().hex
    mark = server.master.mark()
    with server.open(f"/echo?{query}") as ws:
        ws.send("first")
        assert ws.recv() == "first"
        seen = ws.close(4001, "bye, \xfc")
    assert seen.code == 4001
    assert seen.reason in ("bye, \xfc", None)
    server.master.wait_log(f"ended {query} 4001 bye, \xfc", after=mark)


@every
def test_application_closes(server: Server) -> None:
    """RFC 6455, 7.4: with its code, by its end, by its fault; behind all that it has sent."""
    with server.open("/closes") as ws:
        assert ws.recv() == "before the end"
        with pytest.raises(Closed) as closed:
            ws.recv()
        assert (closed.value.code, closed.value.reason) == (4321, "enough, \N{SNOWMAN}")
    for path, code in (("/returns", 1000), ("/raises", 1011)):
        with server.open(path) as ws, pytest.raises(Closed) as closed:
            ws.recv()
        assert closed.value.code == code


@every
def test_message_that_is_too_large_is_1009(server: Server) -> None:
    """websocket_max_message_size: of what it is, not of what it is squeezed into."""
    with server.open("/echo") as ws:
        ws.send("x" * LARGEST)
        assert ws.recv() == "x" * LARGEST
        ws.send("x" * (LARGEST + 1))
        with pytest.raises(Closed) as closed:
            ws.recv()
        assert closed.value.code == 1009
