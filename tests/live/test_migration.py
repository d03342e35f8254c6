"""The service at the end of docs/migrating.md, as it is after the change: started, asked, reloaded.

Only paths and the port are the test's: unit, command line and configuration file are the page's.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from kit.command import ask
from kit.master import Master, free_port
from kit.wire import WebSocketWire, Wire

__all__: list[str] = []

ROOT = Path(__file__).resolve().parents[2]
SERVICE = (ROOT / "docs/migrating.md").read_text().split("## A whole service")[1]
BEFORE, AFTER = SERVICE.split("### Before")[1].split("### After")

# What was written for uvicorn-worker: a factory, a lifespan with state, a WebSocket.
MAIN = """\
import json

def create_app():
    return app

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["started"] = "{answer}"
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        await receive()
        return
    told = {{
        **{{key: scope[key] for key in ("root_path", "path", "scheme", "client")}},
        "started": scope["state"]["started"],
    }}
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": json.dumps(told).encode()}})
"""

FORWARDED = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")]


def block(text: str, name: str) -> str:
    """The fenced block whose first line is a comment with that file's name."""
    found = re.search(rf"^```\w+\n# {re.escape(name)}\n(.*?)^```$", text, re.M | re.S)
    assert found is not None, name
    return found[1]


def command(text: str, key: str) -> list[str]:
    """The words of a line of the unit, as systemd takes them apart."""
    found = re.search(rf"^{key}=(.*)$", block(text, "shop.service"), re.M)
    assert found is not None, key
    return shlex.split(found[1])


def service() -> Master:
    """The service of the page."""
    program, flag, worker_class, *options, app = command(AFTER, "ExecStart")
    assert (Path(program).name, flag) == ("gunicorn", "-k")
    config = block(AFTER, "gunicorn.conf.py")
    workers = re.search(r"^workers = (\d+)$", config, re.M)
    assert workers is not None
    return Master(
        app,
        *[word.replace("/srv/shop/", "") for word in options],
        worker_class=worker_class,
        workers=int(workers[1]),
        bind=[],
        config=config.replace("127.0.0.1:8000", f"127.0.0.1:{free_port()}"),
        files={"shop/__init__.py": "", "shop/main.py": MAIN.format(answer="old")},
    )


def answer(m: Master, path: str) -> dict[str, object]:
    with Wire(m.connect()) as wire:
        response = wire.request("GET", path, FORWARDED)
        assert response.status == 200, response
        assert response.header("connection") is None, "kept: --keep-alive"
        told: dict[str, object] = json.loads(response.body)
        return told


def test_only_what_the_page_names_has_changed() -> None:
    """In the unit one word and the reload; in the configuration nothing was taken away."""
    unit, new_unit = (block(text, "shop.service").splitlines() for text in (BEFORE, AFTER))
    changed = [line.split("=")[0] for line, new in zip(unit, new_unit, strict=True) if line != new]
    assert changed == ["ExecStart", "ExecReload"]
    start, new_start = command(BEFORE, "ExecStart"), command(AFTER, "ExecStart")
    words = [pair for pair in zip(start, new_start, strict=True) if pair[0] != pair[1]]
    assert words == [("shop.worker.ShopWorker", "gunicorn_asgi.Worker")]
    config, new_config = (block(text, "gunicorn.conf.py") for text in (BEFORE, AFTER))
    assert set(config.splitlines()) <= set(new_config.splitlines())


def test_the_service_starts_answers_and_reloads_as_the_page_has_it() -> None:
    """Settings: root_path, asgi_lifespan, forwarded_allow_ips, websocket_max_message_size."""
    with service() as m:
        told = {
            "root_path": "/shop",
            "path": "/shop/1",
            "scheme": "https",
            "client": ["203.0.113.9", 0],
        }
        # A proxy that strips the prefix, and one that does not.
        assert answer(m, "/1") == {**told, "started": "old"}
        assert answer(m, "/shop/1") == {**told, "started": "old"}
        with WebSocketWire(m.connect()) as ws:
            assert ws.connect("/shop/live").status == 101
            ws.send_bytes(bytes(1048577))
            assert ws.recv_close()[0] == 1009
        assert "is set but not honoured" not in m.log()
        assert re.search(r'^203\.0\.113\.9 .*"GET /shop/1 HTTP/1.1" 200 ', m.log(), re.M)

        m.write("shop/main.py", MAIN.format(answer="new"))
        program, *words = command(AFTER, "ExecReload")
        assert Path(program).name == "gunicorn-asgi"
        done = ask(*[word.replace("$MAINPID", str(m.pid)) for word in words])
        assert (done.returncode, done.stderr) == (0, "")
        assert answer(m, "/shop/1") == {**told, "started": "new"}
        assert "[ERROR]" not in m.log()


def test_the_check_that_the_page_proposes_accepts_the_new_files() -> None:
    """As it stands there, in the folder of the service."""
    found = re.search(r"`gunicorn-asgi (check .*)`", AFTER)
    assert found is not None
    words = shlex.split(found[1])
    with service() as m:
        done = ask(*words, cwd=m.dir)
    assert done.returncode == 0, done.stdout + done.stderr
