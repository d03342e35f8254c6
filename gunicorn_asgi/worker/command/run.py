"""``run``: Gunicorn, with our settings as real flags.

``gunicorn -k gunicorn_asgi.Worker`` imports this package when its own command line is parsed
already. Here it is the other way round, so what Gunicorn does not know can be added to what it
knows: its ``--help``, ``--print-config`` and its validation then include our settings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from gunicorn import config
from gunicorn.app.wsgiapp import WSGIApplication

from gunicorn_asgi.worker.command.output import complain
from gunicorn_asgi.worker.definitions import DEFINITIONS, Definition

__all__ = ["WORKER_CLASS", "Launcher", "flag", "register", "run"]

WORKER_CLASS = "gunicorn_asgi.Worker"

# The exit status of argparse.
_WRONG_ARGUMENTS = 2


def flag(name: str) -> str:
    """Runs in: command line. The flag of a setting."""
    return "--" + name.replace("_", "-")


def register() -> None:
    """Runs in: command line. Make Gunicorn know our settings; idempotent."""
    known = {setting.name for setting in config.KNOWN_SETTINGS}
    for definition in DEFINITIONS:
        if definition.name not in known:
            _register(definition)


def _register(definition: Definition) -> None:
    # The metaclass keeps each new class in the list that every Config is made of.
    type(config.Setting)(
        definition.name,
        (config.Setting,),
        {
            "name": definition.name,
            "section": "gunicorn_asgi",
            "cli": [flag(definition.name)],
            "meta": definition.placeholder,
            "validator": _validator(definition),
            "default": definition.default,
            "desc": definition.description,
        },
    )


def _validator(definition: Definition) -> Callable[[object], object]:
    def validate(value: object) -> object:
        try:
            return definition.validate(value)
        except ValueError as exc:
            # Gunicorn prints "Error: " and this, and exits with 1.
            raise ValueError(f"{definition.name} is {value!r}, which is not {exc}") from None

    return validate


class Launcher(WSGIApplication):  # type: ignore[misc]  # Gunicorn is not typed
    """Runs in: master and command line. Gunicorn's application, told its arguments."""

    def __init__(self, prog: str, arguments: Sequence[str]) -> None:
        """Runs in: master and command line. Load the configuration.

        Raises:
            SystemExit: it cannot be loaded, or only help was asked for.
        """
        self._arguments = list(arguments)
        register()
        super().__init__("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog)

    def load_default_config(self) -> None:
        """Runs in: master and command line. Our worker class is the default here."""
        super().load_default_config()
        setting: Any = self.cfg.settings["worker_class"]
        setting.default = WORKER_CLASS
        setting.set(WORKER_CLASS)

    def load_config(self) -> None:
        """Runs in: master and command line. Parse the arguments, at each reload too.

        Gunicorn has its parser read ``sys.argv``, which begins with a word of ours, and has to
        stay whole: it is what USR2 executes.
        """
        whole = sys.argv
        sys.argv = [self.prog, *self._arguments]
        try:
            super().load_config()
        except SystemExit as exc:
            if exc.code == _WRONG_ARGUMENTS:
                self._suggest()
            raise
        finally:
            sys.argv = whole

    def _suggest(self) -> None:
        """The parser has said which flag it does not know; say which one may be meant."""
        import difflib  # which a start without a mistake does not need

        known = [each for setting in self.cfg.settings.values() for each in setting.cli or ()]
        for argument in self._arguments:
            given = argument.partition("=")[0]
            # The parser takes the beginning of a flag for all of it.
            if given.startswith("--") and not any(each.startswith(given) for each in known):
                for close in difflib.get_close_matches(given, known, n=1):
                    complain(f"unknown flag {given}: did you mean {close}?")


def run(prog: str, arguments: Sequence[str]) -> int:
    """Runs in: master. Serve, until the server ends; its exit status.

    Raises:
        SystemExit: that is how Gunicorn ends.
    """
    # USR2 executes sys.executable and sys.argv. After `python -m` that would run this package's
    # __main__.py as a script, with our folder, and so names like "worker", in front of sys.path;
    # and options of the interpreter would be lost.
    sys.argv = sys.orig_argv[1:] or sys.argv
    Launcher(prog, arguments).run()
    return 0
