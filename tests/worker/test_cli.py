"""The command line without processes: its arguments, and which master they mean."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from boards import DEAD
from gunicorn_asgi.worker import cli
from gunicorn_asgi.worker.cli import build_parser, main
from gunicorn_asgi.worker.command.target import NoMaster, NoProcess, Target, read_pid
from gunicorn_asgi.worker.scoreboard import Scoreboard
from kit.waiting import wait_until

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent.parent


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            "status --pid 7",
            {
                **{"command": "status", "pid": 7, "pidfile": None},
                **{"watch": False, "json": False, "requests": False},
            },
        ),
        (
            "status --pidfile /run/a --watch --json --requests",
            {
                **{"command": "status", "pid": None, "pidfile": "/run/a"},
                **{"watch": True, "json": True, "requests": True},
            },
        ),
        (
            "metrics --pid 7",
            {"command": "metrics", "pid": 7, "pidfile": None, "openmetrics": False},
        ),
        (
            "metrics --pidfile a --openmetrics",
            {"command": "metrics", "pid": None, "pidfile": "a", "openmetrics": True},
        ),
        (
            "dump --pid 7",
            {"command": "dump", "pid": 7, "pidfile": None, "worker": None, "timeout": 5.0},
        ),
        (
            "dump --pidfile a --worker 8 --timeout 1",
            {"command": "dump", "pid": None, "pidfile": "a", "worker": 8, "timeout": 1.0},
        ),
        (
            "reload --pid 7",
            {"command": "reload", "pid": 7, "pidfile": None, "timeout": 330.0},
        ),
        (
            "reload --pidfile a --timeout 1.5",
            {"command": "reload", "pid": None, "pidfile": "a", "timeout": 1.5},
        ),
        (
            "wait-ready --pidfile a",
            {"command": "wait-ready", "pid": None, "pidfile": "a", "timeout": 60.0},
        ),
        (
            "wait-ready --pid 8 --timeout 0",
            {"command": "wait-ready", "pid": 8, "pidfile": None, "timeout": 0.0},
        ),
    ],
)
def test_arguments_are_what_the_documentation_says(argv: str, expected: dict[str, object]) -> None:
    assert vars(build_parser().parse_args(argv.split())) == expected


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("", "required: COMMAND"),
        ("restart", "invalid choice: 'restart'"),
        ("status", "one of the arguments --pid --pidfile is required"),
        ("status --pid 7 --pidfile a", "not allowed with argument"),
        ("status --pid 0", "'0' is no pid"),
        ("status --pid=-1", "'-1' is no pid"),
        ("status --pid x", "'x' is no pid"),
        ("status --pid 7 --timeout 3", "unrecognized arguments"),
        ("metrics", "one of the arguments --pid --pidfile is required"),
        ("metrics --pid 7 --json", "unrecognized arguments"),
        ("dump --pid 7 --worker x", "'x' is no pid"),
        ("dump --worker 7", "one of the arguments --pid --pidfile is required"),
        ("reload --pid 7 --json", "unrecognized arguments"),
        ("reload --pid 7 --timeout soon", "'soon' is no number of seconds"),
        ("reload --pid 7 --timeout=-1", "'-1' is no number of seconds"),
        ("reload --pid 7 --timeout inf", "'inf' is no number of seconds"),
        ("wait-ready --pid 7 --timeout nan", "'nan' is no number of seconds"),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_which(
    argv: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv.split())
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["run", "check", "status", "metrics", "dump", "reload", "wait-ready"]
)
def test_help_lists_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert re.search(rf"^    {command}\b", capsys.readouterr().out, re.MULTILINE)


def test_the_version_names_everything_that_a_bug_report_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    pattern = r"gunicorn-asgi \d\S+ \(gunicorn \d\S+, Python \d\S+\)\n"
    assert re.fullmatch(pattern, capsys.readouterr().out)


def test_the_console_script_is_this_function() -> None:
    """pyproject.toml, [project.scripts]."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'^\[project\.scripts\]\ngunicorn-asgi = "(\S+):(\w+)"', text, re.MULTILINE)
    assert found is not None
    assert getattr(importlib.import_module(found[1]), found[2]) is main


# -- finding the master ----------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "pid"), [("123", 123), ("123\n", 123), (" 7 \n", 7)])
def test_a_pidfile_holds_a_pid(tmp_path: Path, text: str, pid: int) -> None:
    path = tmp_path / "pid"
    path.write_text(text)
    assert read_pid(str(path)) == pid


@pytest.mark.parametrize("data", [b"", b"\n", b"0", b"-5", b"master", b"1 2", b"\xff\xfe"])
def test_a_pidfile_without_a_pid_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "pid"
    path.write_bytes(data)
    with pytest.raises(NoMaster, match=f"pidfile {path} "):
        read_pid(str(path))


def test_a_missing_pidfile_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoMaster, match=r"nosuch cannot be read: No such file or directory"):
        read_pid(f"{tmp_path}/nosuch")


@pytest.mark.parametrize("command", ["status", "metrics", "dump", "reload", "wait-ready"])
@pytest.mark.parametrize(
    ("pid", "complaint"),
    [
        (DEAD, f"there is no process {DEAD}"),
        (os.getpid(), f"process {os.getpid()} is no gunicorn_asgi master of this version"),
    ],
    ids=["nobody", "this process"],  # a name that all processes of pytest-xdist collect alike
)
def test_a_pid_that_is_no_master_is_one_clear_line(
    command: str, pid: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In particular, no HUP goes to it: its default action is the end."""
    extra = ["--timeout", "0.1"] if command == "wait-ready" else []
    assert main([command, "--pid", str(pid), *extra]) == 1
    assert capsys.readouterr().err == f"gunicorn-asgi: {complaint}\n"


def test_a_zombie_is_no_process() -> None:
    """It has ended, only nobody has asked for its status yet; a signal to it would succeed."""
    with subprocess.Popen(["true"]) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", 10, "its end")
        with pytest.raises(NoProcess, match=f"there is no process {process.pid}"):
            Target(process.pid)


def board_fd(name: str, size: int) -> int:
    fd = os.memfd_create(name)
    os.ftruncate(fd, size)
    return fd


@pytest.mark.parametrize("size", [100, 10_000_000])
def test_a_board_of_another_version_is_not_read(size: int) -> None:
    """Shorter than ours, or with another number in its first cell."""
    fd = board_fd("gunicorn_asgi", size)
    try:
        with pytest.raises(LookupError, match="no gunicorn_asgi master of this version"):
            Scoreboard.of_master(os.getpid())
    finally:
        os.close(fd)


# -- ends ------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the status that shells give to a process ended by SIGINT."""

    def interrupt(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_ask", interrupt)
    assert main(["status", "--pid", "1"]) == 128 + signal.SIGINT


def test_a_reader_that_leaves_ends_a_command_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """status --watch | head -1; the descriptor is replaced, as the interpreter flushes at exit."""

    def write(options: object) -> int:
        raise BrokenPipeError

    with tempfile.TemporaryFile("w") as stdout:
        monkeypatch.setattr(cli, "_ask", write)
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["status", "--pid", "1"]) == 1
        stdout.write("lost")
        stdout.flush()
        assert os.fstat(stdout.fileno()).st_rdev == os.stat(os.devnull).st_rdev
