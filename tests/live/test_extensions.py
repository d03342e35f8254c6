"""Extensions of ASGI over HTTP/1.1, read from raw sockets and by curl; applications of ASGI 2."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.master import Master
from kit.wire import Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = (Path(__file__).parent / "apps" / "extensions.py").read_text()
BODY = b"onetwo" + b"x" * 300_000
DIGEST = hashlib.sha256(BODY).hexdigest().encode()
LINKS = [b"</style.css>; rel=preload; as=style", b"</script.js>; rel=preload; as=script"]
TE = {"TE": "trailers", "Connection": "TE"}


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker on each loop."""
    env = {"GUNICORN_ASGI_LOOP": request.param}
    with Master("app:app", "--keep-alive", "10", files={"app.py": APP}, env=env) as master:
        yield master
        assert "Traceback" not in master.log(), master.log()[-4000:]


@pytest.fixture
def wire(server: Master) -> Iterator[Wire]:
    """One connection."""
    with Wire(server.connect()) as opened:
        yield opened


def curl(server: Master, path: str, *args: str) -> tuple[list[bytes], bytes]:
    """The lines of all heads and trailers, and the body."""
    command = ["curl", "-sS", "--max-time", "10", "-D", "/dev/stderr", *args]
    done = subprocess.run([*command, server.base_url + path], capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stderr.split(b"\r\n"), done.stdout


def test_extensions_are_announced(wire: Wire) -> None:
    """ASGI, extensions: a framework looks for their names."""
    names = wire.request("GET", "/").json()
    assert {name for name in names if name.startswith("http.")} == {
        "http.response.early_hint",
        "http.response.pathsend",
        "http.response.trailers",
        "http.response.zerocopysend",
    }


def test_trailers_follow_the_body_of_who_wants_them(wire: Wire) -> None:
    """RFC 9112 7.1.2, and the connection goes on."""
    for _ in range(3):
        response = wire.request("GET", "/trailers", TE)
        assert (response.framing, response.body) == ("chunked", BODY)
        assert response.trailers == [(b"x-digest", DIGEST), (b"server-timing", b"app;dur=1")]
        assert response.keeps_alive


@pytest.mark.parametrize("te", ["gzip", "trailers;q=0", "nothing"])
def test_trailers_are_kept_from_who_does_not_want_them(wire: Wire, te: str) -> None:
    """RFC 9110 6.5.1."""
    headers = {} if te == "nothing" else {"TE": te}
    for _ in range(2):
        response = wire.request("GET", "/trailers", headers)
        assert (response.body, response.trailers) == (BODY, [])


def test_trailers_are_nothing_for_http_1_0(wire: Wire) -> None:
    """RFC 9112 7.1: no chunks, so no place for them."""
    response = wire.request("GET", "/trailers", TE, version="1.0")
    assert (response.framing, response.body) == ("close", BODY)


def test_pipelined_responses_keep_their_trailers(wire: Wire) -> None:
    """The next response begins behind the last trailer, and not behind the body."""
    wire.send((request("GET", "/trailers", TE) + request("HEAD", "/trailers", TE)) * 3)
    for _ in range(3):
        assert dict(wire.recv_response().trailers)[b"x-digest"] == DIGEST
        assert wire.recv_response(head=True).body == b""


def test_curl_reads_the_trailers(server: Master) -> None:
    lines, body = curl(server, "/trailers", "-H", "TE: trailers")
    assert body == BODY
    assert lines[-4:] == [b"", b"x-digest: " + DIGEST, b"server-timing: app;dur=1", b""]
    lines, body = curl(server, "/trailers")
    assert body == BODY
    assert not any(line.startswith(b"x-digest") for line in lines)


def test_early_hints_come_before_the_response(wire: Wire) -> None:
    """RFC 8297."""
    wire.send(request("GET", "/hints") + request("GET", "/"))
    for links in (LINKS, LINKS[:1]):
        hint = wire.recv_response()
        assert (hint.status, hint.all("link")) == (103, links)
    assert wire.recv_response().body == b"hinted"
    assert wire.recv_response().status == 200


def test_early_hints_are_not_for_http_1_0(wire: Wire) -> None:
    """RFC 9110 15.2."""
    wire.send(request("GET", "/hints", version="1.0"))
    assert wire.recv_response().body == b"hinted"


def test_curl_reads_the_hints(server: Master) -> None:
    lines, body = curl(server, "/hints")
    assert body == b"hinted"
    assert [line for line in lines if line.startswith((b"HTTP/", b"link"))] == [
        b"HTTP/1.1 103 Early Hints",
        *(b"link: " + link for link in LINKS),
        b"HTTP/1.1 103 Early Hints",
        b"link: " + LINKS[0],
        b"HTTP/1.1 200 OK",
    ]


def test_legacy_application_is_served() -> None:
    """ASGI, "Legacy Applications": it knows no lifespan, and nobody complains."""
    with Master("app:Legacy", files={"app.py": APP}) as master:
        with Wire(master.connect()) as wire:
            assert "http.response.trailers" in wire.request("GET", "/").json()
            assert wire.request("GET", "/").status == 200
        assert "Traceback" not in master.log()
