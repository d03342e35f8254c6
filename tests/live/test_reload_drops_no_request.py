"""A deploy that works is noticed by nobody: HUP after HUP under load, and nothing fails.

Clients with a kept connection, with a new one each time, with uploads and with WebSockets; none of
them tries anything twice (``kit.load``). RFC 9112, 9.6 is what makes it possible: a worker that
leaves says so in its last answer, and goes on reading until the client has seen it.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from signal import SIGHUP

import pytest

from kit.load import Load, source
from kit.master import READY, Master, wait_until
from kit.nginx import NGINX, Nginx

HUPS = 20
SETTLED = "Traceback", "SIGKILL", "[ERROR]", "[CRITICAL]"


def reload_once(m: Master, version: str) -> None:
    """Deploy ``version`` and wait until only its workers are left."""
    before = set(m.workers())
    m.write("app.py", source(version))
    m.signal(SIGHUP)
    m.wait_workers(lambda p: len(p) == m.worker_count and before.isdisjoint(p), 30)


def check_log(m: Master) -> None:
    log = m.log()
    assert not [word for word in SETTLED if word in log], log


@pytest.mark.parametrize("bind", ["tcp", "unix"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_twenty_reloads_under_load_fail_no_request(workers: int, bind: str) -> None:
    options = ("--keep-alive", "5")
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "0.5"}
    files = {"app.py": source("0")}
    with Master("app:app", *options, workers=workers, bind=bind, env=env, files=files) as m:
        with Load(m.connect) as load:
            load.wait(20)
            for number in range(1, HUPS + 1):
                reload_once(m, str(number))
            load.wait(20)
        load.check(slowest=1.0)
        assert load.bodies() == {str(number) for number in range(HUPS + 1)}
        assert load.reconnects
        check_log(m)
        print(dict(load.counts()), load.slowest)  # noqa: T201 - the number behind the bound


@pytest.mark.skipif(NGINX is None and not os.environ.get("CI"), reason="nginx is not installed")
@pytest.mark.parametrize("bind", ["tcp", "unix"])
def test_twenty_reloads_behind_nginx_fail_no_request(bind: str) -> None:
    options = ("--keep-alive", "5")
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "2"}
    files = {"app.py": source("0")}
    with ExitStack() as stack:
        m = stack.enter_context(
            Master("app:app", *options, workers=2, bind=bind, env=env, files=files)
        )
        nginx = stack.enter_context(Nginx(m.address))
        with Load(nginx.connect) as load:
            load.wait(20)
            for number in range(1, HUPS + 1):
                reload_once(m, str(number))
            load.wait(20)
        load.check(slowest=1.0)
        assert str(HUPS) in load.bodies()
        # A WebSocket is closed by a Close frame, which nginx passes on: 1012, not 1006.
        assert load.reconnects
        assert "upstream prematurely closed" not in nginx.log()
        check_log(m)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_import_of_three_seconds_is_felt_by_no_request(workers: int) -> None:
    slow = "import time; time.sleep(3)"
    with Master("app:app", workers=workers, files={"app.py": source("old")}) as m:
        with Load(m.connect) as load:
            load.wait(20)
            m.write("app.py", source("new", first=slow))
            mark, begun = m.mark(), time.monotonic()
            m.signal(SIGHUP)
            m.wait_log(READY, 30, after=mark, count=workers)
            assert time.monotonic() - begun > 3
            load.wait_body("new")
        load.check(slowest=1.0)
        check_log(m)
        print(dict(load.counts()), load.slowest)  # noqa: T201 - the number behind the bound


# The new generation boots for as long as the test likes.
_UNTIL_GO = """
import pathlib
import time
while not pathlib.Path("go").exists():
    time.sleep(0.01)
"""


def test_old_and_new_answers_mix_only_while_the_generations_change() -> None:
    with Master("app:app", workers=2, files={"app.py": source("old")}) as m:
        with Load(m.connect) as load:
            m.write("app.py", source("new", first=_UNTIL_GO))
            mark = m.mark()
            m.signal(SIGHUP)
            m.wait_log("Worker holding", after=mark, count=2)
            load.wait(50)
            assert load.bodies() == {"old"}
            m.write("go", "")
            m.wait_log("Worker leaving", after=mark, count=2)
            # Idle connections may bring one more request to an old worker.
            wait_until(lambda: len(m.workers()) == 2, 15)
            since = time.monotonic()
            load.wait(50)
            assert load.bodies(since) == {"new"}
        load.check()
