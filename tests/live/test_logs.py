"""The access log in all its forms: Gunicorn's own loggers, fed after each response."""

from __future__ import annotations

import base64
import json
import re
import socket
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.master import Master, wait_until
from kit.wire import WebSocketWire, Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = (Path(__file__).parent / "apps" / "wire.py").read_text()
ATOMS = "h l u t r s m U q H b B f a T D M L p".split()
EXTRA = {
    "in": "{X-In}i",
    "out": "{X-Echo}o",
    "env": "{REQUEST_METHOD}e",
    "scheme": "{wsgi.url_scheme}e",
    "port": "{SERVER_PORT}e",
    "none": "{X-None}i",
}
SEPARATOR = "|"
FORMAT = SEPARATOR.join(
    [f"{atom}=%({atom})s" for atom in ATOMS] + [f"{name}=%({x})s" for name, x in EXTRA.items()]
)


def fields(line: str) -> dict[str, str]:
    """A line of FORMAT, taken apart."""
    return dict(part.partition("=")[::2] for part in line.split(SEPARATOR))


@contextmanager
def served(*args: str, **more: str) -> Iterator[Master]:
    with Master("app:app", *args, files={"app.py": APP}, access_log=True, **more) as master:  # type: ignore[arg-type]
        yield master


@pytest.fixture(scope="module")
def server() -> Iterator[Master]:
    """One worker that logs every atom."""
    with served("--access-logformat", FORMAT) as master:
        yield master
        assert "Exception in the access log" not in master.log()
        assert "Logging error" not in master.log(), master.log()[-4000:]


@pytest.fixture
def logged(server: Master) -> Logged:
    """What the access log gets from now on."""
    return Logged(server)


class Logged:
    """The lines of the access log that come from now on."""

    def __init__(self, server: Master) -> None:
        """Remember how many there are."""
        self.server = server
        self.count = len(server.access())

    def lines(self, count: int = 1) -> list[str]:
        """So many new ones, and no more."""
        lines = self.server.wait_access(self.count + count)[self.count :]
        assert len(lines) == count, lines
        return lines

    def fields(self) -> dict[str, str]:
        return fields(self.lines()[0])


# Atoms (access_log_format)


def test_every_atom_tells_the_truth(server: Master, logged: Logged) -> None:
    headers = {
        "Authorization": "Basic " + base64.b64encode(b"alice:secret").decode(),
        "Referer": "http://example.com/before",
        "User-Agent": "kit/1",
        "X-In": "value",
    }
    with Wire(server.connect()) as wire:
        assert wire.request("POST", "/echo?a=%41&b", headers, b"12345").body == b"12345"
    told = logged.fields()
    (worker,) = server.workers()
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", told.pop("t"))
    assert float(told["L"]) < 5
    assert int(told.pop("D")) == round(float(told.pop("L")) * 1e6) > 0
    assert int(told.pop("M")) < 5000
    assert int(told.pop("T")) < 5
    assert told == {
        "h": "127.0.0.1",
        "l": "-",
        "u": "alice",
        "r": "POST /echo?a=%41&b HTTP/1.1",
        "s": "200",
        "m": "POST",
        "U": "/echo",
        "q": "a=%41&b",
        "H": "HTTP/1.1",
        "b": "5",
        "B": "5",
        "f": "http://example.com/before",
        "a": "kit/1",
        "p": f"<{worker}>",
        "in": "value",
        "out": "5",
        "env": "POST",
        "scheme": "http",
        "port": str(server.port),
        "none": "-",
    }


@pytest.mark.parametrize(
    ("method", "target", "status", "size"),
    [
        ("GET", "/pieces", "200", "11"),
        ("HEAD", "/pieces", "200", "0"),
        ("GET", "/status?status=204&body=dropped", "204", "0"),
        ("GET", "/status?status=304&body=dropped", "304", "0"),
        ("GET", "/status?status=404&body=gone", "404", "4"),
        ("GET", "/status?status=599", "599", "0"),
        ("GET", "/status?status=one", "500", "0"),
    ],
)
def test_status_and_size_are_those_of_the_wire(
    server: Master, logged: Logged, method: str, target: str, status: str, size: str
) -> None:
    """Body bytes, without framing; an application's fault is the 500 that the client got."""
    with Wire(server.connect()) as wire:
        assert wire.request(method, target).status == int(status)
    told = logged.fields()
    assert (told["s"], told["m"], told["b"]) == (status, method, size)


def test_each_request_of_a_connection_has_a_line_in_order(server: Master, logged: Logged) -> None:
    with Wire(server.connect()) as wire:
        wire.send(b"".join(request("GET", f"/echo?{number}") for number in range(20)))
        for _ in range(20):
            wire.recv_response()
    assert [fields(line)["q"] for line in logged.lines(20)] == [str(each) for each in range(20)]


def test_the_line_comes_after_the_response_and_with_its_duration(
    server: Master, logged: Logged
) -> None:
    with Wire(server.connect()) as wire:
        wire.send(request("POST", "/piecewise-echo", {"Transfer-Encoding": "chunked"}))
        wire.send(b"4\r\nping\r\n")
        assert wire.recv_head().status == 200
        assert wire.recv_chunk() == b"ping"
        # Its head is long out, and yet there is no line.
        wire.assert_silent(0.2)
        assert len(server.access()) == logged.count
        wire.send(b"0\r\n\r\n")
        assert wire.recv_chunk() is None
    told = logged.fields()
    assert (told["s"], told["B"]) == ("200", "4")
    assert float(told["L"]) >= 0.2
    assert int(told["D"]) >= 200_000
    assert int(told["M"]) >= 200


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("path", ["/disconnected?name=a", "/streams?name=b"])
def test_a_request_whose_client_has_left_is_a_499(
    server: Master, logged: Logged, path: str, end: str
) -> None:
    """nginx's code for it; a stream has a size, what was sent so far."""
    with Wire(server.connect()) as wire:
        wire.send(request("GET", path))
        if path.startswith("/streams"):
            assert wire.recv_head().status == 200
            assert wire.recv_chunk() == b"tick"
        else:
            with Wire(server.connect()) as other:
                wait_until(
                    lambda: other.request("GET", "/events?name=a").json().get("state") == "waiting"
                )
        getattr(wire, end)()
    wait_until(lambda: any("|s=499|" in each for each in server.access()[logged.count :]), 10)
    (line,) = [each for each in server.access()[logged.count :] if "|s=499|" in each]
    told = fields(line)
    assert told["r"] == f"GET {path} HTTP/1.1"
    assert int(told["B"]) >= (4 if path.startswith("/streams") else 0)


def test_a_websocket_has_a_line_when_it_opens_and_one_when_it_is_over() -> None:
    app = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await receive()
        await receive()
"""
    form = f"{FORMAT}|sent=%({{ws_sent}}e)s|came=%({{ws_received}}e)s/%({{ws_bytes_received}}e)s"
    with Master(
        "app:app", "--access-logformat", form, files={"app.py": app}, access_log=True
    ) as master:
        with WebSocketWire(master.connect()) as ws:
            assert ws.connect("/ws?q").status == 101
            assert ws.recv_text() == "hello"
            opening = fields(master.wait_access(1)[0])
            ws.send_text("three")
            ws.close(4000)
            assert ws.recv_close()[0] == 4000
        end = fields(master.wait_access(2)[1])
    for told, status in ((opening, "101"), (end, "4000")):
        assert (told["r"], told["s"], told["q"]) == ("GET /ws?q HTTP/1.1", status, "q")
    # Frames of "hello" and "three", the latter masked, and a masked Close frame with a code.
    assert (opening["sent"], opening["B"], opening["came"]) == ("-", "0", "-/-")
    assert (end["sent"], end["B"], end["came"]) == ("1", "7", "1/19")


def test_a_unix_socket_has_no_address_to_log() -> None:
    with (
        served("--access-logformat", FORMAT, bind="unix") as master,
        Wire(master.connect()) as wire,
    ):
        assert wire.request("POST", "/echo", body=b"body").status == 200
        told = fields(master.wait_access(1)[0])
    assert (told["h"], told["s"], told["port"]) == ("-", "200", "-")


# A log line stays one line, and printable (CWE-117, CVE-2020-7694)

ESCAPES = ["%1b[31mred", "a%0d%0aforged", "a%0aforged", "%00", "%7f", "%c2%9b31m", "%e2%80%a8x"]


@pytest.mark.parametrize("path", ESCAPES)
def test_escape_sequences_of_a_path_do_not_reach_the_log(
    server: Master, logged: Logged, path: str
) -> None:
    with Wire(server.connect()) as wire:
        assert wire.request("GET", f"/{path}?{path}").status == 200
    told = logged.fields()
    assert told["r"] == f"GET /{path}?{path} HTTP/1.1"
    assert told["U"].isprintable()
    assert len(told["U"]) > 1


def test_escape_sequences_of_a_user_name_do_not_reach_the_log(
    server: Master, logged: Logged
) -> None:
    """Gunicorn's logger decodes it from the Authorization field."""
    secret = base64.b64encode(b"\x1b[31m\nforged:secret").decode()
    with Wire(server.connect()) as wire:
        assert wire.request("GET", "/echo", {"Authorization": f"Basic {secret}"}).status == 200
    (line,) = logged.lines()
    assert line.isprintable()
    assert fields(line)["s"] == "200"


def test_control_characters_of_latin_1_do_not_reach_the_log(server: Master, logged: Logged) -> None:
    """0x9b alone is a control sequence introducer, and allowed in a field (RFC 9110, 5.5)."""
    headers = {"User-Agent": b"\x9b31m\x85red", "X-In": b"\x9b31m", "Referer": b"caf\xe9"}
    with Wire(server.connect()) as wire:
        assert wire.request("GET", "/echo", headers).status == 200
    (line,) = logged.lines()
    assert line.isprintable(), line
    assert fields(line)["f"] == "caf\xe9"


def test_escape_sequences_do_not_reach_the_error_log_either(server: Master) -> None:
    mark = server.mark()
    with Wire(server.connect()) as wire:
        assert wire.request("GET", "/status?status=%1b[31m").status == 500
    with Wire(server.connect()) as wire:
        wire.send(b"GET /\x1b[31m HTTP/1.1\r\nHost: kit\r\n\r\n")
        assert wire.recv_response().status == 400
    server.wait_log("Refused a request from", after=mark)
    log = server.log(after=mark).replace("\n", "")
    assert log.isprintable(), [each for each in log if not each.isprintable()]


# Where it goes

CUSTOM = """
import json
from gunicorn.glogging import Logger

class Custom(Logger):
    def access(self, resp, req, environ, request_time):
        told = {
            "status": resp.status,
            "sent": resp.sent,
            "method": req.method,
            "uri": req.uri,
            "path": environ["PATH_INFO"],
            "seconds": request_time.total_seconds(),
            "atoms": sorted(self.atoms(resp, req, environ, request_time)),
        }
        self.error_log.info("CUSTOM %s", json.dumps(told))
"""


def test_a_logger_class_gets_what_it_gets_from_gunicorn() -> None:
    files = {"app.py": APP, "custom.py": CUSTOM}
    with Master("app:app", "--logger-class", "custom.Custom", files=files) as master:
        with Wire(master.connect()) as wire:
            assert wire.request("POST", "/echo?q", {"X-In": "1"}, b"12345").status == 200
        told = json.loads(master.wait_log(r"CUSTOM (.*)$")[1])
    assert 0 < told.pop("seconds") < 5
    atoms = told.pop("atoms")
    assert set(ATOMS) < set(atoms)
    assert {"{x-in}i", "{x-echo}o", "{request_method}e"} < set(atoms)
    assert told == {
        "status": "200 OK",
        "sent": 5,
        "method": "POST",
        "uri": "/echo?q",
        "path": "/echo",
    }


RAISING = """
from gunicorn.glogging import Logger

class Raising(Logger):
    def access(self, resp, req, environ, request_time):
        raise ValueError("no ink")
"""


def test_a_logger_class_that_raises_costs_a_line_and_no_connection() -> None:
    files = {"app.py": APP, "custom.py": RAISING}
    with Master("app:app", "--logger-class", "custom.Raising", files=files) as master:
        with Wire(master.connect()) as wire:
            for number in range(3):
                body = b"%d" % number
                assert wire.request("POST", "/echo", body=body).body == body
        master.wait_log("^ValueError: no ink$", count=3)
        master.wait_log("Exception in the access log", count=3)
        assert "The application raised" not in master.log()


DICT = """
import os
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(name)s %(levelname)s %(message)s"}},
    "handlers": {
        "file": {
            "class": "logging.FileHandler",
            "formatter": "plain",
            "filename": os.path.join(os.path.dirname(__file__), "dict.log"),
        },
    },
    "root": {"level": "INFO", "handlers": []},
    "loggers": {
        "gunicorn.access": {"level": "INFO", "handlers": ["file"], "propagate": False},
        "gunicorn.error": {"level": "INFO", "handlers": ["file"], "propagate": True},
    },
}
access_log_format = "%(m)s %(U)s %(s)s"
"""


def test_logconfig_dict_gets_both_logs() -> None:
    with Master("app:app", files={"app.py": APP}, config=DICT, ready=None) as master:
        path = master.dir / "dict.log"
        wait_until(lambda: path.exists() and "Worker ready" in path.read_text(), 15)
        match = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", path.read_text())
        assert match is not None
        with Wire(master.connect(address=("127.0.0.1", int(match[1])))) as wire:
            assert wire.request("GET", "/pieces").status == 200
            assert wire.request("GET", "/status?status=one").status == 500
        wait_until(lambda: "gunicorn.access INFO GET /status 500" in path.read_text(), 10)
        text = path.read_text()
    assert "gunicorn.access INFO GET /pieces 200\n" in text
    assert (
        "gunicorn.error ERROR The application raised ValueError: GET '/status?status=one'" in text
    )


def test_no_access_log_is_written_when_nobody_wants_one() -> None:
    with Master("app:app", files={"app.py": APP}) as master, Wire(master.connect()) as wire:
        mark = master.mark()
        assert wire.request("GET", "/pieces").status == 200
        assert wire.request("GET", "/status?status=one").status == 500
        master.wait_log("raised ValueError", after=mark)
        assert "/pieces" not in master.log()


class Datagrams:
    """What arrives on a datagram socket of the test."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a bound socket."""
        self.sock = sock
        self.sock.settimeout(0)
        self.seen: list[str] = []

    def all(self) -> list[str]:
        with suppress(BlockingIOError):
            while True:
                self.seen.append(self.sock.recv(65536).decode())
        return self.seen

    def wait(self, pattern: str, count: int = 1) -> list[str]:
        """Wait for so many that match."""
        regex = re.compile(pattern)

        def matching() -> list[str]:
            found = [each for each in self.all() if regex.search(each)]
            return found if len(found) >= count else []

        return wait_until(matching, 10, f"{count} x /{pattern}/ among {self.seen}")


@contextmanager
def unix_datagrams() -> Iterator[tuple[Datagrams, str]]:
    """A path short enough for sun_path, 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="kit-") as directory:
        path = f"{directory}/log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(path)
            yield Datagrams(sock), path


def test_syslog_gets_both_logs_over_a_unix_socket() -> None:
    with unix_datagrams() as (datagrams, path):
        args = ("--log-syslog", "--log-syslog-to", f"unix://{path}#dgram")
        more = ("--log-syslog-prefix", "kit", "--access-logformat", "%(m)s %(U)s %(s)s")
        with Master("app:app", *args, *more, files={"app.py": APP}) as master:
            with Wire(master.connect()) as wire:
                assert wire.request("GET", "/pieces").status == 200
                assert wire.request("GET", "/status?status=one").status == 500
            (line,) = datagrams.wait(r"GET /pieces")
            assert re.match(r"<\d+>.*gunicorn\.kit\.access.*GET /pieces 200", line)
            datagrams.wait(r"gunicorn\.kit\.access.*GET /status 500")
            datagrams.wait(r"gunicorn\.kit\.error.*raised ValueError")
            datagrams.wait(r"gunicorn\.kit\.error.*Worker ready")


def test_syslog_without_access() -> None:
    with unix_datagrams() as (datagrams, path):
        args = ("--log-syslog", "--log-syslog-to", f"unix://{path}#dgram")
        more = ("--disable-redirect-access-to-syslog", "--access-logformat", "%(m)s %(U)s %(s)s")
        with Master("app:app", *args, *more, files={"app.py": APP}) as master:
            with Wire(master.connect()) as wire:
                assert wire.request("GET", "/pieces").status == 200
                assert wire.request("GET", "/status?status=one").status == 500
            datagrams.wait("raised ValueError")
            assert not [each for each in datagrams.all() if "/pieces" in each]


@pytest.mark.parametrize("access_log", [False, True])
def test_statsd_gets_requests_duration_and_status(access_log: bool) -> None:
    """Whether or not there is an access log."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        datagrams = Datagrams(sock)
        host = f"127.0.0.1:{sock.getsockname()[1]}"
        args = ("--statsd-host", host, "--statsd-prefix", "kit", "--dogstatsd-tags", "a:b")
        with Master("app:app", *args, files={"app.py": APP}, access_log=access_log) as master:
            with Wire(master.connect()) as wire:
                for status in (200, 200, 404):
                    assert wire.request("GET", f"/status?status={status}").status == status
                assert wire.request("GET", "/status?status=one").status == 500
            requests = datagrams.wait(r"^kit\.gunicorn\.requests:1\|c", 4)
            assert requests == ["kit.gunicorn.requests:1|c|@1.0|#a:b"] * 4
            assert len(datagrams.wait(r"^kit\.gunicorn\.request\.status\.200:1\|c", 2)) == 2
            assert len(datagrams.wait(r"^kit\.gunicorn\.request\.status\.404:1\|c")) == 1
            assert len(datagrams.wait(r"^kit\.gunicorn\.request\.status\.500:1\|c")) == 1
            datagrams.wait(r"^kit\.gunicorn\.log\.error:1\|c")
            durations = datagrams.wait(r"^kit\.gunicorn\.request\.duration:", 4)
            for each in durations:
                match = re.match(r"kit\.gunicorn\.request\.duration:([\d.]+)\|ms", each)
                assert match is not None
                assert 0 < float(match[1]) < 5000
