"""A configuration that cannot be loaded at HUP does not end the server (asgi_reload_guard).

Gunicorn ends the process on any error in ``BaseApplication.do_load_config``, at a reload too.
"""

from __future__ import annotations

from signal import SIGHUP

import pytest

from kit.load import Load, source
from kit.master import READY, WORKER_CLASS, Master, wait_until

GOOD = f"""\
worker_class = "{WORKER_CLASS}"
workers = 2
keepalive = 5
graceful_timeout = 3
asgi_drain_linger = 0.5
"""

# What Gunicorn itself reads from the file, name and text.
GUNICORN = {
    "syntax error": ("workers = = 2\n", "SyntaxError|SystemExit"),
    "exception": (GOOD + "1 / 0\n", "ZeroDivisionError|SystemExit"),
    "exit": (GOOD + "raise SystemExit\n", "SystemExit"),
    "value": (GOOD + "workers = 'many'\n", "SystemExit|many"),
    "no such class": (GOOD + "worker_class = 'no_such_package.Worker'\n", "no_such_package"),
    "no such logger": (GOOD + "logger_class = 'no_such_package.Logger'\n", "no_such_package"),
    "no such user": (GOOD + "user = 'nobody-of-that-name'\n", "nobody-of-that-name"),
}
# What only we know.
OURS = {
    "loop": (GOOD + "asgi_loop = 'twisted'\n", "asgi_loop is 'twisted'|Invalid ASGI loop"),
    "seconds": (GOOD + "asgi_boot_timeout = -1\n", "asgi_boot_timeout is -1"),
    "path": (GOOD + "asgi_ready_check = 'health'\n", "asgi_ready_check is 'health'"),
    "both": (GOOD + "asgi_term_delay = 5\n", "asgi_term_delay is 5, which is not less than"),
}


class ByFile(Master):
    """The command line wins over the file, so nothing is said on it."""

    def _command(self) -> list[str]:
        command = super()._command()
        for option in ("-k", "-w"):
            at = command.index(option)
            del command[at : at + 2]
        return command


def master(config: str = GOOD) -> Master:
    return ByFile("app:app", workers=2, config=config, files={"app.py": source("old")})


def replaced(m: Master, before: list[int]) -> list[int]:
    """Wait until two workers are left, none of them from before."""
    return m.wait_workers(lambda pids: len(pids) == 2 and set(pids).isdisjoint(before), 15)


def survive(m: Master, config: str, reason: str) -> None:
    before = m.workers()
    with Load(m.connect, upload=0) as load:
        mark = m.mark()
        m.write("gunicorn.conf.py", config)
        m.write("app.py", source("new"))
        m.signal(SIGHUP)
        m.wait_log(rf"\[ERROR\] .*({reason})", after=mark)
        # The code is reloaded all the same, with the configuration there was.
        m.wait_log(READY, 15, after=mark, count=2)
        load.wait_body("new")
        after = replaced(m, before)
        m.write("gunicorn.conf.py", GOOD)
        mark = m.mark()
        m.signal(SIGHUP)
        m.wait_log(READY, 15, after=mark, count=2)
        replaced(m, after)
    load.check(slowest=1.0)


@pytest.mark.parametrize("name", GUNICORN)
def test_a_config_that_gunicorn_cannot_load_keeps_the_server_up(name: str) -> None:
    with master() as m:
        survive(m, *GUNICORN[name])


@pytest.mark.parametrize("name", OURS)
def test_a_value_that_we_refuse_keeps_the_server_up(name: str) -> None:
    with master() as m:
        survive(m, *OURS[name])


def test_twice_broken_and_the_settings_before_stay_in_force() -> None:
    with master() as m:
        for text in (GUNICORN["syntax error"][0], OURS["seconds"][0]):
            before = m.workers()
            mark = m.mark()
            m.write("gunicorn.conf.py", text)
            m.signal(SIGHUP)
            m.wait_log(READY, 15, after=mark, count=2)
            # As many as the good file says: Gunicorn's own default is one.
            replaced(m, before)


def test_a_broken_config_and_broken_code_together_keep_the_server_up() -> None:
    with master() as m:
        old = m.workers()
        with Load(m.connect, upload=0) as load:
            mark = m.mark()
            m.write("gunicorn.conf.py", "1 / 0\n")
            m.write("app.py", "1 / 0\n")
            m.signal(SIGHUP)
            m.wait_log("Rolled back to generation 1: generation 2 .*ZeroDivision", 15, after=mark)
            m.wait_workers(lambda pids: pids == old)
            load.wait(50)
        load.check(slowest=1.0)
        assert load.bodies() == {"old"}


@pytest.mark.parametrize("name", ["syntax error", "exception", "value"])
def test_without_the_guard_gunicorn_ends_as_it_always_did(name: str) -> None:
    with master(GOOD + "asgi_reload_guard = False\n") as m:
        m.write("gunicorn.conf.py", GUNICORN[name][0])
        m.signal(SIGHUP)
        assert m.wait_exit() == 1
        wait_until(lambda: not m.leftovers(), 10, "the workers to see that the master is gone")
