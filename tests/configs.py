"""Gunicorn's configuration as the tests of our settings need it: of any version, with any file."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from gunicorn.config import Config

from gunicorn_asgi.worker.definitions import DEFINITIONS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

__all__ = ["ConfigFile", "OtherGunicorn", "Value", "forget_the_machine", "gunicorn_config"]


def forget_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine's and no config file of another test speaks any more."""
    for definition in DEFINITIONS:
        monkeypatch.delenv(definition.variable, raising=False)
    monkeypatch.delitem(sys.modules, "__config__", raising=False)


class ConfigFile:
    """Stands for the config file as Gunicorn leaves it behind: a module in sys.modules."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._monkeypatch = monkeypatch

    def says(self, values: Mapping[str, object], module_name: str = "__config__") -> None:
        """Gunicorn has executed a file with these names in it."""
        self.path.touch()
        module = ModuleType(module_name)
        module.__file__ = str(self.path)
        vars(module).update(values)
        self._monkeypatch.setitem(sys.modules, module_name, module)


class OtherGunicorn:
    """A Config of a Gunicorn that knows other settings than the one installed."""

    def __init__(self, cfg: Config) -> None:
        ours = {definition.name for definition in DEFINITIONS}
        self._cfg = cfg
        self.settings = {name: value for name, value in cfg.settings.items() if name not in ours}

    def __getattr__(self, name: str) -> object:
        return getattr(self._cfg, name)


class Value:
    """A setting of Gunicorn's that holds a value."""

    def __init__(self, value: object) -> None:
        self.value = value

    def get(self) -> object:
        """As a setting's."""
        return self.value


def gunicorn_config(own: Mapping[str, object] | None = None, /, **values: object) -> Config:
    """A Config whose Gunicorn knows of ours only what is in ``own``; ``values`` are Gunicorn's."""
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    other = OtherGunicorn(cfg)
    other.settings |= {name: Value(value) for name, value in (own or {}).items()}
    return other
