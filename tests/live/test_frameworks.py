"""Real applications and everyday clients.

The same application, written with Starlette, FastAPI and Django; asked by requests, by curl and by
the websockets library.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from kit.master import Master, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APPS = Path(__file__).parent / "apps"
ALL = ["starlette", "fastapi", "django"]
# Django has neither lifespan nor background tasks nor WebSockets of its own.
MODERN = ["starlette", "fastapi"]
SMALL = "hello from a file\n"
BIG = "".join(f"{number:07}\n" for number in range(50_000))
# Several MB, and no two stretches of it alike.
CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(160_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def masters() -> Iterator[Callable[[str], Master]]:
    """One master for each framework, started when first asked for."""
    with ExitStack() as stack:

        @cache
        def started(framework: str) -> Master:
            source = (APPS / f"{framework}_app.py").read_text()
            files = {"app.py": source, "static/hello.txt": SMALL, "static/big.txt": BIG}
            return stack.enter_context(Master("app:app", "--keep-alive", "10", files=files))

        yield started


@pytest.fixture
def server(masters: Callable[[str], Master], framework: str) -> Master:
    """The master of that framework, with one worker, as DONE is a worker's own."""
    return masters(framework)


@pytest.fixture
def session(server: Master) -> Iterator[Client]:
    """A session of requests, with one connection."""
    with requests.Session() as opened:
        adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1)
        opened.mount("http://", adapter)
        yield Client(opened, server.base_url)


class Client:
    """A session with a base and a bound in time."""

    def __init__(self, session: requests.Session, base: str) -> None:
        """Take over a session."""
        self.session = session
        self.base = base

    def __call__(
        self,
        method: str,
        path: str,
        **more: Any,
    ) -> requests.Response:
        return self.session.request(method, self.base + path, timeout=10, **more)


every = pytest.mark.parametrize("framework", ALL)
modern = pytest.mark.parametrize("framework", MODERN)


def done(session: Client, what: str) -> None:
    """Wait until the application has done it."""
    wait_until(lambda: what in session("GET", "/done").json(), 10, what)


# requests


@every
def test_path_and_query_parameters(session: Client) -> None:
    assert session("GET", "/items/42?q=caf%C3%A9&q=a+b").json() == {
        "id": 42,
        "query": {"q": ["café", "a b"]},
    }
    assert session("GET", "/items/0").json() == {"id": 0, "query": {}}
    assert session("GET", "/items/none").status_code in (404, 422)


@every
def test_json_there_and_back(session: Client) -> None:
    for number in range(20):
        thing = {"name": f"ding {number} \N{SNOWMAN}", "sizes": list(range(number))}
        assert session("POST", "/json", json=thing).json() == thing


@every
def test_a_form(session: Client) -> None:
    sent = {"name": "änne & co", "tag": ["a", "b=c"]}
    assert session("POST", "/form", data=sent).json() == {"name": "änne & co", "tags": ["a", "b=c"]}


@every
def test_an_uploaded_file_arrives_whole(session: Client) -> None:
    files = {"file": ("content.bin", io.BytesIO(CONTENT), "application/octet-stream")}
    assert session("POST", "/upload", files=files, data={"note": "five MB"}).json() == {
        "name": "content.bin",
        "size": len(CONTENT),
        "note": "five MB",
        "sha256": SHA256,
    }


@every
@pytest.mark.parametrize("framed", [False, True], ids=["length", "chunked"])
def test_a_raw_upload_arrives_whole(session: Client, framed: bool) -> None:
    pieces = (CONTENT[start : start + 77_777] for start in range(0, len(CONTENT), 77_777))
    assert session("PUT", "/raw", data=pieces if framed else CONTENT).text == SHA256
    assert session("GET", "/items/1").status_code == 200


@every
def test_a_streaming_response(session: Client) -> None:
    response = session("GET", "/stream?n=5000", stream=True)
    assert response.headers["transfer-encoding"] == "chunked"
    lines = list(response.iter_lines())
    assert lines == [b"line %d" % number for number in range(5000)]
    assert session("GET", "/items/1").status_code == 200


@every
def test_server_sent_events_come_one_by_one(session: Client) -> None:
    with session("GET", "/sse?n=7", stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line for line in response.iter_lines() if line.startswith(b"id")]
    assert events == [b"id: %d" % number for number in range(7)]
    done(session, "sse 7")


@every
def test_an_event_stream_ends_when_its_reader_leaves(server: Master, session: Client) -> None:
    """A stream of three hours, of which nobody wants more than one event."""
    mark = server.mark()
    with session("GET", "/sse?n=1000000", stream=True) as response:
        assert next(response.iter_lines()) == b"id: 0"
    done(session, "sse 1000000")
    assert "ERROR" not in server.log(after=mark)


@every
def test_an_exception_is_a_500_and_the_connection_lives_on(
    server: Master, session: Client, framework: str
) -> None:
    mark = server.mark()
    for _ in range(5):
        response = session("GET", "/boom")
        assert response.status_code == 500
        assert "boom" not in response.text
        assert session("GET", "/items/7").json()["id"] == 7
    assert session("GET", "/nowhere").status_code == 404
    # Django logs by itself, to nobody as long as it is not told where; the others let it through.
    if framework != "django":
        server.wait_log("ValueError: boom", after=mark, count=5)


@every
def test_a_session_keeps_its_connection(session: Client) -> None:
    """RFC 9112 9.3: counted by the client, whose connection it is."""
    for number in range(50):
        assert session("GET", f"/items/{number}").json()["id"] == number
        assert session("GET", "/empty").status_code == 204
    pool = session.session.adapters["http://"].poolmanager  # type: ignore[attr-defined]
    (connections,) = pool.pools._container.values()
    assert connections.num_connections == 1
    assert connections.num_requests == 100


@every
def test_many_clients_at_a_time_get_each_their_own_answer(server: Master) -> None:
    def visit(number: int) -> bool:
        with requests.Session() as session:
            ask = Client(session, server.base_url)
            own = {"name": f"{number}", "sizes": [number] * number}
            return all(
                ask("POST", "/json", json=own).json() == own
                and ask("GET", f"/stream?n={number}").text.count("\n") == number
                for _ in range(5)
            )

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(visit, range(60)))


# Static files


@every
def test_a_static_file_and_its_head(session: Client) -> None:
    got = session("GET", "/static/hello.txt")
    head = session("HEAD", "/static/hello.txt")
    assert (got.status_code, got.text) == (200, SMALL)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "last-modified"):
        assert got.headers[name] == head.headers[name]
    assert session("GET", "/static/big.txt").text == BIG
    assert session("GET", "/static/missing.txt").status_code == 404


@every
def test_a_static_file_that_has_not_changed_is_a_304(session: Client) -> None:
    modified = session("GET", "/static/big.txt").headers["last-modified"]
    response = session("GET", "/static/big.txt", headers={"If-Modified-Since": modified})
    assert (response.status_code, response.content) == (304, b"")
    assert session("GET", "/static/hello.txt").text == SMALL


@modern
def test_a_part_of_a_static_file(session: Client) -> None:
    """RFC 9110, 14; Django's view for development knows no ranges."""
    response = session("GET", "/static/big.txt", headers={"Range": "bytes=8-22"})
    assert (response.status_code, response.text) == (206, BIG[8:23])
    assert response.headers["content-range"] == f"bytes 8-22/{len(BIG)}"
    whole = session("GET", "/static/big.txt", headers={"Range": f"bytes=-{len(BIG) - 5}"})
    assert (whole.status_code, whole.text) == (206, BIG[5:])
    assert session("GET", "/static/big.txt", headers={"Range": "bytes=999999-"}).status_code == 416


@every
def test_a_file_response(session: Client) -> None:
    response = session("GET", "/file")
    assert (response.status_code, response.text) == (200, BIG)
    assert response.headers["content-length"] == str(len(BIG))


# Lifespan and background tasks


@modern
def test_the_state_of_the_lifespan_is_that_of_each_request(session: Client) -> None:
    """ASGI, "Lifespan State": a shallow copy, so objects are shared and new names are not."""
    assert session("GET", "/state?name=a").json()["token"] == "from lifespan"
    assert session("GET", "/state?name=b").json()["shared"][-2:] == ["a", "b"]


@modern
def test_a_background_task_runs_behind_its_response(session: Client) -> None:
    for number in range(10):
        response = session("POST", f"/background?name=task-{number}")
        assert response.status_code == 202
        assert "accepted" in response.text
    for number in range(10):
        done(session, f"task-{number}")


@pytest.mark.parametrize("framework", ["fastapi"])
def test_threads_and_dependencies_of_fastapi(session: Client) -> None:
    assert session("GET", "/thread").json() == "from a thread"
    assert session("GET", "/dependency").json() == "/dependency"
    done(session, "tidied up /dependency")
    assert session("GET", "/openapi.json").json()["openapi"].startswith("3.")
    assert session("POST", "/json", json={"sizes": "many"}).status_code == 422


# curl


def curl(server: Master, path: str, *args: str) -> str:
    """Run curl, which has to succeed, and return what it prints."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", *args]
    found = subprocess.run(
        [*command, server.base_url + path], capture_output=True, text=True, timeout=30
    )
    assert found.returncode == 0, found.stderr
    return found.stdout + found.stderr if "--verbose" in args else found.stdout


@pytest.fixture
def content(tmp_path: Path) -> str:
    """A file for curl to send."""
    path = tmp_path / "content.bin"
    path.write_bytes(CONTENT)
    return str(path)


@every
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_curl_in_either_version(server: Master, version: str) -> None:
    told = curl(server, "/items/3", f"--http{version}", "--include")
    head, _, body = told.partition("\n\n")
    assert head.startswith(f"HTTP/{version} 200 OK")
    assert json.loads(body) == {"id": 3, "query": {}}
    told = curl(server, "/stream?n=3", f"--http{version}", "--include", "--raw")
    assert ("transfer-encoding: chunked" in told) == (version == "1.1")
    assert "line 0\n" in told


@every
def test_curl_keeps_its_connection(server: Master) -> None:
    other = server.base_url + "/items/2"
    told = curl(server, "/items/1", other, other, "--write-out", "|%{http_code} %{num_connects}|")
    assert re.findall(r"\|(.*?)\|", told) == ["200 1", "200 0", "200 0"]


@every
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_curl_waits_for_100_before_it_uploads(server: Master, content: str, framing: str) -> None:
    """RFC 9110, 10.1.1; curl would send anyway, but not before these 15 seconds are over."""
    more = ["--header", "Transfer-Encoding: chunked"] if framing == "chunked" else []
    told = curl(
        server,
        "/raw",
        *("--upload-file", content, "--verbose", "--expect100-timeout", "15"),
        *("--header", "Expect: 100-continue", "--write-out", "|%{time_total}|", *more),
    )
    assert "HTTP/1.1 100 Continue" in told
    assert SHA256 in told
    match = re.search(r"\|([\d.]+)\|", told)
    assert match is not None
    assert float(match[1]) < 12


@every
def test_curl_sends_a_form_with_a_file(server: Master, content: str) -> None:
    told = json.loads(curl(server, "/upload", "--form", f"file=@{content}", "--form", "note=hi"))
    assert (told["size"], told["sha256"], told["note"]) == (len(CONTENT), SHA256, "hi")


@every
def test_curl_sends_chunks_without_expecting_anything(server: Master, content: str) -> None:
    more = ("--header", "Expect:", "--header", "Transfer-Encoding: chunked")
    assert curl(server, "/raw", "--upload-file", content, *more) == SHA256


# WebSockets


def socket_url(server: Master, path: str) -> str:
    return server.base_url.replace("http", "ws", 1) + path


@modern
def test_text_and_bytes_there_and_back(server: Master) -> None:
    with connect(socket_url(server, "/ws/echo"), max_size=None) as ws:
        for message in ("", "hello", "\N{SNOWMAN}" * 1000, b"", b"\0\xff", CONTENT[:2_000_000]):
            ws.send(message)
            assert ws.recv(10) == message
        ws.send(iter(["in ", "three ", "fragments"]))
        assert ws.recv(10) == "in three fragments"
        assert ws.ping(b"anybody?").wait(10)


@modern
def test_json_over_a_websocket_with_the_state_of_the_lifespan(server: Master) -> None:
    with connect(socket_url(server, "/ws/json")) as ws:
        ws.send(json.dumps([1, {"a": None}]))
        assert json.loads(ws.recv(10)) == {"told": [1, {"a": None}], "token": "from lifespan"}
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000


@modern
def test_a_subprotocol_is_agreed_upon(server: Master) -> None:
    with connect(socket_url(server, "/ws/echo"), subprotocols=["other", "kit"]) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "kit"
    with connect(socket_url(server, "/ws/echo")) as ws:
        assert ws.subprotocol is None


@modern
@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1008, "naughty"), (4321, "own")])
def test_close_codes_go_both_ways(server: Master, session: Client, code: int, reason: str) -> None:
    with connect(socket_url(server, "/ws/echo")) as ws:
        ws.send(f"close {code} {reason}")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
    with connect(socket_url(server, "/ws/echo")) as ws:
        ws.close(code, reason)
    done(session, f"closed {code} {reason}")


@modern
def test_a_refused_handshake_is_a_403_or_what_the_application_says(server: Master) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(socket_url(server, "/ws/refuses"))
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        connect(socket_url(server, "/ws/refuses?politely=1"))
    assert refused.value.response.status_code == 401
    assert refused.value.response.body == b"no entry"
    with pytest.raises(InvalidStatus) as refused:
        connect(socket_url(server, "/ws/nowhere"))
    assert refused.value.response.status_code == 403


@modern
def test_a_websocket_whose_application_raises_closes_with_1011(server: Master) -> None:
    with connect(socket_url(server, "/ws/breaks")) as ws, pytest.raises(ConnectionClosed) as closed:
        ws.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011


@modern
def test_many_websockets_at_a_time(server: Master) -> None:
    def visit(number: int) -> bool:
        with connect(socket_url(server, "/ws/echo")) as ws:
            for each in range(20):
                ws.send(f"{number} {each}")
                if ws.recv(10) != f"{number} {each}":
                    return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(visit, range(60)))
