"""A deploy that does not boot takes nothing down: the generation before it serves on.

Under every other ASGI worker of Gunicorn such a HUP ends the server (benoitc/gunicorn#2443).
"""

from __future__ import annotations

import re
import time
from signal import SIGHUP, SIGKILL

import pytest

from kit.deploys import BROKEN, SETTINGS, Broken
from kit.load import Load, source
from kit.master import READY, Master, wait_until
from kit.wire import Wire, request

# Gunicorn 27 looks at no signal for so long when old workers stay after a HUP (Arbiter.reload).
GRACEFUL = 3


def master(workers: int, answer: str = "pass") -> Master:
    options = ("--graceful-timeout", str(GRACEFUL), "--keep-alive", "5")
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "0.5", **SETTINGS}
    files = {"app.py": source("old", answer=answer)}
    return Master("app:app", *options, workers=workers, env=env, files=files)


def deploy(m: Master, code: str) -> int:
    """Return the position in the log before the HUP."""
    mark = m.mark()
    m.write("app.py", code)
    m.signal(SIGHUP)
    return mark


def wait_rollback(m: Master, mark: int, generation: int, reason: str) -> None:
    line = rf"\[ERROR\] Rolled back to generation 1: generation {generation} failed to boot: "
    m.wait_log(line + rf".*({reason})", 15, after=mark)


def repair(m: Master, load: Load) -> None:
    mark = deploy(m, source("new"))
    m.wait_log(READY, 15, after=mark, count=m.worker_count)
    load.wait_body("new")
    m.wait_workers(m.worker_count, 15)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_deploy_that_does_not_boot_leaves_the_old_one_serving(broken: Broken) -> None:
    with master(2) as m:
        old = m.workers()
        with Load(m.connect) as load:
            mark = deploy(m, broken.code)
            wait_rollback(m, mark, 2, broken.reason)
            m.wait_workers(lambda pids: pids == old, 15)
            load.wait(100)
            assert load.bodies() == {"old"}
            assert m.log(mark).count("Rolled back") == 1
            assert re.search(broken.trace, m.log(mark)), m.log(mark)
            repair(m, load)
        load.check(slowest=1.0)
        assert load.bodies() == {"old", "new"}


def test_two_broken_deploys_in_a_row_leave_the_old_one_serving() -> None:
    with master(2) as m:
        old = m.workers()
        with Load(m.connect) as load:
            for generation, name in ((2, "startup raises"), (3, "syntax error")):
                mark = deploy(m, BROKEN[name].code)
                wait_rollback(m, mark, generation, BROKEN[name].reason)
                m.wait_workers(lambda pids: pids == old, 15)
            load.wait(50)
            assert load.bodies() == {"old"}
            repair(m, load)
        load.check(slowest=1.0)


def test_founders_that_do_boot_leave_with_the_one_that_does_not() -> None:
    # One of four fails: the three others must not serve a half deployed version for long.
    first = """
        try:
            os.close(os.open("lock", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            import time
            time.sleep(1)
            raise RuntimeError("the last of four")
    """
    with master(4) as m:
        old = m.workers()
        with Load(m.connect) as load:
            mark = deploy(m, source("half", first=first))
            wait_rollback(m, mark, 2, "the last of four")
            m.wait_workers(lambda pids: pids == old, 15)
            assert m.log(mark).count("its generation has failed") == 3
            since = time.monotonic()
            load.wait(50)
            assert load.bodies(since) == {"old"}
            (m.dir / "lock").unlink()
            repair(m, load)
        load.check(slowest=1.0)


def boots(m: Master) -> list[float]:
    """When each boot of the broken code began."""
    path = m.dir / "boots"
    return [float(line) for line in path.read_text().split()] if path.exists() else []


NOTED = """
    import time
    with open("boots", "a") as file:
        file.write(f"{time.monotonic()}\\n")
    raise RuntimeError("still broken")
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_meanwhile_is_replaced_once_the_code_is_repaired(workers: int) -> None:
    with master(workers) as m:
        old = m.workers()
        with Load(m.connect, keep_alive=1, upload=0, websocket=0) as load:
            mark = deploy(m, source("broken", first=NOTED))
            wait_rollback(m, mark, 2, "still broken")
            m.wait_workers(lambda pids: pids == old, 15)
            founders = len(boots(m))
            m.kill_worker(old[0], SIGKILL)
            killed = time.monotonic()
            # No storm: each attempt waits longer than the one before, up to 5 s.
            wait_until(lambda: len(boots(m)) >= founders + 3, 30, "three attempts")
            took = time.monotonic() - killed
            assert len(boots(m)) - founders <= 2 + took / 0.5
            pauses = [float(x) for x in re.findall(r"next attempt follows in (\S+) s", m.log())]
            assert pauses == sorted(pauses)
            # Repaired without another HUP: the next attempt succeeds.
            mark = m.mark()
            m.write("app.py", source("new"))
            m.wait_log(READY, 15, after=mark)
            m.wait_workers(workers)
            load.wait_body("new") if workers == 1 else load.wait(50)
            since = time.monotonic()
            load.wait(200)
            assert load.bodies(since) == ({"new"} if workers == 1 else {"old", "new"})
            repair(m, load)
        # Only what the killed one had in its hands is lost: with nobody else, the others waited.
        late = [each for each in load.failures if each.begun > killed + 0.1]
        assert not late, late


def test_an_old_worker_that_is_busy_meanwhile_serves_on() -> None:
    # It hears the arbiter's TERM when the generation that it was to make room for has long gone.
    block = """
        if scope["path"] == "/block":
            import time
            time.sleep(3)
    """
    with master(1, block) as m, Wire(m.connect(20)) as wire:
        (old,) = m.workers()
        wire.send(request("GET", "/block"))
        mark = deploy(m, BROKEN["syntax error"].code)
        m.wait_log(r"exited with code 1", after=mark)
        response = wire.recv_response()
        assert (response.status, response.body) == (200, b"old")
        with Load(m.connect) as load:
            load.wait(100)
            assert m.workers() == [old]
            assert "Worker leaving" not in m.log(mark)
        load.check(slowest=1.0)
