"""``asgi_loop``: the event loop that is asked for is the one that runs, wherever it is asked for.

Gunicorn has a setting of that name since 24, with a flag of its own; ours steps in before.
"""

from __future__ import annotations

import importlib.metadata
import re
from signal import SIGTERM

import pytest

from kit.master import Master
from kit.wire import WebSocketWire, Wire

APP = """
import asyncio, os, threading

LIFESPAN = []

async def app(scope, receive, send):
    loop = asyncio.get_running_loop()
    name = type(loop).__module__.partition(".")[0]
    if scope["type"] == "lifespan":
        LIFESPAN.append(loop)
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    main = threading.current_thread() is threading.main_thread()
    text = f"{name} {main} {LIFESPAN == [loop]} {loop is asyncio.get_event_loop()}"
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text})
        return
    length = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": text.encode()})
"""
GUNICORN_HAS_IT = int(importlib.metadata.version("gunicorn").split(".")[0]) >= 24
KINDS = {"uvloop": "uvloop", "asyncio": "asyncio", "auto": "uvloop"}
# A uvloop that cannot be imported, such as where there is no wheel for it.
NO_UVLOOP = "raise ImportError('no wheel')\n"


def ask(m: Master) -> str:
    with Wire(m.connect()) as wire:
        text = wire.request().text
    name, _, rest = text.partition(" ")
    # In the main thread, the same one for lifespan and requests, and asyncio's current one.
    assert rest == "True True True"
    return name


def master(*args: str, config: str | None = None, **more: object) -> Master:
    options: dict[str, object] = {"files": {"app.py": APP}, **more}
    return Master("app:app", *args, config=config, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_by_the_environment(kind: str) -> None:
    with master(env={"GUNICORN_ASGI_LOOP": kind}) as m:
        assert ask(m) == KINDS[kind]
        with WebSocketWire(m.connect()) as ws:
            assert ws.connect("/").status == 101
            assert ws.recv_text().startswith(KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_by_the_environment_that_gunicorn_sets(kind: str) -> None:
    with master("-e", f"GUNICORN_ASGI_LOOP={kind}") as m:
        assert ask(m) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_by_the_config_file(kind: str) -> None:
    with master(config=f"asgi_loop = {kind!r}\n") as m:
        assert ask(m) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_by_gunicorns_flag_where_it_has_one(kind: str) -> None:
    if GUNICORN_HAS_IT:
        with master("--asgi-loop", kind) as m:
            assert ask(m) == KINDS[kind]
    else:
        with master("--asgi-loop", kind, ready=None, checked=False) as m:
            assert m.wait_exit(20) == 2
            assert "unrecognized arguments: --asgi-loop" in m.log()


def test_without_a_word_it_is_uvloop() -> None:
    with master() as m:
        assert ask(m) == "uvloop"


def test_the_environment_wins_over_the_config_file() -> None:
    with master(config="asgi_loop = 'uvloop'\n", env={"GUNICORN_ASGI_LOOP": "asyncio"}) as m:
        assert ask(m) == "asyncio"


# Without uvloop


def test_auto_takes_asyncio_where_uvloop_is_not_installed() -> None:
    with master(files={"app.py": APP, "uvloop.py": NO_UVLOOP}) as m:
        assert ask(m) == "asyncio"


def test_uvloop_where_it_is_not_installed_is_refused_at_the_start_with_the_reason() -> None:
    files = {"app.py": APP, "uvloop.py": NO_UVLOOP}
    env = {"GUNICORN_ASGI_LOOP": "uvloop"}
    with master(files=files, env=env, ready=None, checked=False) as m:
        assert m.wait_exit(20) == 1
        assert "asgi_loop is 'uvloop', which is not installed" in m.log()
        assert "Booting worker" not in m.log()


def test_an_unknown_loop_is_refused_at_the_start_with_what_is_allowed() -> None:
    env = {"GUNICORN_ASGI_LOOP": "trio"}
    with master(env=env, ready=None, checked=False) as m:
        assert m.wait_exit(20) == 1
        assert "asgi_loop is 'trio'" in m.log()
        assert "auto, uvloop, asyncio" in m.log()
        assert "Booting worker" not in m.log()


@pytest.mark.parametrize("kind", ["uvloop", "asyncio"])
def test_nothing_is_leaked_or_left_running_at_the_end(kind: str) -> None:
    # Development mode tells of loops and sockets that nobody closed, and of what was not awaited.
    args = ["-X", "dev"]
    with master(env={"GUNICORN_ASGI_LOOP": kind}, python_args=args) as m:
        (pid,) = m.workers()
        assert ask(m) == kind
        m.kill_worker(pid, SIGTERM)
        m.wait_workers(lambda pids: pid not in pids)
        said = re.findall(r".*(?:unclosed event loop|never awaited|was destroyed).*", m.log())
        assert said == []
        assert not re.search(r"gunicorn_asgi/\S+\.py:\d+: \w*Warning", m.log())
