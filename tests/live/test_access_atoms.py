"""What access_log_format can name beyond Gunicorn's atoms, on the lines of real masters."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from signal import SIGHUP
from typing import TYPE_CHECKING

import pytest

from kit.master import Master, wait_until
from kit.tls import Certificates, client
from kit.wire import WebSocketWire, Wire, chunked, request

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = (Path(__file__).parent / "apps" / "wire.py").read_text()
NAMES = (
    *("request_id", "ttfb", "bytes_in", "bytes_out", "body_messages", "http_version"),
    *("tls_version", "generation", "ws_received", "ws_sent", "ws_bytes_received"),
)
FORMAT = "|".join(f"{name}=%({name})s" for name in ("s", "r", "L", "B", *NAMES))
NO_WEBSOCKET = {"ws_received": "-", "ws_sent": "-", "ws_bytes_received": "-"}


def fields(line: str) -> dict[str, str]:
    """A line of FORMAT, taken apart."""
    return dict(part.partition("=")[::2] for part in line.split("|"))


@pytest.fixture(scope="module")
def server() -> Iterator[Master]:
    """One worker that names them all."""
    args = ("--access-logformat", FORMAT)
    with Master("app:app", *args, files={"app.py": APP}, access_log=True) as master:
        yield master
        assert "Exception in the access log" not in master.log()
        assert "Logging error" not in master.log(), master.log()[-4000:]


class Logged:
    """The line of the access log that comes next."""

    def __init__(self, server: Master) -> None:
        """Remember how many there are."""
        self.server = server
        self.count = len(server.access())

    def fields(self) -> dict[str, str]:
        """Wait for it."""
        (line,) = self.server.wait_access(self.count + 1)[self.count :]
        return fields(line)


@pytest.fixture
def logged(server: Master) -> Logged:
    """The line of what this test does."""
    return Logged(server)


def seconds(told: dict[str, str]) -> tuple[float, float]:
    """Take the first byte and the end out of a line; both have six decimals."""
    first, end = told.pop("ttfb"), told.pop("L")
    assert re.fullmatch(r"\d+\.\d{6}", first)
    assert re.fullmatch(r"\d+\.\d{6}", end)
    return float(first), float(end)


def test_a_whole_response(server: Master, logged: Logged) -> None:
    """The id is the one that a trusted peer gave; the first byte is also the last."""
    with Wire(server.connect()) as wire:
        assert wire.request("POST", "/echo", {"X-Request-ID": "kit-1"}, b"12345").body == b"12345"
    told = logged.fields()
    first, end = seconds(told)
    assert 0 < first == end < 5
    assert told == {
        **{"s": "200", "r": "POST /echo HTTP/1.1", "B": "5", "request_id": "kit-1"},
        **{"bytes_in": "5", "bytes_out": "5", "body_messages": "0", "http_version": "1.1"},
        **{"tls_version": "-", "generation": "1", **NO_WEBSOCKET},
    }


def test_a_stream(server: Master, logged: Logged) -> None:
    """Duration, bytes and messages of what lasts; its head went out long before its end."""
    with Wire(server.connect()) as wire:
        wire.send(request("POST", "/piecewise-echo", {"Transfer-Encoding": "chunked"}))
        wire.send(b"4\r\nping\r\n")
        assert wire.recv_head().status == 200
        assert wire.recv_chunk() == b"ping"
        wire.assert_silent(0.2)
        wire.send(chunked(b"pong"))
        assert wire.recv_chunk() == b"pong"
        assert wire.recv_chunk() is None
    told = logged.fields()
    first, end = seconds(told)
    assert end - first >= 0.2
    assert (told["bytes_in"], told["bytes_out"]) == ("8", "8")
    assert int(told["body_messages"]) >= 1


def test_a_request_of_http_1_0_without_a_body(server: Master, logged: Logged) -> None:
    """An id is made where none was given."""
    with Wire(server.connect()) as wire:
        wire.send(request("GET", "/pieces", version="1.0"))
        assert wire.recv_response().status == 200
    told = logged.fields()
    assert (told["http_version"], told["bytes_in"], told["bytes_out"]) == ("1.0", "0", "11")
    assert told["body_messages"] == "4"
    assert re.fullmatch(r"[0-9a-f]{32}", told["request_id"])


REFUSED = {
    "no request": (b"\x16\x03\x01\r\n\r\n", "400"),
    "no Host": (b"GET /a HTTP/1.1\r\n\r\n", "400"),
    "a method": (b"FROB / HTTP/1.1\r\nHost: h\r\n\r\n", "501"),
    "a long line": (request("GET", "/" + "x" * 5000), "414"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_request_has_a_line(server: Master, logged: Logged, name: str) -> None:
    """With the status that the client got; it never was a request, so it took no time."""
    data, status = REFUSED[name]
    with Wire(server.connect()) as wire:
        wire.send(data)
        assert wire.recv_response().status == int(status)
    told = logged.fields()
    assert (told["s"], told["ttfb"], told["L"]) == (status, "-", "0.000000")
    assert (told["request_id"], told["bytes_in"], told["generation"]) == ("-", "0", "1")


@pytest.mark.parametrize("path", ["/disconnected?name=a", "/streams?name=b"])
def test_an_aborted_request_is_a_499(server: Master, logged: Logged, path: str) -> None:
    """The first byte tells whether anything had been sent."""
    streams = path.startswith("/streams")
    with Wire(server.connect()) as wire, Wire(server.connect()) as other:
        wire.send(request("GET", path))
        if streams:
            assert wire.recv_head().status == 200
            assert wire.recv_chunk() == b"tick"
        else:
            wait_until(
                lambda: other.request("GET", "/events?name=a").json().get("state") == "waiting"
            )
        wire.close()
        wait_until(lambda: any("s=499|" in each for each in server.access()[logged.count :]), 10)
    (line,) = [each for each in server.access()[logged.count :] if "s=499|" in each]
    told = fields(line)
    assert told["r"] == f"GET {path} HTTP/1.1"
    assert (told["ttfb"] != "-") is streams
    assert (int(told["body_messages"]) > 0) is streams
    assert (int(told["bytes_out"]) >= 4) is streams


def test_a_websocket_and_another_generation() -> None:
    """Both lines of a WebSocket that a reload has closed; the next one's generation is 2."""
    app = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "seen"})
"""
    args = ("--access-logformat", FORMAT)
    with Master("app:app", *args, files={"app.py": app}, access_log=True) as master:
        with WebSocketWire(master.connect()) as ws:
            assert ws.connect("/ws").status == 101
            assert ws.recv_text() == "hello"
            opening = fields(master.wait_access(1)[0])
            for _ in range(3):
                ws.send_text("three")
                assert ws.recv_text() == "seen"
            master.signal(SIGHUP)
            assert ws.recv_close()[0] == 1012
            end = fields(master.wait_access(2)[1])
        with WebSocketWire(master.connect()) as ws:
            assert ws.connect("/ws").status == 101
            assert fields(master.wait_access(3)[2])["generation"] == "2"
    assert (opening["s"], opening["generation"]) == ("101", "1")
    assert {name: opening[name] for name in NO_WEBSOCKET} == NO_WEBSOCKET
    assert (end["s"], end["generation"], opening["request_id"]) == ("1012", "1", end["request_id"])
    assert opening["ttfb"] == opening["L"] == end["ttfb"] < end["L"]
    # Three masked frames of 5 bytes, and the client's Close; "hello" and three times "seen".
    told = (end["ws_received"], end["ws_bytes_received"], end["bytes_in"])
    assert told == ("3", "41", "41")
    assert (end["ws_sent"], end["bytes_out"]) == ("4", "25")


def test_the_tls_version(tmp_path: Path) -> None:
    """Of every line of an encrypted connection, a refused request's too."""
    certs = Certificates(tmp_path)
    args = (*certs.args(), "--access-logformat", FORMAT)
    with Master("app:app", *args, files={"app.py": APP}, access_log=True) as master:
        with Wire(master.connect(tls=client(certs))) as wire:
            assert wire.request("GET", "/pieces").status == 200
            wire.send(b"GET /a HTTP/1.1\r\n\r\n")
            assert wire.recv_response().status == 400
        told = [fields(line) for line in master.wait_access(2)]
    assert [(each["s"], each["tls_version"]) for each in told] == [
        ("200", "TLSv1.3"),
        ("400", "TLSv1.3"),
    ]


CUSTOM = """
import json
import logging
from gunicorn.glogging import Logger

class Atoms(Logger):
    def atoms(self, *args):
        return {**super().atoms(*args), "tenant": "t", "request_id": "mine"}

class Access(Logger):
    def access(self, resp, req, environ, request_time):
        self.error_log.info("LINE %s", json.dumps(self.atoms(resp, req, environ, request_time)))

class Formatter(logging.Formatter):
    def format(self, record):
        return "LINE %s %s" % (record.args.get("bytes_out"), record.args["generation"])
"""
FORMATTED = """
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"own": {"()": "custom.Formatter"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
    "loggers": {
        "gunicorn.access": {"level": "INFO", "handlers": ["own"], "propagate": False},
        "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": False},
    },
    "root": {"level": "INFO", "handlers": []},
}
"""


def test_a_logger_class_that_overrides_atoms() -> None:
    """Its own are there, ours are there, and where both have a name it is the class's."""
    args = ("--logger-class", "custom.Atoms", "--access-logformat")
    form = "%(tenant)s %(request_id)s %(bytes_out)s %(m)s"
    files = {"app.py": APP, "custom.py": CUSTOM}
    with Master("app:app", *args, form, files=files, access_log=True) as master:
        with Wire(master.connect()) as wire:
            assert wire.request("GET", "/pieces").status == 200
        assert master.wait_access(1) == ["t mine 11 GET"]


def test_a_logger_class_that_overrides_access() -> None:
    """atoms() gives it all of them."""
    files = {"app.py": APP, "custom.py": CUSTOM}
    with Master("app:app", "--logger-class", "custom.Access", files=files) as master:
        with Wire(master.connect()) as wire:
            assert wire.request("GET", "/pieces").status == 200
        told = json.loads(master.wait_log(r"LINE (.*)$")[1])
    assert set(NAMES) <= set(told)
    assert (told["bytes_out"], told["generation"], told["tls_version"]) == (11, 1, "-")


def test_a_formatter_of_logconfig_dict() -> None:
    """It finds them in ``record.args``, whatever the format says."""
    files = {"app.py": APP, "custom.py": CUSTOM}
    with Master(
        "app:app", files=files, config=FORMATTED, bind="unix:{dir}/kit.sock", ready=None
    ) as master:
        path = master.dir / "kit.sock"

        def answered() -> bool:
            with Wire(master.connect(address=str(path))) as wire:
                return wire.request("GET", "/pieces").status == 200

        wait_until(path.exists, 20, "the socket")
        assert answered()
        assert master.wait_log("^LINE .*$")[0] == "LINE 11 1"


def test_statsd_with_a_format() -> None:
    """Gunicorn's own logger for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        host = f"127.0.0.1:{sock.getsockname()[1]}"
        args = ("--statsd-host", host, "--access-logformat", "%(bytes_out)s %(generation)s")
        with Master("app:app", *args, files={"app.py": APP}, access_log=True) as master:
            with Wire(master.connect()) as wire:
                assert wire.request("GET", "/pieces").status == 200
            assert master.wait_access(1) == ["11 1"]
            while not sock.recv(1000).startswith(b"gunicorn.requests:1|c"):
                pass
