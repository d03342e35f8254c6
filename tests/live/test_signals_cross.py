"""Signals that come while another one is still at work: each pair ends as it should.

Gunicorn 27 looks at no signal while it waits for old workers after a HUP (``Arbiter.reload``, at
most graceful_timeout); Gunicorn 23 acts at once. Both have to come out right.
"""

from __future__ import annotations

import time
from signal import (
    SIGHUP,
    SIGKILL,
    SIGQUIT,
    SIGTERM,
    SIGTTIN,
    SIGTTOU,
    SIGUSR2,
    SIGWINCH,
)

import pytest

from kit import proc
from kit.load import Load, source
from kit.master import READY, Master, wait_until

GRACEFUL = 4
SLOW = "import time; time.sleep(2)"
HANGS = "import time; time.sleep(60)"


def master(workers: int = 2, *args: str, **more: str) -> Master:
    options = ("--graceful-timeout", str(GRACEFUL), "--keep-alive", "5", *args)
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "0.5", **more}
    return Master("app:app", *options, workers=workers, env=env, files={"app.py": source("old")})


def hup(m: Master, version: str, first: str = "") -> int:
    """Begin a reload; return the position in the log."""
    mark = m.mark()
    m.write("app.py", source(version, first=first))
    m.signal(SIGHUP)
    m.wait_log("Booting worker", after=mark, count=m.worker_count)
    return mark


def hold(m: Master, first: str = SLOW) -> int:
    """Begin a reload and wait until all old workers hold."""
    mark = hup(m, "new", first)
    m.wait_log("Worker holding", after=mark, count=m.worker_count)
    return mark


# HUP and HUP


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_hup_during_a_slow_reload_ends_with_the_last_code(workers: int) -> None:
    with master(workers) as m:
        with Load(m.connect) as load:
            hup(m, "first", SLOW)
            m.write("app.py", source("second", first=SLOW))
            m.signal(SIGHUP)
            load.wait_body("second")
            m.wait_workers(workers, 20)
        load.check(slowest=1.0)


def test_a_burst_of_hups_ends_with_the_last_code() -> None:
    with master() as m:
        with Load(m.connect) as load:
            mark = m.mark()
            m.write("app.py", source("last", first="import time; time.sleep(0.5)"))
            for number in range(1, 4):
                m.signal(SIGHUP)
                # One that is still pending would swallow the next: signals do not queue.
                m.wait_log("Handling signal: hup", 20, after=mark, count=number)
            load.wait_body("last")
            m.wait_workers(2, 20)
        load.check(slowest=1.0)


def test_a_repaired_hup_during_a_hanging_reload_ends_with_the_repaired_code() -> None:
    with master(GUNICORN_ASGI_BOOT_TIMEOUT="30") as m:
        with Load(m.connect) as load:
            hold(m, HANGS)
            m.write("app.py", source("repaired"))
            m.signal(SIGHUP)
            load.wait_body("repaired", 40)
            m.wait_workers(2, 20)
        load.check(slowest=1.0)


# HUP and the end


@pytest.mark.parametrize("first", [SLOW, HANGS], ids=["slow", "hanging"])
def test_term_during_a_reload_ends_the_server_and_answers_what_was_accepted(first: str) -> None:
    with master() as m:
        with Load(m.connect, until_gone=True) as load:
            hold(m, first)
            load.wait(20)
            m.signal(SIGTERM)
            load.wait_gone()
        load.check()
        assert m.wait_exit(20) == 0
        assert "SIGKILL" not in m.log()


def test_term_right_after_hup_ends_the_server_and_answers_what_was_accepted() -> None:
    with master() as m:
        with Load(m.connect, until_gone=True) as load:
            load.wait(20)
            m.signal(SIGHUP)
            m.signal(SIGTERM)
            load.wait_gone()
        load.check()
        assert m.wait_exit(20) == 0
        assert "SIGKILL" not in m.log()


@pytest.mark.parametrize("first", [SLOW, HANGS], ids=["slow", "hanging"])
def test_quit_during_a_reload_ends_the_server(first: str) -> None:
    with master() as m:
        hold(m, first)
        m.signal(SIGQUIT)
        assert m.wait_exit(20) == 0
        assert "SIGKILL" not in m.log()


# HUP and the number of workers


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize(("number", "change"), [(SIGTTIN, 1), (SIGTTOU, -1)])
def test_ttin_and_ttou_during_a_reload_change_the_number_and_nothing_else(
    workers: int, number: int, change: int
) -> None:
    with master(workers) as m:
        with Load(m.connect) as load:
            hold(m)
            m.signal(number)
            load.wait_body("new")
            m.wait_workers(workers + change, 20)
            since = time.monotonic()
            load.wait(50)
            assert load.bodies(since) == {"new"}
        load.check(slowest=1.0)


def test_ttou_to_founders_that_are_ready_does_not_leave_the_old_ones_holding() -> None:
    # One founder is ready, one still boots, when the arbiter asks for one worker less.
    first = f"""
        try:
            os.close(os.open("lock", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            {SLOW}
    """
    with master() as m:
        with Load(m.connect) as load:
            mark = hup(m, "new", first)
            m.wait_log(READY, after=mark)
            m.signal(SIGTTOU)
            load.wait_body("new")
            m.wait_workers(1, 20)
        load.check(slowest=1.0)


@pytest.mark.parametrize("times", [1, 3])
def test_ttou_during_a_reload_that_fails_leaves_the_old_ones_serving(times: int) -> None:
    with master(3) as m:
        with Load(m.connect) as load:
            hold(m, SLOW + "; raise RuntimeError('broken')")
            for count in range(1, times + 1):
                m.signal(SIGTTOU)
                m.wait_log("Handling signal: ttou", 20, count=count)
            m.wait_workers(max(1, 3 - times), 20)
            since = time.monotonic()
            load.wait(50)
            assert load.bodies(since) == {"old"}
        load.check(slowest=1.0)


# HUP and the death of a worker


def killed_at(load: Load, moment: float) -> None:
    """Assert that only what the killed one had in its hands was lost."""
    late = [each for each in load.failures if each.begun > moment + 0.1]
    assert not late, late


@pytest.mark.parametrize("victim", ["old", "new"])
@pytest.mark.parametrize("moment", ["booting", "ready"])
def test_a_worker_killed_during_a_reload_costs_what_it_had_in_its_hands(
    victim: str, moment: str
) -> None:
    with master() as m:
        old = m.workers()
        with Load(m.connect, upload=0) as load:
            if moment == "booting":
                hold(m)
            else:
                mark = hup(m, "new")
                m.wait_log(READY, after=mark)
            candidates = [p for p in m.workers() if (p in old) == (victim == "old")]
            if candidates:
                m.kill_worker(candidates[0], SIGKILL)
            killed = time.monotonic()
            # Whatever the verdict on that generation is: there are two, and the next one serves.
            m.wait_workers(2, 20)
            load.wait(50)
            m.write("app.py", source("next"))
            m.signal(SIGHUP)
            load.wait_body("next")
            m.wait_workers(2, 20)
        killed_at(load, killed)


def test_all_new_ones_killed_while_they_boot_leave_the_old_ones_serving() -> None:
    with master() as m:
        old = m.workers()
        with Load(m.connect) as load:
            mark = hold(m)
            for pid in m.workers():
                if pid not in old:
                    m.kill_worker(pid, SIGKILL)
            m.wait_log("Rolled back to generation 1", after=mark)
            m.wait_workers(lambda pids: pids == old)
            load.wait(50)
            assert load.bodies() == {"old"}
        load.check(slowest=1.0)


def test_all_old_ones_killed_while_the_new_ones_boot_are_made_up_for_by_these() -> None:
    with master() as m:
        old = m.workers()
        hold(m)
        for pid in old:
            m.kill_worker(pid, SIGKILL)
        with Load(m.connect, upload=0) as load:
            # They wait in the backlog for as long as the import takes.
            load.wait_body("new")
            m.wait_workers(2, 20)
        load.check(slowest=10.0)


# USR2


def upgradable(workers: int = 2) -> Master:
    # WINCH is for a daemon only (Arbiter.handle_winch). With GUNICORN_FD set, as after USR2,
    # util.daemonize() leaves the process where it is.
    m = master(workers, "--daemon", GUNICORN_FD="none")
    m.leftover_grace = 10.0
    return m


def upgrade(m: Master, version: str) -> int:
    """Start a new master with USR2 and wait for its workers; return its pid."""
    mark = m.mark()
    m.write("app.py", source(version))
    m.signal(SIGUSR2)
    new = wait_until(m.new_master, 10, "the new master")
    assert new is not None
    m.wait_log(READY, 20, after=mark, count=m.worker_count)
    return new


def test_usr2_winch_and_quit_upgrade_the_master_and_fail_no_request() -> None:
    with upgradable() as m:
        with Load(m.connect) as load:
            old, new = m.pid, upgrade(m, "new")
            assert len(m.workers(old)) == len(m.workers(new)) == 2
            load.wait(50)
            m.signal(SIGWINCH)
            wait_until(lambda: not m.workers(old), 20, "the old workers to leave")
            load.wait_body("new")
            m.signal(SIGQUIT)
            assert m.wait_exit() == 0
            m.adopt(new)
            m.wait_log("Master has been promoted")
            load.wait(50)
            # And the new one is a master like any other.
            m.write("app.py", source("newer"))
            m.signal(SIGHUP)
            load.wait_body("newer")
        load.check(slowest=1.0)


@pytest.mark.parametrize("number", [SIGTERM, SIGQUIT])
def test_usr2_and_the_way_back_fail_no_request(number: int) -> None:
    with upgradable() as m:
        with Load(m.connect) as load:
            old, new = m.pid, upgrade(m, "new")
            m.signal(SIGWINCH)
            wait_until(lambda: not m.workers(old), 20, "the old workers to leave")
            load.wait_body("new")
            # It turns out to be no good: the old master takes over again.
            m.write("app.py", source("old again"))
            mark = m.mark()
            m.signal(SIGHUP)
            m.wait_log(READY, 20, after=mark, count=2)
            m.kill_worker(new, SIGTERM)
            wait_until(lambda: not proc.alive(new), 20, "the new master to end")
            load.wait_body("old again")
            assert m.pid == old
            assert len(m.workers()) == 2
            # Once more, to show that nothing of the first attempt is in the way.
            again = upgrade(m, "new again")
            told = time.monotonic()
            m.signal(number)
            assert m.wait_exit(20) == 0
            m.adopt(again)
            load.wait_body("new again")
        if number == SIGTERM:
            load.check(slowest=1.0)
        else:
            # Without WINCH before it, QUIT is quick: it gives up what is in flight (503, or a reset
            # of an upload), and nothing that comes later.
            assert not [each for each in load.failures if each.begun > told + 0.5]
            assert len(load.failures) < 10


def test_usr2_onto_broken_code_leaves_the_old_master_serving() -> None:
    with master() as m:
        with Load(m.connect) as load:
            m.write("app.py", "1 / 0\n")
            m.signal(SIGUSR2)
            m.wait_log("ZeroDivisionError", 20)
            wait_until(lambda: m.new_master() is None, 20, "the new master to give up")
            load.wait(50)
            assert load.bodies() == {"old"}
            m.write("app.py", source("repaired"))
            m.signal(SIGHUP)
            load.wait_body("repaired")
        load.check(slowest=1.0)
