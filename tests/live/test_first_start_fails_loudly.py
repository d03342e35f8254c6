"""A first start that fails is seen: the master ends, with Gunicorn's own exit status.

3 is ``Arbiter.WORKER_BOOT_ERROR``, 4 is ``Arbiter.APP_LOAD_ERROR``: what systemd, a container or a
deploy script waits for. Only a server that has served goes on without its newest generation.
"""

from __future__ import annotations

import re
from signal import SIGTERM

import pytest

from kit.deploys import BROKEN, LOUD, SETTINGS
from kit.load import Load, source
from kit.master import READY, Master, wait_until


def master(code: str, workers: int = 1, **more: str) -> Master:
    env = {**SETTINGS, **more}
    files = {"app.py": code}
    options = ("--graceful-timeout", "3")
    return Master("app:app", *options, workers=workers, ready=None, env=env, files=files)


# With more than one worker, the others fail as well, and must not change the status.
ALONE = [(name, 1) for name in LOUD]
TOGETHER = [(name, 4) for name in ("import error", "no application", "startup failed")]


@pytest.mark.parametrize(("name", "workers"), ALONE + TOGETHER)
def test_a_first_start_that_fails_ends_the_master_with_a_reason(name: str, workers: int) -> None:
    broken = BROKEN[name]
    with master(broken.code, workers) as m:
        assert m.wait_exit(20) == broken.status
        wait_until(lambda: not m.leftovers(), 10, "the workers to end")
        log = m.log()
        assert re.search(broken.reason, log), log
        assert re.search(broken.trace, log), log
        assert "Rolled back" not in log
        assert "Reason: " in log


@pytest.mark.parametrize("name", sorted(set(BROKEN) - set(LOUD)))
def test_a_process_that_ends_without_a_word_is_tried_again_as_gunicorn_does(name: str) -> None:
    # No exit status of ours: nobody was left to choose one.
    broken = BROKEN[name]
    with master(broken.code) as m:
        m.wait_log(broken.trace, 20, count=2)
        m.write("app.py", source("repaired"))
        m.wait_log(READY, 20)
        with Load(m.connect, upload=0, websocket=0) as load:
            load.wait(20)
        load.check()
        assert load.bodies() == {"repaired"}


def test_term_while_a_first_start_is_slow_ends_it_with_status_0() -> None:
    code = source("slow", first="import time; open('begun', 'w'); time.sleep(60)")
    with master(code, GUNICORN_ASGI_BOOT_TIMEOUT="100") as m:
        wait_until((m.dir / "begun").exists, 10, "the import to begin")
        m.signal(SIGTERM)
        assert m.wait_exit(10) == 0
        assert "SIGKILL" not in m.log()
