"""What runs in the master before each fork and at a reload: berth() and the guard never raise."""

from __future__ import annotations

import sys

import pytest
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config

from boards import new_board
from gunicorn_asgi.worker import arbiter
from gunicorn_asgi.worker.arbiter import PROVED, berth, guard_reload
from gunicorn_asgi.worker.definitions import DEFINITIONS
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard
from gunicorn_asgi.worker.settings import SettingError
from kit.fakes import FakeLog

__all__: list[str] = []


@pytest.fixture
def log() -> FakeLog:
    """Empty."""
    return FakeLog()


@pytest.fixture(autouse=True)
def fresh_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that remembers nothing, and no word of the environment."""
    bare = {"board": None, "cfg": None, "settings": None, "forked": 0, "reloaded": False}
    for name, value in {**bare, "refusal": ""}.items():
        monkeypatch.setattr(arbiter._Master, name, value)
    # One whose descriptor is closed: another test must not find it.
    monkeypatch.setattr(Scoreboard, "create", new_board)
    for definition in DEFINITIONS:
        monkeypatch.delenv(definition.variable, raising=False)
    monkeypatch.delitem(sys.modules, "__config__", raising=False)


def config(**values: object) -> Config:
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


def test_nothing_is_forgotten_between_these_tests() -> None:
    """What the master remembers is all reset above."""
    remembered = {name for name in vars(arbiter._Master) if not name.startswith("_")}
    assert remembered == {"board", "cfg", "settings", "forked", "reloaded", "refusal"}


# -- berth() ---------------------------------------------------------------------------------------


def test_workers_of_one_config_share_settings_board_and_generation(log: FakeLog) -> None:
    """TTIN and replacements are no reload; each has a slot of its own."""
    cfg = Config()
    first, second = berth(cfg, log, 1), berth(cfg, log, 2)
    assert first.settings is second.settings
    assert first.board is second.board
    assert first.slot is not second.slot
    assert first.board.get(Header.GENERATION) == 1
    assert [each.slot.get(Cell.GENERATION) for each in (first, second)] == [1, 1]
    assert [each.slot.get(Cell.AGE) for each in (first, second)] == [1, 2]


def test_a_new_config_is_a_new_generation_on_the_same_board(log: FakeLog) -> None:
    """Old workers read the board, and so tell a reload from a stop."""
    first = berth(config(graceful_timeout=7), log, 1)
    second = berth(config(graceful_timeout=8, workers=3), log, 2)
    assert second.board is first.board
    assert [each.slot.get(Cell.GENERATION) for each in (first, second)] == [1, 2]
    assert first.board.get(Header.TARGET) == 3
    assert (first.settings.graceful_timeout, second.settings.graceful_timeout) == (7.0, 8.0)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_as_many_founders_as_workers_and_whoever_comes_later_is_none(
    workers: int, log: FakeLog
) -> None:
    """A replacement decides nothing (protocol/lifecycle.py); the next reload has its own."""
    for _ in range(2):
        cfg = config(workers=workers)
        founders = [berth(cfg, log, age).slot.get(Cell.FOUNDER) for age in range(workers + 2)]
        assert founders == [1] * workers + [0, 0]


def test_settings_that_became_invalid_keep_the_old_ones_in_force(
    log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception there would end the master (arbiter.py, run(): exit 255)."""
    monkeypatch.setenv("GUNICORN_ASGI_DRAIN_LINGER", "7")
    first = berth(Config(), log, 1)
    monkeypatch.setenv("GUNICORN_ASGI_DRAIN_LINGER", "long")
    cfg = Config()
    second = berth(cfg, log, 2)
    assert second.settings is first.settings
    assert second.slot.get(Cell.GENERATION) == 2
    (sentence,) = log.lines("error")
    assert "asgi_drain_linger is 'long'" in sentence
    assert "the old settings stay in force" in sentence
    assert berth(cfg, log, 3).settings is first.settings
    assert first.board.get(Header.GENERATION) == 2
    assert len(log.lines()) == 1, "told once, not at every fork"


def test_settings_that_became_valid_again_are_taken(
    log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next reload has the last word."""
    berth(Config(), log, 1)
    monkeypatch.setenv("GUNICORN_ASGI_DRAIN_LINGER", "long")
    berth(Config(), log, 2)
    monkeypatch.setenv("GUNICORN_ASGI_DRAIN_LINGER", "9")
    third = berth(Config(), log, 3)
    assert third.slot.get(Cell.GENERATION) == 3
    assert third.settings.values["asgi_drain_linger"] == 9.0


def test_a_first_start_with_invalid_settings_fails_loudly(
    log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """check() has refused them before; there are no older ones to go on with."""
    monkeypatch.setenv("GUNICORN_ASGI_DRAIN_LINGER", "long")
    with pytest.raises(SettingError):
        berth(Config(), log, 1)


# -- guard_reload(): see also test_refusal.py, for what is written down of it ----------------------


class App(BaseApplication):  # type: ignore[misc]  # Gunicorn is not typed
    """Gunicorn's own loading of a configuration."""

    def __init__(self) -> None:
        """Load, and count."""
        self.loaded = 0
        self.values: dict[str, object] = {}
        self.error: BaseException | None = None
        super().__init__()

    def load_config(self) -> None:
        """Fail, or set what is to be set, as a config file does."""
        self.loaded += 1
        for name, value in self.values.items():
            self.cfg.set(name, value)
        if self.error is not None:
            raise self.error


@pytest.fixture
def app(log: FakeLog) -> App:
    """Guarded, and its first worker forked."""
    app = App()
    guard_reload(app, log)
    berth(app.cfg, log, 1)
    return app


def test_a_configuration_that_loads_is_loaded(app: App, log: FakeLog) -> None:
    """The guard is not in the way."""
    before = app.cfg
    app.values = {"workers": 3}
    app.reload()
    assert app.cfg is not before
    assert app.cfg.workers == 3
    assert log.lines() == []


@pytest.mark.parametrize(
    "error",
    [ValueError("no such colour"), SyntaxError("in the file"), SystemExit(1), ImportError("gone")],
    ids=lambda error: type(error).__name__,
)
def test_one_that_does_not_load_leaves_everything_as_it_was(
    error: BaseException, app: App, log: FakeLog
) -> None:
    """Gunicorn would end the server (app/base.py, do_load_config)."""
    cfg = app.cfg
    app.values = {"workers": 3}
    app.error = error
    app.reload()
    assert app.cfg is cfg
    assert app.cfg.workers == 1, "what was set before it failed is in a Config that is dropped"
    (sentence,) = log.lines("error")
    assert sentence.startswith("The configuration could not be loaded, the old one stays: ")


def test_after_it_the_next_workers_are_a_new_generation_all_the_same(
    app: App, log: FakeLog
) -> None:
    """The arbiter goes on to fork them, and then tells the old ones to leave."""
    app.error = SystemExit(1)
    app.reload()
    board = berth(app.cfg, log, 2).board
    assert board.get(Header.GENERATION) == 2
    slot = berth(app.cfg, log, 3).slot
    assert (slot.get(Cell.GENERATION), slot.get(Cell.FOUNDER)) == (2, 0)


@pytest.mark.parametrize("name", PROVED)
def test_what_the_arbiter_reads_after_the_reload_is_proved_by_it(
    name: str, app: App, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Arbiter.reload`` and ``setup`` read these outside of any ``try``."""

    def broken(_cfg: Config) -> object:
        raise RuntimeError("cannot be resolved")

    before = app.cfg
    monkeypatch.setattr(type(before), name, property(broken), raising=False)
    app.reload()
    assert app.cfg is before
    assert len(log.lines("error")) == 1


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("worker_class", "worker_class", "no.such.Worker"),
        ("address", "bind", "127.0.0.1:http"),
        ("logger_class", "logger_class", "no.such.Logger"),
        ("env", "raw_env", ["NOVALUE"]),
    ],
)
def test_a_value_that_cannot_be_resolved_leaves_everything_as_it_was(
    name: str, setting: str, value: object, app: App, log: FakeLog
) -> None:
    """Gunicorn takes the text at loading, and looks what it means when it is too late."""
    before = app.cfg
    app.values = {setting: value}
    app.reload()
    assert app.cfg is before, name
    assert len(log.lines("error")) == 1


def test_two_workers_are_guarded_by_one_guard(app: App, log: FakeLog) -> None:
    """Each fork asks for it; a guard around a guard would log twice."""
    guard = app.reload
    guard_reload(app, log)
    assert app.reload is guard
    app.error = ValueError("x")
    app.reload()
    assert len(log.lines()) == 1


def test_an_interrupt_is_not_caught(app: App) -> None:
    """KeyboardInterrupt is no error of the configuration."""
    app.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        app.reload()
