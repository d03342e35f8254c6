"""A configuration refused at HUP: what the master writes down, and for which generation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.app.base import BaseApplication

from boards import new_board
from gunicorn_asgi.worker import arbiter
from gunicorn_asgi.worker.arbiter import berth, guard_reload
from gunicorn_asgi.worker.scoreboard import Header
from kit.fakes import FakeLog

if TYPE_CHECKING:
    from gunicorn_asgi.worker.scoreboard import Scoreboard

__all__: list[str] = []


class App(BaseApplication):  # type: ignore[misc]  # Gunicorn is not typed
    """Gunicorn's own loading, of a configuration that may raise."""

    error: BaseException | None = None

    def load_config(self) -> None:
        """Fail, if told to."""
        if self.error is not None:
            raise self.error


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Scoreboard:
    """The board of a master that remembers nothing else."""
    found = new_board()
    for name, value in vars(arbiter._Master).items():
        if not name.startswith("_"):
            monkeypatch.setattr(arbiter._Master, name, value)
    monkeypatch.setattr(arbiter._Master, "board", found)
    monkeypatch.setattr(arbiter._Master, "settings", None)
    monkeypatch.setattr(arbiter._Master, "cfg", None)
    monkeypatch.delitem(sys.modules, "__config__", raising=False)
    return found


def fork(app: Any, log: FakeLog) -> None:  # noqa: ANN401 - Gunicorn is not typed
    berth(app.cfg, log, 1)


def started(log: FakeLog) -> App:
    app = App()
    guard_reload(app, log)
    fork(app, log)
    return app


def test_the_error_that_gunicorn_printed_before_it_exited_is_kept(board: Scoreboard) -> None:
    """BaseApplication.do_load_config: print, then SystemExit(1), which says nothing."""
    log = FakeLog()
    app = started(log)
    cfg = app.cfg
    app.error = ValueError("no such colour")
    app.reload()
    assert app.cfg is cfg
    fork(app, log)
    assert board.get(Header.GENERATION) == 2
    text = board.refusal(2)
    assert text.startswith("Traceback")
    assert text.endswith("ValueError: no such colour\n")
    assert log.lines("error") == [
        "The configuration could not be loaded, the old one stays: ValueError('no such colour')"
    ]


def test_a_bare_exit_of_the_config_file_is_kept_too(board: Scoreboard) -> None:
    log = FakeLog()
    app = started(log)
    app.error = SystemExit("enough")
    app.reload()
    fork(app, log)
    assert board.refusal(2).endswith("SystemExit: enough\n")


def test_a_setting_of_ours_that_is_refused_is_kept(
    board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings before it stay in force, so the reload has not done what was wanted."""
    log = FakeLog()
    app = started(log)
    app.reload()
    monkeypatch.setenv("GUNICORN_ASGI_DRAIN_LINGER", "soon")
    fork(app, log)
    assert "asgi_drain_linger is 'soon'" in board.refusal(2)


def test_the_next_reload_that_works_is_not_blamed(board: Scoreboard) -> None:
    log = FakeLog()
    app = started(log)
    app.error = ValueError("no such colour")
    app.reload()
    fork(app, log)
    fork(app, log)
    assert board.get(Header.GENERATION) == 2
    app.error = None
    app.reload()
    fork(app, log)
    assert board.get(Header.GENERATION) == 3
    assert board.refusal(3) == ""
    assert board.refusal(2) != ""


def test_a_good_start_is_not_blamed(board: Scoreboard) -> None:
    """0 is no generation."""
    started(FakeLog())
    assert board.refusal(1) == ""


def test_a_long_reason_keeps_its_end(board: Scoreboard) -> None:
    """The last line of a traceback is the one that tells."""
    board.begin_generation(1, "x" * 10_000 + "the end")
    assert board.refusal(1).endswith("xthe end")
    assert len(board.refusal(1)) < 5_000


def test_the_reason_lies_beside_the_texts_of_the_workers(board: Scoreboard) -> None:
    """Of the last slot above all."""
    board.begin_generation(1, "the header's")
    board.slots[-1].write_text("y" * 10_000)
    assert board.refusal(1) == "the header's"
    board.begin_generation(1, "z" * 10_000)
    assert set(board.slots[-1].read_text()) == {"y"}
