"""The command line against real masters: what it says is so, and its exit status can be relied on.

docs/command-line.md is the promise. ``run`` and ``check`` are in test_command_line_run.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from signal import SIGHUP, SIGINT, SIGKILL
from typing import Any

import pytest

from kit.command import ask, popen
from kit.master import Master, wait_until
from kit.wire import WebSocketWire, Wire, request

__all__: list[str] = []

APP = """
import asyncio, os, time

ANSWER = b"old"

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass
        return
    if scope["path"] == "/wait":
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    if scope["path"] == "/block":
        while not os.path.exists("go"):
            time.sleep(0.01)
    headers = [(b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})
"""
NEW = APP.replace('b"old"', 'b"new"')
# Waits in the import, until the test lets it go.
SLOW = 'import os, time\nwhile not os.path.exists("go"): time.sleep(0.01)\n' + APP

# Gunicorn >= 25 waits as long after a rollback before it takes the next signal.
GRACEFUL = ("--graceful-timeout", "3")


def answer(master: Master) -> bytes:
    """What a new connection is answered."""
    with Wire(master.connect()) as wire:
        return wire.request("GET", "/").body


def by_pid(master: Master) -> tuple[str, str]:
    return "--pid", str(master.pid)


def look(master: Master) -> dict[str, Any]:
    """The JSON of status."""
    done = ask("status", *by_pid(master), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def total(report: dict[str, Any], key: str) -> int:
    return sum(row[key] for row in report["workers"])


# -- status ----------------------------------------------------------------------------------------


def test_status_counts_what_is_open_at_this_moment() -> None:
    """Three requests and two WebSockets in progress, four idle connections, ten requests done."""
    with Master("app:app", "--keep-alive", "60", files={"app.py": APP}, workers=2) as master:
        with ExitStack() as stack:
            idle = [stack.enter_context(Wire(master.connect())) for _ in range(4)]
            for number in range(10):
                idle[number % 4].request("GET", "/")
            for _ in range(3):
                stack.enter_context(Wire(master.connect())).send(request("GET", "/wait"))
            for _ in range(2):
                stack.enter_context(WebSocketWire(master.connect())).connect("/")
            # Workers write their numbers down with each beat, once a second.
            report = wait_until(
                lambda: found if total(found := look(master), "connections") == 9 else None,
                20,
                "nine connections",
            )
            assert report is not None
            assert total(report, "websockets") == 2
            assert total(report, "in_flight") == 5
            assert total(report, "requests") == 15
            assert (report["master"], report["generation"]) == (master.pid, 1)
            assert (report["wanted"], report["ready"], report["ready_before"]) == (2, 2, 0)
            assert (report["verdict"], report["reason"]) == ("complete", "")
            assert [row["pid"] for row in report["workers"]] == master.workers()
            for row in report["workers"]:
                assert row["state"] == "ready"
                # The same page counters, a beat apart.
                assert abs(row["memory_bytes"] - master.memory(row["pid"])) < 16 << 20
            master.write("go", "")
        wait_until(lambda: total(look(master), "connections") == 0, 20, "no connection")


def test_status_is_a_table_for_people() -> None:
    with Master("app:app", files={"app.py": APP}, workers=2) as master:
        done = ask("status", *by_pid(master))
        assert (done.returncode, done.stderr) == (0, "")
        head, _, columns, *rows = done.stdout.splitlines()
        assert re.fullmatch(
            rf"master {master.pid}, generation 1, started \d+s ago: complete, 2 of 2 ready", head
        )
        assert columns.split()[:3] == ["gen", "pid", "state"]
        assert [row.split()[:3] for row in rows] == [
            ["1", str(pid), "ready"] for pid in master.workers()
        ]


def test_status_tells_a_stuck_worker_by_its_lag() -> None:
    """It cannot say so itself."""
    with Master("app:app", files={"app.py": APP}) as master:
        with Wire(master.connect()) as wire:
            wire.send(request("GET", "/block"))
            wait_until(lambda: look(master)["workers"][0]["lag_ms"] > 1500, 20, "lag")
            master.write("go", "")
            wire.recv_response()
        wait_until(lambda: look(master)["workers"][0]["lag_ms"] < 1000, 20, "no lag")


def test_watch_ends_with_the_master() -> None:
    """A document a line, until there is nothing to look at."""
    with Master("app:app", files={"app.py": APP}) as master:
        with popen("status", *by_pid(master), "--watch", "--json") as watch:
            assert watch.stdout is not None
            for _ in range(2):
                assert json.loads(watch.stdout.readline())["verdict"] == "complete"
            master.stop()
            _, errors = watch.communicate(timeout=20)
            assert (watch.returncode, errors) == (
                1,
                f"gunicorn-asgi: master {master.pid} is gone\n",
            )


def test_watch_ends_with_ctrl_c() -> None:
    with Master("app:app", files={"app.py": APP}) as master:
        with popen("status", *by_pid(master), "--watch") as watch:
            assert watch.stdout is not None
            assert watch.stdout.readline().startswith(f"master {master.pid}, ")
            watch.send_signal(SIGINT)
            _, errors = watch.communicate(timeout=20)
            assert (watch.returncode, errors) == (130, "")


def test_a_reader_that_has_enough_leaves_no_traceback() -> None:
    """status --watch | head -1."""
    with Master("app:app", files={"app.py": APP}) as master:
        with popen("status", *by_pid(master), "--watch", "--json") as watch:
            assert watch.stdout is not None
            assert watch.stderr is not None
            watch.stdout.readline()
            watch.stdout.close()
            assert watch.wait(20) == 1
            assert watch.stderr.read() == ""


@pytest.mark.parametrize("command", ["status", "reload"])
def test_a_worker_is_not_taken_for_its_master(command: str) -> None:
    """A HUP would end it at once."""
    with Master("app:app", files={"app.py": APP}) as master:
        (worker,) = master.workers()
        done = ask(command, "--pid", str(worker))
        expected = f"gunicorn-asgi: process {worker} is a worker; its master is {master.pid}\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
        assert master.workers() == [worker]


@pytest.mark.parametrize("command", ["status", "reload", "wait-ready"])
def test_a_pidfile_leads_to_its_master(command: str) -> None:
    with Master("app:app", "-p", "pid", files={"app.py": APP}) as master:
        done = ask(command, "--pidfile", str(master.dir / "pid"))
        assert (done.returncode, done.stderr) == (0, "")
        assert "generation" in done.stdout


# -- reload ----------------------------------------------------------------------------------------


def test_after_reload_every_new_connection_meets_the_new_code() -> None:
    """Not most of them: a deploy script asks the new release for its version right away."""
    with Master("app:app", files={"app.py": APP}, workers=2) as master:
        master.write("app.py", NEW)
        done = ask("reload", *by_pid(master))
        assert {answer(master) for _ in range(30)} == {b"new"}
        assert (done.returncode, done.stderr) == (0, "")
        pattern = r"generation 2 serves: 2 of 2 workers ready, after \d+\.\d s\n"
        assert re.fullmatch(pattern, done.stdout)


def test_reload_waits_for_a_slow_boot() -> None:
    with Master("app:app", files={"app.py": APP}) as master:
        master.write("app.py", SLOW.replace('b"old"', 'b"new"'))
        with popen("reload", *by_pid(master)) as command:
            master.wait_log(r"Worker holding")
            assert (look(master)["verdict"], command.poll()) == ("pending", None)
            assert answer(master) == b"old"
            master.write("go", "")
            output, errors = command.communicate(timeout=20)
        assert (command.returncode, errors, answer(master)) == (0, "", b"new")
        assert output.startswith("generation 2 serves")


BROKEN = {
    "import": (
        "import no_such_thing\n" + NEW,
        r'File ".*app\.py", line 1, in <module>\n.*\n'
        r"ModuleNotFoundError: No module named 'no_such_thing'\n",
    ),
    "syntax": ("def app(:\n", r'File ".*app\.py", line 1\n(.*\n)+SyntaxError'),
    "startup": (
        NEW.replace(
            '{"type": message["type"] + ".complete"}',
            '{"type": "lifespan.startup.failed", "message": "no database"}',
        ),
        "LifespanFailed.*no database",
    ),
    "killed": ("import os\nos.kill(os.getpid(), 9)\n", r"^ended without a word: worker [\d, ]+\n"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_reload_of_broken_code_fails_with_its_reason_and_the_old_code_serves(kind: str) -> None:
    """And the repaired one succeeds, although the master is busy for some time."""
    code, reason = BROKEN[kind]
    with Master("app:app", *GRACEFUL, files={"app.py": APP}, workers=2) as master:
        master.write("app.py", code)
        done = ask("reload", *by_pid(master))
        assert (done.returncode, done.stdout) == (1, "")
        assert re.search(reason, done.stderr, re.MULTILINE), done.stderr
        assert done.stderr.endswith("\ngeneration 2 failed: the one before serves on\n")
        assert {answer(master) for _ in range(10)} == {b"old"}
        report = look(master)
        assert (report["verdict"], report["ready"], report["ready_before"]) == ("failed", 0, 2)
        assert re.search(reason, report["reason"] + "\n", re.MULTILINE)
        master.write("app.py", NEW)
        done = ask("reload", *by_pid(master))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("generation 3 serves")
        assert {answer(master) for _ in range(10)} == {b"new"}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("def\n", "SyntaxError"),
        ("import no_such_thing\n", "No module named 'no_such_thing'"),
        ("workers = 'many'\n", "ValueError"),
        ("asgi_drain_linger = 'soon'\n", "asgi_drain_linger is 'soon'"),
    ],
)
def test_reload_fails_if_the_configuration_is_refused(config: str, reason: str) -> None:
    """The new generation serves the new code, but not with what was asked for."""
    with Master("app:app", *GRACEFUL, files={"app.py": APP}, config="") as master:
        master.write("app.py", NEW)
        master.write("gunicorn.conf.py", config)
        done = ask("reload", *by_pid(master))
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
        assert done.stderr.endswith(
            "\ngeneration 2 serves with the old configuration: the new one could not be loaded\n"
        )
        assert answer(master) == b"new"
        assert look(master)["verdict"] == "refused"
        master.write("gunicorn.conf.py", "")
        assert ask("reload", *by_pid(master)).returncode == 0
        assert look(master)["verdict"] == "complete"


def test_reload_fails_if_the_master_ends() -> None:
    """As with the guard off: Gunicorn's own way with a broken config file."""
    config = "asgi_reload_guard = False\n"
    with Master("app:app", files={"app.py": APP}, config=config, checked=False) as master:
        master.write("gunicorn.conf.py", "def\n")
        done = ask("reload", *by_pid(master))
        expected = f"gunicorn-asgi: master {master.pid} is gone\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
        assert master.wait_exit() == 1


def test_reload_fails_when_its_time_is_up_and_the_reload_goes_on() -> None:
    with Master("app:app", files={"app.py": APP}) as master:
        master.write("app.py", SLOW)
        done = ask("reload", *by_pid(master), "--timeout", "1")
        expected = (
            "no verdict after 1 s: generation 2 is still pending, 0 of 1 workers ready, 1 older\n"
        )
        assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
        master.write("go", "")
        wait_until(lambda: look(master)["verdict"] == "complete", 20, "the end of the reload")


def test_two_reloads_at_the_same_time_both_get_the_verdict_of_the_new_code() -> None:
    """Two deploys by mistake."""
    with Master("app:app", *GRACEFUL, files={"app.py": APP}) as master:
        master.write("app.py", NEW)
        with popen("reload", *by_pid(master)) as one, popen("reload", *by_pid(master)) as two:
            for command in (one, two):
                output, errors = command.communicate(timeout=30)
                assert (command.returncode, errors) == (0, "")
                assert re.match(r"generation [23] serves", output)
        assert answer(master) == b"new"


# -- wait-ready ------------------------------------------------------------------------------------


def test_wait_ready_waits_for_a_pidfile_and_for_every_worker() -> None:
    """It may be started before the master, as by a script that puts both into the background."""
    files = {"app.py": SLOW}
    with Master("app:app", "-p", "pid", files=files, workers=2, ready=None) as master:
        pidfile = str(master.dir / "pid")
        with popen("wait-ready", "--pidfile", pidfile) as command:
            wait_until(lambda: len(master.workers()) == 2, 20, "two workers")
            done = ask("wait-ready", *by_pid(master), "--timeout", "0.2")
            expected = "not ready after 0.2 s: 0 of 2 workers ready\n"
            assert (done.returncode, done.stderr) == (1, expected)
            assert command.poll() is None
            master.write("go", "")
            output, errors = command.communicate(timeout=20)
        assert (command.returncode, errors) == (0, "")
        assert output == "generation 1 is ready: 2 of 2 workers ready\n"
        assert answer(master) == b"old"
        assert ask("wait-ready", *by_pid(master)).returncode == 0


def test_wait_ready_does_not_outwait_a_pidfile_that_never_comes(tmp_path: os.PathLike[str]) -> None:
    done = ask("wait-ready", "--pidfile", f"{tmp_path}/pid", "--timeout", "0.3")
    expected = f"gunicorn-asgi: pidfile {tmp_path}/pid cannot be read: No such file or directory\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_wait_ready_ends_with_a_first_start_that_fails() -> None:
    """At once, not when the time is up: 60 s more of a broken start help nobody."""
    files = {"app.py": SLOW + "import no_such_thing\n"}
    with Master("app:app", "-p", "pid", files=files, ready=None, checked=False) as master:
        wait_until(lambda: len(master.workers()) == 1, 20, "a worker")
        with popen("wait-ready", "--pidfile", str(master.dir / "pid")) as command:
            done = ask("wait-ready", *by_pid(master), "--timeout", "0.1")
            assert done.returncode == 1
            master.write("go", "")
            _, errors = command.communicate(timeout=20)
        assert master.wait_exit() == 3
        assert command.returncode == 1
        assert re.fullmatch(rf"gunicorn-asgi: (master {master.pid} is gone|pidfile .*)\n", errors)


def test_wait_ready_waits_for_the_replacement_of_a_worker_that_was_killed() -> None:
    with Master("app:app", files={"app.py": APP}, workers=2) as master:
        victim = master.workers()[0]
        master.write("app.py", SLOW)
        master.kill_worker(victim, SIGKILL)
        master.wait_workers(lambda pids: len(pids) == 2 and victim not in pids)
        assert ask("wait-ready", *by_pid(master), "--timeout", "0.1").returncode == 1
        master.write("go", "")
        assert ask("wait-ready", *by_pid(master)).returncode == 0


def test_wait_ready_does_not_wait_after_a_rollback() -> None:
    with Master("app:app", *GRACEFUL, files={"app.py": APP}) as master:
        master.write("app.py", "import no_such_thing\n")
        master.signal(SIGHUP)
        master.wait_log(r"Rolled back to generation 1")
        done = ask("wait-ready", *by_pid(master))
        assert done.returncode == 1
        assert "No module named 'no_such_thing'" in done.stderr
        assert done.stderr.endswith("generation 2 failed: the one before serves on\n")


# -- whoever asks leaves no trace ------------------------------------------------------------------


def test_asking_changes_nothing_in_the_server() -> None:
    """The board is opened for reading; descriptors and processes are those before."""
    with Master("app:app", files={"app.py": APP}) as master:
        (worker,) = master.workers()
        look(master)
        before = master.fds(master.pid), master.fds(worker)
        for _ in range(3):
            look(master)
            assert ask("wait-ready", *by_pid(master)).returncode == 0
        assert (master.fds(master.pid), master.fds(worker)) == before
        assert master.workers() == [worker]


def test_the_module_and_its_function_are_the_same_command() -> None:
    """``python -m gunicorn_asgi``, and what the console script calls."""
    code = "import sys; from gunicorn_asgi.worker.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--version"]
    by_function = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert ask("--version").stdout == by_function.stdout
