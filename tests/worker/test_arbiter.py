"""What runs in the master before the first fork: check() refuses or names."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import gunicorn
import pytest
from gunicorn.config import Config

from configs import Value
from gunicorn_asgi.worker import arbiter
from gunicorn_asgi.worker.arbiter import (
    NOT_HONOURED,
    REFUSED,
    check,
    check_settings,
)
from gunicorn_asgi.worker.definitions import DEFINITIONS
from gunicorn_asgi.worker.settings import SettingError
from gunicorn_asgi.worker.tls import check_tls
from settings_table import CONTRADICTIONS, HONOURED_VALUES, OTHER_VALUES, REFUSED_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__: list[str] = []

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
KNOWN = Config().settings
NEWEST = (27, 0, 1)


class Log:
    """A logger that keeps its lines by level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda message, *args: self.lines.append((level, message % args))

    def at(self, level: str) -> list[str]:
        """The lines of one level."""
        return [line for each, line in self.lines if each == level]


@pytest.fixture
def log() -> Log:
    """Empty."""
    return Log()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of the machine's, and no config file of another test."""
    for definition in DEFINITIONS:
        monkeypatch.delenv(definition.variable, raising=False)
    monkeypatch.delitem(sys.modules, "__config__", raising=False)


def config(**values: object) -> Config:
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


def config_file(monkeypatch: pytest.MonkeyPatch, path: Path, **values: object) -> None:
    """What Gunicorn leaves of a config file with these names."""
    path.touch()
    module = ModuleType("__config__")
    module.__file__ = str(path)
    vars(module).update(values)
    monkeypatch.setitem(sys.modules, "__config__", module)


# -- the classification ----------------------------------------------------------------------------


def load_tables() -> ModuleType:
    """The tables of docs/settings.md: what is honoured, and what is Gunicorn's own business."""
    path = DOCS / "generate_settings.py"
    spec = importlib.util.spec_from_file_location("generate_settings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = load_tables()
CLASSES: dict[str, set[str]] = {
    "HONOURED": set(TABLES.HONOURED),
    "ARBITER": set(TABLES.ARBITER),
    "NOT_HONOURED": set(NOT_HONOURED),
    "REFUSED": {name for name, _, _ in REFUSED} | {"http_protocols"},
}
CLASSIFIED = set().union(*CLASSES.values())


def test_every_setting_of_gunicorn_is_classified() -> None:
    """One that is new in Gunicorn fails here: honour it, name it, refuse it, or leave it to it."""
    assert set(KNOWN) - CLASSIFIED == set()


def test_every_setting_has_one_class() -> None:
    """No contradiction between the tables."""
    assert sum(map(len, CLASSES.values())) == len(CLASSIFIED)


def test_nothing_is_classified_that_gunicorn_does_not_have() -> None:
    """On the newest; the oldest lacks what came after it."""
    if gunicorn.version_info >= NEWEST:
        assert set(KNOWN) == CLASSIFIED
    else:
        assert set(KNOWN) < CLASSIFIED


def test_what_gunicorn_has_of_ours_is_honoured() -> None:
    """asgi_loop and the others."""
    ours = {definition.name for definition in DEFINITIONS}
    assert ours & set(KNOWN) <= CLASSES["HONOURED"]


# -- check(): what is set but not honoured ---------------------------------------------------------


def test_every_setting_that_is_not_honoured_has_a_value_to_test_it_with() -> None:
    """A new entry needs a line in settings_table.py."""
    assert set(OTHER_VALUES) == set(NOT_HONOURED)


def test_nothing_is_said_of_defaults(log: Log) -> None:
    """A quiet start is the normal one."""
    check(Config(), log)
    assert log.lines == []


@pytest.mark.parametrize("name", sorted(set(NOT_HONOURED) & set(KNOWN)))
def test_a_setting_that_is_set_and_not_honoured_gets_one_warning(name: str, log: Log) -> None:
    """With its name and the reason."""
    check(config(**{name: OTHER_VALUES[name]}), log)
    sentence = f"The setting {name} is set but not honoured: {NOT_HONOURED[name]}"
    assert log.lines == [("warning", sentence)]


@pytest.mark.parametrize("name", sorted(set(NOT_HONOURED) & set(KNOWN)))
def test_a_setting_that_is_set_to_its_default_gets_none(name: str, log: Log) -> None:
    """Nothing is lost then."""
    setting = KNOWN[name]
    value = type(setting)().get()
    if isinstance(value, list):
        value = ",".join(map(str, value))
    check(config(**{name: value}), log)
    assert log.lines == []


@pytest.mark.parametrize("name", sorted(HONOURED_VALUES))
def test_a_setting_that_is_set_and_honoured_gets_none(name: str, log: Log) -> None:
    """It stands among the honoured ones, and the check leaves it in peace."""
    assert name in CLASSES["HONOURED"]
    check(config(**{name: HONOURED_VALUES[name]}), log)
    assert log.lines == []


def test_a_setting_that_this_gunicorn_does_not_know_is_no_matter(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables are those of the newest Gunicorn."""
    monkeypatch.setitem(NOT_HONOURED, "of_a_later_gunicorn", "it is not there yet")
    monkeypatch.setattr(arbiter, "REFUSED", (("of_another", frozenset(), "not there"), *REFUSED))
    check(Config(), log)
    assert log.lines == []


def test_an_unknown_name_of_the_config_file_is_warned_of(
    log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """See test_settings.py for the sentences."""
    config_file(monkeypatch, tmp_path / "c.py", asgi_lop="auto")
    check(Config(), log)
    (sentence,) = log.at("warning")
    assert sentence.startswith("unknown setting asgi_lop ")


def test_an_unknown_name_in_the_environment_is_warned_of(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else's begins like that; those of Gunicorn's own settings are ours as well."""
    monkeypatch.setenv("GUNICORN_ASGI_LOP", "auto")
    monkeypatch.setenv("GUNICORN_ASGI_LIFESPAN", "auto")
    monkeypatch.setenv("GUNICORN_PID", "1")
    check(Config(), log)
    assert log.at("warning") == [
        "unknown setting GUNICORN_ASGI_LOP in the environment is ignored; did you mean "
        "GUNICORN_ASGI_LOOP?"
    ]


def test_preload_app_is_told_what_hup_does_then(log: Log) -> None:
    """The arbiter loads the application once."""
    check(config(preload_app=True), log)
    (sentence,) = log.at("info")
    assert "HUP" in sentence


# -- check(): what is refused ----------------------------------------------------------------------


def told(name: str, value: object) -> Config:
    """A Config with that value; in place of a Gunicorn that does not know the setting yet."""
    if name in KNOWN:
        return config(**{name: value})
    cfg = Config()
    cfg.settings[name] = Value(value)
    return cfg


def test_every_refused_setting_has_a_value_to_test_it_with() -> None:
    """A new entry needs a line in settings_table.py."""
    assert {name for name, _, _ in REFUSED_VALUES} == CLASSES["REFUSED"]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, value, _ in REFUSED_VALUES])
def test_what_cannot_be_served_is_refused(name: str, value: object, log: Log) -> None:
    """Before the first fork, with name, value and what is allowed."""
    cfg = told(name, value)
    with pytest.raises(SettingError) as caught:
        check(cfg, log)
    text = str(caught.value)
    assert text.startswith(f"{name} is {cfg.settings[name].get()!r}: ")
    assert "served" in text or "parser" in text
    assert log.lines == []


ALLOWED = [(name, value) for name, allowed, _ in REFUSED for value in sorted(allowed, key=str)]


@pytest.mark.parametrize(("name", "value"), ALLOWED)
def test_an_allowed_value_is_not_refused(name: str, value: object, log: Log) -> None:
    """Also when it is said explicitly. The default is one of them, or no server would start."""
    check(told(name, value), log)
    assert log.lines == []
    if name in KNOWN:
        assert (name, KNOWN[name].get()) in ALLOWED


@pytest.mark.parametrize(("name", "values"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused(
    name: str,
    values: dict[str, object],
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """See test_settings.py and test_settings_proxies.py for the sentences."""
    gunicorns = {each: value for each, value in values.items() if each in KNOWN}
    config_file(monkeypatch, tmp_path / "c.py", **values)
    with pytest.raises(SettingError, match=f"^{name} is "):
        check(config(**gunicorns), log)


def test_a_bad_value_of_ours_is_refused(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """See test_settings.py for the values."""
    monkeypatch.setenv("GUNICORN_ASGI_LOOP", "trio")
    with pytest.raises(SettingError, match="asgi_loop is 'trio'"):
        check(Config(), log)


def test_a_gunicorn_that_is_too_old_is_refused_first(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks settings that would be read next; what is too old stands in pyproject.toml."""
    monkeypatch.setattr(gunicorn, "version_info", (22, 0, 0))
    monkeypatch.setattr(gunicorn, "__version__", "22.0.0")
    monkeypatch.setattr(arbiter, "Settings", None)
    with pytest.raises(SettingError, match=r"Gunicorn is 22\.0\.0, and .* needs 23 or newer: pip"):
        check(Config(), log)
    oldest = ".".join(map(str, arbiter.OLDEST))
    assert f'"gunicorn>={oldest}",' in (DOCS.parent / "pyproject.toml").read_text()


def test_uvloop_is_refused_where_it_is_not_installed(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asgi_loop "auto" takes asyncio there."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    monkeypatch.setenv("GUNICORN_ASGI_LOOP", "uvloop")
    with pytest.raises(SettingError, match="'uvloop', which is not installed"):
        check(Config(), log)
    monkeypatch.setenv("GUNICORN_ASGI_LOOP", "auto")
    check(Config(), log)


@pytest.mark.parametrize("kind", ["uvloop", "asyncio", "auto"])
def test_a_loop_that_is_installed_is_not_refused(
    kind: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none is left open in the master."""
    monkeypatch.setenv("GUNICORN_ASGI_LOOP", kind)
    check(Config(), log)
    assert log.lines == []


# -- the halves of check() -------------------------------------------------------------------------


def test_settings_can_be_checked_without_a_file_being_opened(log: Log, tmp_path: Path) -> None:
    """``gunicorn-asgi check`` tells of each part by itself."""
    cfg = config(certfile=str(tmp_path / "none.pem"), threads=4)
    check_settings(cfg, log)
    assert len(log.at("warning")) == 1
    with pytest.raises(SettingError, match="TLS cannot be set up: FileNotFoundError"):
        check_tls(cfg)
