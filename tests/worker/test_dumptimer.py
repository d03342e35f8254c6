"""worker/dumptimer.py: what a process says whose GIL nobody gives back, each in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

__all__: list[str] = []

HEAD = """
import logging, os, sys, threading
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn_asgi.worker.dumptimer import DumpTimer

def logger(path):
    cfg = Config()
    cfg.set("errorlog", path)
    return Logger(cfg)

def hold_the_gil():
    sum(range(10**13))  # the culprit
"""


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", HEAD + code, *args],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.slow
def test_c_code_that_holds_the_gil_is_told_of_in_the_error_log(tmp_path: Path) -> None:
    """And ends with the process, where that was asked for."""
    log = tmp_path / "error.log"
    code = "t = DumpTimer(logger(sys.argv[1])); t.set(0.2, end=True); hold_the_gil()"
    ended = python(code, str(log))
    assert (ended.returncode, ended.stderr) == (1, "")
    assert log.read_text().startswith("Timeout (")
    assert "in hold_the_gil\n" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("log", ["None", "logger('-')", "object()"])
def test_without_a_file_of_gunicorns_it_is_told_on_stderr(log: str) -> None:
    """Syslog, logconfig, a logger class of the user's, and what Gunicorn does by default."""
    ended = python(f"t = DumpTimer({log}); t.set(0.2, end=True); hold_the_gil()")
    assert ended.returncode == 1
    assert "in hold_the_gil\n" in ended.stderr


LOGCONFIG = """
log = logger("-")
log.error_log.handlers[:] = [logging.FileHandler(sys.argv[1])]
"""
JSON = """
from gunicorn_asgi.logs import JSONLogger
cfg = Config()
cfg.set("errorlog", sys.argv[1])
log = JSONLogger(cfg)
"""


@pytest.mark.slow
@pytest.mark.parametrize("log_code", [LOGCONFIG, JSON], ids=["logconfig", "JSON"])
def test_a_file_of_another_format_keeps_it(log_code: str, tmp_path: Path) -> None:
    """A stack in the middle of JSON lines would break whoever reads them."""
    log = tmp_path / "json.log"
    code = log_code + "DumpTimer(log).set(0.2, end=True)\nhold_the_gil()"
    ended = python(code, str(log))
    assert "in hold_the_gil\n" in ended.stderr
    assert log.read_text() == ""


@pytest.mark.slow
def test_it_follows_a_log_that_was_reopened_and_writes_into_no_other_file(tmp_path: Path) -> None:
    """The number of the log's descriptor may be a client's by then."""
    code = """
path, client = sys.argv[1:]
log = logger(path)
timer = DumpTimer(log)
timer.set(60)
number = log.error_log.handlers[0].stream.fileno()
os.rename(path, path + ".1")
log.error_log.handlers[0].close()
assert os.open(client, os.O_WRONLY | os.O_CREAT) == number
log.error_log.handlers[0].stream = log.error_log.handlers[0]._open()
timer.follow_log()
timer.set(0.2, end=True)
hold_the_gil()
"""
    log, client = tmp_path / "error.log", tmp_path / "client"
    ended = python(code, str(log), str(client))
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "in hold_the_gil\n" in log.read_text()
    assert client.read_text() == ""
    assert log.with_name("error.log.1").read_text() == ""


@pytest.mark.slow
def test_a_cancelled_one_does_not_go_off() -> None:
    code = """
timer = DumpTimer()
timer.set(0.2, end=True)
timer.cancel()
timer.cancel()
threading.Event().wait(1)
timer.set(0.2, end=True)
timer.close()
timer.close()
threading.Event().wait(1)
print("alive")
"""
    ended = python(code)
    assert (ended.stdout, ended.stderr) == ("alive\n", "")


@pytest.mark.slow
def test_a_child_of_the_application_can_end() -> None:
    """It would wait for faulthandler's thread, which only the parent has; there it goes on."""
    code = """
timer = DumpTimer()
timer.guard_forks()
timer.set(1.0, end=True)
pid = os.fork()
if not pid:
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
hold_the_gil()
"""
    ended = python(code)
    assert ended.returncode == 1, ended
    assert "in hold_the_gil\n" in ended.stderr


@pytest.mark.slow
def test_without_anything_to_write_to_there_is_no_dump_and_no_error() -> None:
    """A daemon may have closed its stderr."""
    code = (
        "os.close(2); t = DumpTimer(); t.set(0.1, end=True); threading.Event().wait(0.5); t.close()"
    )
    assert python(code).returncode == 0
