"""Every framework of the matrix: one small application each, on a real master, over the wire.

What is tried with which is in tests/frameworks.py, and told in docs/frameworks.md. The packages are
the extra ``frameworks`` (make test WITH=frameworks). test_frameworks.py goes deeper, for three.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from signal import SIGHUP
from typing import TYPE_CHECKING, Any

import pytest

from frameworks import CHECKS, EVERYWHERE, FRAMEWORKS, NEEDS_3_11, Framework
from kit.load import Load
from kit.master import Master
from kit.wire import WebSocketWire, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from _pytest.mark import ParameterSet

__all__: list[str] = []

APPS = Path(__file__).parent / "apps" / "frameworks"
CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(32_768))
JSON = {"content-type": "application/json"}
BOUNDARY = "kit-boundary"
CHUNKS = b"".join(b"line %d\n" % number for number in range(1000))


def source(framework: Framework, told: str = "one") -> str:
    """The application, which answers with that version."""
    text = (APPS / f"{framework.app}.py").read_text()
    assert text.count('VERSION = "one"') == 1
    return text.replace('VERSION = "one"', f'VERSION = "{told}"')


def installed(package: str) -> bool:
    """Whether there is any version of it."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def missing(framework: Framework) -> str:
    """Those of its packages that are not installed, or ""."""
    return ", ".join(each for each in framework.packages if not installed(each))


def marked(framework: Framework) -> ParameterSet:
    """A row; without its packages it is skipped, but in CI it fails."""
    lacks = missing(framework)
    reason = f"{framework.name}: no {lacks} is installed (make test WITH=frameworks)"
    skip = pytest.mark.skipif(bool(lacks) and not os.environ.get("CI"), reason=reason)
    return pytest.param(framework, id=framework.name.replace(" ", "-"), marks=skip)


# -- the checks ------------------------------------------------------------------------------------


def check_json(m: Master, wire: Wire) -> None:
    response = wire.request("GET", "/json?name=caf%C3%A9%20au%20lait")
    assert (response.status, response.json()) == (200, {"hello": "caf\xe9 au lait"})
    assert response.header("content-type").startswith(b"application/json")  # type: ignore[union-attr]


def check_post(m: Master, wire: Wire) -> None:
    thing = {"name": "\N{SNOWMAN}", "sizes": list(range(5000))}
    body = json.dumps(thing).encode()
    response = wire.request("POST", "/echo", JSON, body)
    assert (response.status, response.json()) == (200, thing)


def check_stream(m: Master, wire: Wire) -> None:
    response = wire.request("GET", "/stream")
    assert (response.status, response.body) == (200, CHUNKS)
    assert response.framing == "chunked"
    assert response.keeps_alive


def check_exception(m: Master, wire: Wire) -> None:
    mark = m.mark()
    response = wire.request("GET", "/boom")
    assert response.status == 500
    assert b"Traceback" not in response.body
    m.wait_log("ValueError: boom", after=mark)
    with Wire(m.connect()) as other:
        assert other.request("GET", "/").text == "one"


def check_websocket(m: Master, wire: Wire) -> None:
    mark = m.mark()
    with WebSocketWire(m.connect()) as ws:
        assert ws.connect("/ws").status == 101
        for text in ("hello", "", "\N{SNOWMAN}" * 30_000):
            ws.send_text(text)
            assert ws.recv_text() == text
        ws.close(1000)
        assert ws.recv_close()[0] == 1000
        ws.recv_eof()
    assert wire.request("GET", "/").text == "one"
    assert "Traceback" not in m.log(after=mark)
    # What no route takes is refused; how, and whether that is logged, is the framework's.
    with WebSocketWire(m.connect()) as ws:
        assert ws.connect("/nowhere").status in (403, 404, 500)


def check_events(m: Master, wire: Wire) -> None:
    response = wire.request("GET", "/events")
    assert response.header("content-type").startswith(b"text/event-stream")  # type: ignore[union-attr]
    events = response.text.replace("\r\n", "\n").split("\n\n")[:-1]
    assert events == [f"id: {n}\nevent: tick\ndata: number {n}" for n in range(7)]
    assert len(response.chunks) == 7


def check_upload(m: Master, wire: Wire) -> None:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'.encode()
    body = (
        part + b'note"\r\n\r\none MB\r\n' + part + b'file"; filename="content.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
        + CONTENT
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    assert wire.request("POST", "/upload", kind, body).json() == {
        "name": "content.bin",
        "size": len(CONTENT),
        "note": "one MB",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }


def check_background(m: Master, wire: Wire) -> None:
    mark = m.mark()
    for _ in range(3):
        assert wire.request("POST", "/background").status == 202
    m.wait_log("background task ran", after=mark, count=3)


def check_graphql(m: Master, wire: Wire) -> None:
    """The protocol of the library graphql-ws: connection_init, subscribe, next, complete."""
    body = json.dumps({"query": "{ hello }"}).encode()
    assert wire.request("POST", "/graphql", JSON, body).json() == {"data": {"hello": "world"}}
    with WebSocketWire(m.connect()) as ws:
        assert ws.connect("/graphql", ["graphql-transport-ws"]).status == 101
        assert ws.subprotocol == "graphql-transport-ws"

        def heard() -> dict[str, Any]:
            told: dict[str, Any] = json.loads(ws.recv_text())
            return told

        ws.send_text('{"type": "connection_init"}')
        assert heard()["type"] == "connection_ack"
        payload = {"query": "subscription { count(target: 5) }"}
        ws.send_text(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        told = [heard() for _ in range(6)]
        assert [each["type"] for each in told] == ["next"] * 5 + ["complete"]
        assert [each["payload"]["data"]["count"] for each in told[:-1]] == list(range(5))
        ws.close(1000)
        assert ws.recv_close()[0] == 1000


def check_anyio(m: Master, wire: Wire) -> None:
    assert wire.request("GET", "/anyio").json() == list(range(5))


def check_task_group(m: Master, wire: Wire) -> None:
    told = wire.request("GET", "/taskgroup").json()
    assert told == {"cancelled": ["/taskgroup"], "errors": ["failed"]}


def check_timeout(m: Master, wire: Wire) -> None:
    assert wire.request("GET", "/timeout").json() == "timed out"


def check_lifespan(m: Master, wire: Wire) -> None:
    """Its start; ``test_framework`` sees the rest."""
    assert m.log().count("application started: one") == 1
    assert "application stopped" not in m.log()


def check_reload(m: Master, framework: Framework) -> None:
    before = set(m.workers())
    with Load(m.connect, keep_alive=1, fresh=1, websocket=0, upload=0) as load:
        load.wait(10)
        m.write("app.py", source(framework, "two"))
        m.signal(SIGHUP)
        m.wait_workers(lambda pids: len(pids) == 1 and before.isdisjoint(pids), 30)
        load.wait_body("two")
    load.check()
    assert load.bodies() == {"one", "two"}


ASKED: dict[str, Callable[[Master, Wire], None]] = {
    "JSON": check_json,
    "POST": check_post,
    "stream": check_stream,
    "exception": check_exception,
    "WebSocket": check_websocket,
    "events": check_events,
    "upload": check_upload,
    "background": check_background,
    "GraphQL": check_graphql,
    "anyio": check_anyio,
    "TaskGroup": check_task_group,
    "timeout": check_timeout,
    "lifespan": check_lifespan,
}


def test_every_check_that_is_told_is_made() -> None:
    """And each framework of the table has an application, and no application is forgotten."""
    assert {*ASKED, "reload"} == set(CHECKS)
    assert {name for each in FRAMEWORKS for name in each.checks} | set(EVERYWHERE) == set(CHECKS)
    assert {f"{each.app}.py" for each in FRAMEWORKS} == {path.name for path in APPS.glob("*.py")}


@pytest.mark.parametrize("framework", [marked(each) for each in FRAMEWORKS])
def test_framework(framework: Framework) -> None:
    """Everything of its row, on one master: the checks, a reload, and the end."""
    assert not missing(framework)
    with Master("app:app", files={"app.py": source(framework)}) as m:
        for name in (*EVERYWHERE, *framework.checks):
            if name == "reload" or (name in NEEDS_3_11 and sys.version_info < (3, 11)):
                continue
            with Wire(m.connect()) as wire:
                ASKED[name](m, wire)
        check_reload(m, framework)
        assert m.stop() == 0
        if "lifespan" in framework.checks:
            for told in ("one", "two"):
                assert m.log().count(f"application started: {told}") == 1
                assert m.log().count(f"application stopped: {told}") == 1
