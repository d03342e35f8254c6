"""The lifespan of an application (ASGI specs/lifespan, 2.0) decides over its worker's life."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from kit.master import Master, wait_until
from kit.wire import Wire

HEAD = """
import asyncio, json, os, time

def note(what):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {what}\\n")

async def answer(scope, send):
    state = scope.get("state")
    body = json.dumps({"pid": os.getpid(), "state": state}).encode()
    if state is not None:
        state["count"] = state.get("count", 0) + 1
        state.setdefault("list", []).append(1)
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})
"""


def app(lifespan: str, state: str = "") -> str:
    """An app whose lifespan is these lines, with ``scope``, ``receive`` and ``send``."""
    body = "\n".join("        " + line for line in lifespan.strip().splitlines())
    return f"""{HEAD}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
{body}
        return
    await answer(scope, send)
"""


GOOD = """
scope["state"].update(count=0, list=[], scope={k: v for k, v in scope.items() if k != "state"})
note((await receive())["type"])
await send({"type": "lifespan.startup.complete"})
note((await receive())["type"])
await send({"type": "lifespan.shutdown.complete"})
note("complete")
"""
# Lifespans of applications that do not know lifespan.
UNKNOWN = {
    "raises": "raise AssertionError('only http')",
    "returns": "return",
    "returns after receive": "await receive()",
    "answers as if it were http": "await receive(); await answer(scope, send)",
}
# Lifespans of applications that know it, and fail.
FAILED = {
    "startup.failed": (
        "await receive()\nawait send({'type': 'lifespan.startup.failed', 'message': 'no db'})",
        "Application startup failed: no db",
    ),
    "startup.failed without message": (
        "await receive()\nawait send({'type': 'lifespan.startup.failed'})",
        "Application startup failed: the application gave no reason",
    ),
    "raises after receive": (
        "await receive()\nraise ValueError('no db')",
        "Application startup failed: ValueError: no db",
    ),
    "exits after receive": (
        "await receive()\nraise SystemExit('no db')",
        "Application startup failed: SystemExit: no db",
    ),
}


def master(text: str, *args: str, mode: str = "auto", **more: object) -> Master:
    env = {"GUNICORN_ASGI_LIFESPAN": mode}
    options: dict[str, object] = {"files": {"app.py": text}, "env": env, **more}
    return Master("app:app", "--graceful-timeout", "30", *args, **options)  # type: ignore[arg-type]


def ask(m: Master) -> dict[str, object]:
    with Wire(m.connect()) as wire:
        facts: dict[str, object] = wire.request().json()
        return facts


def notes(m: Master, pid: int) -> list[str]:
    path = m.dir / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{pid} ")]


def completed(m: Master, pid: int) -> bool:
    return "complete" in notes(m, pid)


@pytest.fixture
def good(loop_kind: str) -> Iterator[Master]:
    env = {"GUNICORN_ASGI_LOOP": loop_kind}
    with master(app(GOOD), env=env, workers=2) as running:
        yield running


# A lifespan that works


def test_startup_and_shutdown_run_once_in_each_worker(good: Master) -> None:
    pids = good.workers()
    good.signal(SIGTERM)
    assert good.wait_exit() == 0
    for pid in pids:
        assert notes(good, pid) == ["lifespan.startup", "lifespan.shutdown", "complete"]


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_shutdown_runs_on_a_quick_stop_too(good: Master, number: int) -> None:
    pids = good.workers()
    for pid in pids:
        good.kill_worker(pid, number)
    for pid in pids:
        wait_until(partial(completed, good, pid), 10, "the shutdown")


def test_each_request_gets_a_shallow_copy_of_the_state(good: Master) -> None:
    # "The server will pass a shallow copy of the namespace": what hangs on it is shared.
    seen: dict[object, int] = {}
    state: object = None
    for _ in range(10):
        facts = ask(good)
        state = facts["state"]
        assert isinstance(state, dict)
        assert state["count"] == 0  # the increment was made in a copy
        assert len(state["list"]) == seen.get(facts["pid"], 0)
        seen[facts["pid"]] = len(state["list"]) + 1
    asgi = {"version": "3.0", "spec_version": "2.0"}
    assert isinstance(state, dict)
    assert state["scope"] == {"type": "lifespan", "asgi": asgi}


# Applications without lifespan


@pytest.mark.parametrize("kind", UNKNOWN)
def test_auto_serves_an_app_that_does_not_know_lifespan(kind: str) -> None:
    with master(app(UNKNOWN[kind])) as m:
        (pid,) = m.workers()
        assert ask(m)["pid"] == pid
        m.signal(SIGTERM)
        assert m.wait_exit() == 0
        assert "Traceback" not in m.log()


@pytest.mark.parametrize("kind", UNKNOWN)
def test_on_refuses_to_start_an_app_that_does_not_know_lifespan(kind: str) -> None:
    with master(app(UNKNOWN[kind]), mode="on", ready=None, checked=False) as m:
        assert m.wait_exit(20) == 3
        assert "Application startup failed: " in m.log()
        assert "Worker ready" not in m.log()


def test_off_never_asks_and_gives_no_state() -> None:
    # "If this is missing the server does not support this feature."
    with master(app(GOOD), mode="off") as m:
        (pid,) = m.workers()
        assert ask(m) == {"pid": pid, "state": None}
        m.signal(SIGTERM)
        assert m.wait_exit() == 0
        assert notes(m, pid) == []


# Lifespans that fail


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("kind", FAILED)
def test_a_failed_startup_stops_gunicorn_with_exit_3_and_the_reason(kind: str, mode: str) -> None:
    text, reason = FAILED[kind]
    with master(app(text), mode=mode, ready=None, checked=False) as m:
        assert m.wait_exit(20) == 3  # Arbiter.WORKER_BOOT_ERROR
        assert reason in m.log()
        assert "Worker ready" not in m.log()


def test_a_failed_startup_of_several_workers_stops_gunicorn_too() -> None:
    text, reason = FAILED["startup.failed"]
    with master(app(text), ready=None, checked=False, workers=3) as m:
        # Gunicorn 27.0.1 says 1 where more than one worker failed: Arbiter.halt reaps the second
        # one, and the HaltServer of that is nobody's to catch.
        assert m.wait_exit(20) in (1, 3)
        assert reason in m.log()
        assert m.workers() == []


def test_a_failed_startup_has_its_traceback_in_the_log() -> None:
    with master(app(FAILED["raises after receive"][0]), ready=None, checked=False) as m:
        assert m.wait_exit(20) == 3
        assert 'app.py", line' in m.log()


@pytest.mark.parametrize(
    "lifespan",
    [
        "await send({'type': 'lifespan.shutdown.failed', 'message': 'lost it'})",
        "raise ValueError('lost it')",
    ],
    ids=["shutdown.failed", "raises"],
)
def test_a_failed_shutdown_is_logged_and_the_worker_ends(lifespan: str) -> None:
    text = "await receive()\nawait send({'type': 'lifespan.startup.complete'})\nawait receive()\n"
    with master(app(text + lifespan)) as m:
        m.signal(SIGTERM)
        assert m.wait_exit() == 0
        assert "lost it" in m.log()


def test_an_app_whose_lifespan_dies_while_it_serves_goes_on_serving() -> None:
    text = "await receive()\nawait send({'type': 'lifespan.startup.complete'})\nraise OSError('x')"
    with master(app(text)) as m:
        m.wait_log(r"OSError: x")
        assert ask(m)["pid"] == m.workers()[0]
        m.signal(SIGTERM)
        assert m.wait_exit() == 0


def test_a_shutdown_that_never_ends_is_given_up_before_the_arbiter_kills() -> None:
    text = GOOD.replace('note("complete")', "await asyncio.sleep(600)")
    text = text.replace('await send({"type": "lifespan.shutdown.complete"})', "")
    with master(app(text), "--graceful-timeout", "2") as m:
        m.signal(SIGTERM)
        assert m.wait_exit() == 0
        assert "lifespan.shutdown took too long" in m.log()
        assert "SIGKILL" not in m.log()


# Slow ones

SLOW = {
    "async": "while not os.path.exists('go'): await asyncio.sleep(0.01)\n",
    "blocking": "while not os.path.exists('go'): time.sleep(0.01)\n",
}


@pytest.mark.parametrize("kind", SLOW)
def test_nothing_is_accepted_before_startup_is_complete_and_nothing_is_lost(kind: str) -> None:
    with master(app(SLOW[kind] + GOOD), ready=None) as m:
        (pid,) = m.wait_workers(1, 20)
        with Wire(m.connect(20)) as wire:
            wire.send(b"GET / HTTP/1.1\r\nHost: kit\r\n\r\n")
            wire.assert_silent(1)
            assert "Worker ready" not in m.log()
            m.write("go", "")
            assert wire.recv_response().json()["pid"] == pid


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_a_stop_during_a_slow_startup_is_quick(number: int) -> None:
    with master(app("note('starting')\n" + SLOW["async"] + GOOD), ready=None) as m:
        (pid,) = m.wait_workers(1, 20)
        wait_until(lambda: "starting" in notes(m, pid))
        m.signal(number)
        assert m.wait_exit(10) == 0  # graceful_timeout is 30 s
        assert "SIGKILL" not in m.log()
        assert "Traceback" not in m.log()
        assert notes(m, pid) == ["starting"]


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_a_stop_during_a_slow_import_is_quick(number: int) -> None:
    text = HEAD + "note('importing')\n" + SLOW["blocking"] + app(GOOD)
    with master(text, ready=None) as m:
        (pid,) = m.wait_workers(1, 20)
        wait_until(lambda: "importing" in notes(m, pid))
        m.signal(number)
        assert m.wait_exit(10) == 0
        assert "SIGKILL" not in m.log()


def test_the_old_worker_serves_until_a_slow_startup_after_hup_is_complete() -> None:
    text = app("note('starting')\n" + SLOW["async"] + GOOD)
    files = {"app.py": text, "go": ""}
    with master(text, "--keep-alive", "60", files=files) as m, Wire(m.connect(20)) as idle:
        (old,) = m.workers()
        assert idle.request().json()["pid"] == old
        (m.dir / "go").unlink()
        m.signal(SIGHUP)
        m.wait_log(rf"Worker holding \(pid: {old}\): its successors are not ready", 20)
        (new,) = [pid for pid in m.wait_workers(2) if pid != old]
        wait_until(lambda: notes(m, new) == ["starting"], 20)
        for _ in range(10):
            assert ask(m)["pid"] == old
        assert idle.request().header("connection") is None
        # However long it takes: the arbiter repeats its TERM about once a second.
        m.kill_worker(old, SIGTERM)
        idle.assert_silent(1)
        assert ask(m)["pid"] == old
        m.write("go", "")
        m.wait_log(rf"Worker leaving \(pid: {old}\): its successors are ready")
        assert f"Worker ready (pid: {new})" in m.log().partition("Worker leaving")[0]
        assert ask(m)["pid"] == new
        # What was open ends after one more answer, and only then the lifespan is shut down.
        last = idle.request()
        assert (last.json()["pid"], last.header("connection")) == (old, b"close")
        wait_until(partial(completed, m, old), 20, "the shutdown of the old one")
        m.wait_workers(lambda pids: pids == [new])
        assert notes(m, old)[-3:] == ["lifespan.startup", "lifespan.shutdown", "complete"]
        assert notes(m, new) == ["starting", "lifespan.startup"]
