"""The atoms of an access line, between Gunicorn's loggers and what writes the line.

Gunicorn's ``Logger.access`` makes them with ``atoms()``, wraps them into ``atoms_wrapper_class``
and gives that to ``logging`` as the argument of ``access_log_format``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from gunicorn.glogging import Logger, SafeAtoms
from gunicorn.instrument.statsd import Statsd

from gunicorn_asgi.protocol.accesslog import FIELDS, AccessRecord, atom_of

__all__ = ["PrintableAtoms", "RawAtoms", "add_fields", "printable"]

_NAME = re.compile(r"%\((\w+)\)")


class RawAtoms(SafeAtoms):  # type: ignore[misc]  # Gunicorn is not typed
    """Runs in: worker. Gunicorn's atoms as they are, for who escapes the whole line.

    Attributes:
        raw: what ``Logger.atoms`` has made.
    """

    def __init__(self, atoms: dict[str, Any]) -> None:
        """Runs in: worker."""
        dict.__init__(self, atoms)
        self.raw = atoms


class PrintableAtoms(SafeAtoms):  # type: ignore[misc]  # Gunicorn is not typed
    """Runs in: worker. Gunicorn's atoms; what could end a line or drive a terminal is escaped.

    Path and user name come decoded, and a field may hold C1 controls (CWE-117, CVE-2020-7694).

    Attributes:
        raw: what ``Logger.atoms`` has made.
    """

    def __init__(self, atoms: dict[str, Any]) -> None:
        """Runs in: worker."""
        super().__init__({name: _escaped(value) for name, value in atoms.items()})
        self.raw = atoms


def printable(text: str) -> str:
    """Runs in: worker and command line. What could end a line or drive a terminal is escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def _escaped(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


def add_fields(log: Logger, generation: int) -> None:
    """Runs in: worker. Let ``access_log_format`` name ``FIELDS`` and the generation.

    On the instance, around whatever ``atoms()`` its class has: what that has made itself stays.
    """
    if not hasattr(log, "atoms"):
        return  # logger_class is no subclass of Gunicorn's
    wanted = _wanted(log)
    if not wanted:
        return
    made = [(name, make) for name, make in FIELDS.items() if name in wanted]
    atoms: Callable[..., dict[str, Any]] = log.atoms

    def with_fields(resp: object, *args: object) -> dict[str, Any]:
        found = atoms(resp, *args)
        record: AccessRecord | None = getattr(resp, "record", None)
        if record is not None:
            for name, make in made:
                if name not in found:
                    found[name] = atom_of(make(record))
            found.setdefault("generation", generation)
        return found

    log.atoms = with_fields


def _wanted(log: Logger) -> set[str]:
    """The names that somebody may ask for: all, where it is not the format alone that asks."""
    every = {*FIELDS, "generation"}
    cfg, kind = log.cfg, type(log)
    if kind.access not in (Logger.access, Statsd.access) or kind.atoms is not Logger.atoms:
        return every
    if cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
        return every  # a formatter of the user's sees the atoms
    if log.atoms_wrapper_class is not PrintableAtoms:
        return every
    return every & set(_NAME.findall(cfg.access_log_format))
