"""``reload``, ``wait-ready`` and ``status`` on a board that the test writes, look by look."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable

import pytest

from boards import new_board, new_worker
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.command import status as status_module
from gunicorn_asgi.worker.command import verdict
from gunicorn_asgi.worker.command.status import status
from gunicorn_asgi.worker.command.target import NoMaster, NoProcess, Target
from gunicorn_asgi.worker.command.verdict import reload, wait_ready
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard

__all__: list[str] = []


class FakeTarget(Target):
    """A master that does with its board what the test says, at each look."""

    def __init__(self, *steps: Callable[[Scoreboard], object]) -> None:
        self.pid = os.getpid()
        self.board = new_board()
        self.board.begin_generation(1)
        new_worker(self.board, confirmed=1)
        self.steps = list(steps)
        self.hung_up = 0
        self.dead = False

    @property
    def gone(self) -> bool:
        """Do the next step, and tell."""
        if self.steps and self.steps.pop(0)(self.board) == "die":
            self.dead = True
        return self.dead

    def hang_up(self) -> None:
        """Remember."""
        self.hung_up += 1


def nothing(board: Scoreboard) -> None:
    """The master is busy."""


def die(board: Scoreboard) -> str:
    return "die"


def begin(board: Scoreboard) -> None:
    board.begin_generation(1)


def refuse(board: Scoreboard) -> None:
    board.begin_generation(1, "Traceback\nSyntaxError: invalid syntax\n")


def boot(board: Scoreboard) -> None:
    new_worker(board, WorkerState.BOOTING)


def newest(board: Scoreboard, state: WorkerState) -> None:
    board.used_slots()[-1].put(Cell.STATE, state)


def serve(board: Scoreboard) -> None:
    newest(board, WorkerState.READY)


def confirm(board: Scoreboard) -> None:
    board.used_slots()[-1].put(Cell.CONFIRMED, 1)


def fail(board: Scoreboard) -> None:
    board.used_slots()[-1].write_text("Traceback\nImportError: no such thing\n")
    newest(board, WorkerState.FAILED)


def drain_old(board: Scoreboard) -> None:
    board.slots[0].put(Cell.STATE, WorkerState.DRAINING)


Said = Callable[[], tuple[str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """What was written to standard output and error; looks follow each other at once."""
    monkeypatch.setattr(verdict, "_INTERVAL", 0.001)

    def read() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return read


def test_reload_succeeds_when_nobody_old_accepts_any_more(said: Said) -> None:
    """Whoever connects after it is answered by the new code."""
    target = FakeTarget(
        nothing, begin, boot, serve, nothing, confirm, nothing, drain_old, nothing, die
    )
    assert reload(target, 10) == 0
    assert target.hung_up == 1
    out, err = said()
    assert re.fullmatch(r"generation 2 serves: 1 of 1 workers ready, after \d\.\d s\n", out)
    assert err == ""


def test_reload_does_not_take_the_verdict_of_the_reload_before(said: Said) -> None:
    """The board says "failed" until the master takes up the new HUP, which may last."""
    target = FakeTarget(nothing, nothing, begin, boot, serve, confirm, drain_old)
    target.board.begin_generation(1)
    new_worker(target.board, WorkerState.FAILED, alive=False)
    assert reload(target, 10) == 0
    assert said()[0].startswith("generation 3 serves")


def test_reload_is_not_confused_by_another_reload_that_begins(said: Said) -> None:
    """Its own generation was complete, whatever becomes of the next."""
    assert reload(FakeTarget(begin, boot, serve, confirm, nothing, begin, boot), 10) == 0
    assert said()[0].startswith("generation 2 serves: 1 of 1 workers ready, 1 older")


def test_reload_ends_although_an_old_worker_is_stuck(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocked by its application, it does not see that it may leave; the arbiter will end it."""
    monkeypatch.setattr(verdict, "_SETTLE", 0.01)
    assert reload(FakeTarget(begin, boot, serve, confirm), 10) == 0
    assert "1 of 1 workers ready, 1 older" in said()[0]


def test_reload_fails_with_the_traceback_when_it_is_rolled_back(said: Said) -> None:
    assert reload(FakeTarget(begin, boot, fail), 10) == 1
    assert said() == (
        "",
        "Traceback\nImportError: no such thing\ngeneration 2 failed: the one before serves on\n",
    )


def test_reload_says_that_nobody_serves(said: Said) -> None:
    """Both in their time: the old worker has died meanwhile."""
    assert reload(FakeTarget(begin, drain_old, boot, fail), 10) == 1
    assert said()[1].endswith("generation 2 failed: nobody serves\n")


def test_reload_fails_with_the_reason_when_the_configuration_was_refused(said: Said) -> None:
    """The new generation serves, but not with what was asked for."""
    target = FakeTarget(refuse, boot, serve, confirm, nothing, drain_old)
    assert reload(target, 10) == 1
    assert not target.steps
    assert said() == (
        "",
        "Traceback\nSyntaxError: invalid syntax\n"
        "generation 2 serves with the old configuration: the new one could not be loaded\n",
    )


def test_reload_fails_when_the_master_ends(said: Said) -> None:
    with pytest.raises(NoMaster, match=rf"master {os.getpid()} is gone"):
        reload(FakeTarget(begin, boot, die), 10)


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([], "no verdict after 0.05 s: the master has not begun to reload\n"),
        (
            [begin, boot],
            "no verdict after 0.05 s: generation 2 is still pending, "
            "0 of 1 workers ready, 1 older\n",
        ),
    ],
)
def test_reload_fails_when_its_time_is_up(
    said: Said, steps: list[Callable[[Scoreboard], object]], complaint: str
) -> None:
    assert reload(FakeTarget(*steps), 0.05) == 1
    assert said() == ("", complaint)


def test_wait_ready_waits_for_every_worker_of_the_newest_generation(said: Said) -> None:
    """Not for its confirmation: what is wanted is that requests are answered."""
    target = FakeTarget(nothing, boot, serve, nothing, die)
    target.board.begin_generation(1)
    assert wait_ready(lambda: target, 10, patient=False) == 0
    assert said() == ("generation 2 is ready: 1 of 1 workers ready, 1 older\n", "")


def test_wait_ready_waits_for_a_master_that_is_about_to_fork(said: Said) -> None:
    tries = iter(range(10))

    def find() -> Target:
        if next(tries) < 3:
            raise NoMaster("process 7 is no gunicorn_asgi master")
        return FakeTarget()

    assert wait_ready(find, 10, patient=False) == 0


@pytest.mark.parametrize("patient", [True, False])
def test_wait_ready_waits_for_a_process_only_if_a_pidfile_may_still_come(
    said: Said, patient: bool
) -> None:
    tries = []

    def find() -> Target:
        tries.append(1)
        raise NoProcess("there is no process 7")

    with pytest.raises(NoProcess):
        wait_ready(find, 0.05, patient=patient)
    assert (len(tries) > 1) is patient


def test_wait_ready_ends_with_the_master(said: Said) -> None:
    """A first start with broken code: nothing will become ready any more."""
    target = FakeTarget(nothing, die)
    target.board.begin_generation(2)
    with pytest.raises(NoMaster, match="is gone"):
        wait_ready(lambda: target, 10, patient=True)


def test_wait_ready_does_not_wait_after_a_rollback(said: Said) -> None:
    target = FakeTarget(boot, fail)
    target.board.begin_generation(1)
    assert wait_ready(lambda: target, 10, patient=False) == 1
    assert said()[1].endswith("no such thing\ngeneration 2 failed: the one before serves on\n")


def test_wait_ready_waits_on_while_a_first_generation_tries_again(said: Said) -> None:
    """One of two has failed after the other was ready: the arbiter forks another."""
    target = FakeTarget(nothing, nothing, boot, serve)
    target.board.begin_generation(1)
    target.board.slots[0].put(Cell.GENERATION, 2)
    target.board.put(Header.TARGET, 2)
    new_worker(target.board, WorkerState.FAILED, alive=False)
    assert wait_ready(lambda: target, 10, patient=False) == 0


def test_wait_ready_says_what_is_missing_when_its_time_is_up(said: Said) -> None:
    target = FakeTarget()
    target.board.put(Header.TARGET, 2)
    assert wait_ready(lambda: target, 0.05, patient=False) == 1
    assert said() == ("", "not ready after 0.05 s: 1 of 2 workers ready\n")


@pytest.mark.parametrize(
    ("error", "complaint"),
    [(ProcessLookupError, "is gone"), (PermissionError, "may not be signalled by this user")],
)
def test_a_hup_that_does_not_arrive_is_told(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError], complaint: str
) -> None:
    """The board may be readable and the process another user's, as with capabilities."""
    target = FakeTarget()

    def kill(pid: int, number: int) -> None:
        assert (pid, number) == (target.pid, signal.SIGHUP)
        raise error

    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(NoMaster, match=f"master {target.pid} {complaint}"):
        Target.hang_up(target)


# -- status ----------------------------------------------------------------------------------------


def test_status_is_said_once(said: Said) -> None:
    assert status(FakeTarget(), watch=False, json=False) == 0
    out, _ = said()
    assert out.startswith(f"master {os.getpid()}, generation 1, started 0s ago: complete")
    assert len(out.splitlines()) == 4


def test_status_for_scripts_is_one_document(said: Said) -> None:
    assert status(FakeTarget(), watch=False, json=True) == 0
    assert json.loads(said()[0])["workers"][0]["pid"] == os.getpid()


def test_a_watch_for_scripts_is_a_document_a_line_until_the_master_ends(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "_INTERVAL", 0.001)
    with pytest.raises(NoMaster, match="is gone"):
        status(FakeTarget(nothing, nothing, die), watch=True, json=True)
    assert [json.loads(line)["generation"] for line in said()[0].splitlines()] == [1, 1]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_watch_redraws_only_a_terminal(
    said: Said, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """Escape sequences have no place in a file."""
    monkeypatch.setattr(status_module, "_INTERVAL", 0.001)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    with pytest.raises(NoMaster):
        status(FakeTarget(nothing, nothing, die), watch=True, json=False)
    assert said()[0].count("\x1b[H\x1b[Jmaster ") == 2 * terminal
