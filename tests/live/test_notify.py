"""What systemd hears from the workers (sd_notify(3)): the fake is its socket and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from signal import SIGCONT, SIGHUP, SIGKILL, SIGSTOP
from typing import Any

import pytest

from kit.load import source
from kit.master import Master
from kit.notify import NotifySocket
from kit.wire import Wire, request

WATCHDOG = "WATCHDOG=1"
# Beats come every second, and three missing ones are too many.
SILENCE = 4.0
BLOCKING = """
if scope["path"] == "/block":
    import time
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


@pytest.fixture
def systemd() -> Iterator[NotifySocket]:
    with NotifySocket() as notify:
        yield notify


def serve(systemd: NotifySocket, text: str, workers: int = 2, **more: Any) -> Master:
    env = {"NOTIFY_SOCKET": systemd.path, **more.pop("env", {})}
    # Short, because after a rollback Gunicorn waits for so long for those who have stayed.
    options = ["--graceful-timeout", "4"]
    return Master("app:app", *options, files={"app.py": text}, workers=workers, env=env, **more)


def watched(systemd: NotifySocket, text: str, **more: Any) -> Master:
    return serve(systemd, text, env={"WATCHDOG_USEC": "30000000"}, **more)


@pytest.mark.parametrize(("workers", "words"), [(1, "1 worker"), (3, "3 workers")])
def test_status_tells_how_many_serve(systemd: NotifySocket, workers: int, words: str) -> None:
    with serve(systemd, source("one"), workers) as m:
        told = systemd.wait(f"STATUS=generation 1 serves, {words}")
        assert told.pid in m.workers()
    # The master itself, before it has forked anybody.
    assert systemd.heard[0].text == "READY=1\nSTATUS=Gunicorn arbiter booted"
    assert systemd.heard[0].pid == m.pid
    # Beats are for those who asked for them.
    assert not systemd.said(WATCHDOG)


def test_status_tells_a_reload_while_it_runs_and_when_it_is_over(systemd: NotifySocket) -> None:
    with serve(systemd, source("one")) as m:
        systemd.wait("STATUS=generation 1 serves, 2 workers")
        mark = systemd.mark()
        m.write("app.py", source("two", first="import time; time.sleep(0.5)"))
        m.signal(SIGHUP)
        before = systemd.wait("STATUS=reloading: generation 2 boots", after=mark)
        after = systemd.wait("STATUS=generation 2 serves, 2 workers", after=mark)
        assert before.at < after.at
        assert before.pid != after.pid


def test_status_tells_a_rollback_with_its_reason_and_the_repair(systemd: NotifySocket) -> None:
    with serve(systemd, source("one")) as m:
        mark = systemd.mark()
        m.write("app.py", "raise ImportError('nope')\n")
        m.signal(SIGHUP)
        verdict = "rolled back to generation 1: generation 2 failed to boot: ImportError: nope"
        systemd.wait(f"STATUS={verdict}", after=mark)
        m.write("app.py", source("two"))
        m.signal(SIGHUP)
        systemd.wait("STATUS=generation 3 serves, 2 workers", 20, after=mark)


def test_status_stays_one_line_whatever_the_reason(systemd: NotifySocket) -> None:
    with serve(systemd, source("one")) as m:
        mark = systemd.mark()
        # The last line of the traceback, with what would be another assignment if it were a line.
        m.write("app.py", "raise ImportError('x' * 900 + ' \\r\\x0b READY=0')\n")
        m.signal(SIGHUP)
        told = systemd.wait(r"STATUS=rolled back to (?s:.*)", after=mark).text
        assert "\n" not in told
        assert len(told) < 400


def test_status_tells_that_the_new_configuration_was_refused(systemd: NotifySocket) -> None:
    with serve(systemd, source("one"), config="timeout = 20\n") as m:
        mark = systemd.mark()
        m.write("gunicorn.conf.py", "import nope\n")
        m.signal(SIGHUP)
        words = "generation 2 serves, 2 workers, with the old configuration: .*'nope'"
        systemd.wait(f"STATUS={words}", after=mark)


def test_one_worker_speaks_until_it_is_gone_and_then_another(systemd: NotifySocket) -> None:
    with watched(systemd, source("one")) as m:
        first = systemd.wait(WATCHDOG).pid
        mark = systemd.mark()
        systemd.wait(WATCHDOG, after=mark)
        assert {each.pid for each in systemd.said(WATCHDOG, mark)} == {first}
        assert first in m.workers()
        m.kill_worker(first, SIGKILL)
        m.wait_workers(lambda pids: first not in pids and len(pids) == 2)
        mark = systemd.mark()
        assert systemd.wait(WATCHDOG, after=mark).pid != first


def test_a_blocked_worker_stops_the_watchdog_until_it_is_free(systemd: NotifySocket) -> None:
    app = source("one", answer=BLOCKING)
    with watched(systemd, app) as m, Wire(m.connect(20)) as wire:
        systemd.wait(WATCHDOG)
        wire.send(request("GET", "/block"))
        systemd.wait_silence(WATCHDOG, SILENCE)
        mark = systemd.mark()
        m.write("go", "")
        assert wire.recv_response().status == 200
        systemd.wait(WATCHDOG, after=mark)


def test_a_stopped_worker_that_does_not_speak_stops_the_watchdog_too(
    systemd: NotifySocket,
) -> None:
    with watched(systemd, source("one")) as m:
        speaker = systemd.wait(WATCHDOG).pid
        (other,) = set(m.workers()) - {speaker}
        m.kill_worker(other, SIGSTOP)
        systemd.wait_silence(WATCHDOG, SILENCE)
        mark = systemd.mark()
        m.kill_worker(other, SIGCONT)
        assert systemd.wait(WATCHDOG, after=mark).pid == speaker


def test_without_a_worker_nobody_says_that_all_is_well(systemd: NotifySocket) -> None:
    with watched(systemd, source("one"), workers=1) as m:
        (last,) = m.workers()
        systemd.wait(WATCHDOG)
        m.write("app.py", "raise ImportError('nope')\n")
        m.kill_worker(last, SIGKILL)
        m.wait_log("failed to boot")
        systemd.wait_silence(WATCHDOG, SILENCE)
        mark = systemd.mark()
        m.write("app.py", source("two"))
        systemd.wait(WATCHDOG, 20, after=mark)


def test_a_slow_reload_does_not_stop_the_watchdog(systemd: NotifySocket) -> None:
    with watched(systemd, source("one")) as m:
        systemd.wait(WATCHDOG)
        m.write("app.py", source("two", first="import time; time.sleep(5)"))
        m.signal(SIGHUP)
        systemd.wait("STATUS=reloading: generation 2 boots")
        mark = systemd.mark()
        systemd.wait("STATUS=generation 2 serves, 2 workers", 20)
        assert systemd.said(WATCHDOG, mark)


def test_the_watchdog_of_another_process_is_not_fed(systemd: NotifySocket) -> None:
    """sd_watchdog_enabled(3): WATCHDOG_PID is the main process, which is the master or nobody."""
    env = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}
    with serve(systemd, source("one"), env=env) as m:
        systemd.wait("STATUS=generation 1 serves, 2 workers")
        first = m.workers()
        # Long enough for beats: a whole generation has come and is ready.
        m.signal(SIGHUP)
        systemd.wait("STATUS=generation 2 serves, 2 workers")
        m.wait_workers(lambda pids: not set(first) & set(pids))
        systemd.wait_silence(WATCHDOG, SILENCE)
    assert not systemd.said(WATCHDOG)
