"""The cases of the Autobahn suite, which of them to run, and what its report has to say of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

__all__ = ["CASES", "SHORT", "complaints", "groups", "select"]

# Section, and how many cases it has. Written down here, so that a case which the suite drops, or
# never comes to, is missed.
_SIZES = {
    **{"1.1": 8, "1.2": 8, "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20},
    **{"6.1": 3, "6.2": 4, "6.3": 2, "6.4": 4, "6.5": 5, "6.6": 11, "6.7": 4, "6.8": 2, "6.9": 4},
    **{"6.10": 3, "6.11": 5, "6.12": 8, "6.13": 5, "6.14": 10, "6.15": 1, "6.16": 3, "6.17": 5},
    **{"6.18": 5, "6.19": 5, "6.20": 7, "6.21": 8, "6.22": 34, "6.23": 7},
    **{"7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2},
    **{"9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6, "10.1": 1},
    **{f"12.{kind}": 18 for kind in range(1, 6)},
    **{f"13.{offer}": 18 for offer in range(1, 8)},
}
CASES = tuple(f"{section}.{n}" for section, size in _SIZES.items() for n in range(1, size + 1))

# For every change: all but most of those that take seconds each.
SHORT = (
    *("[1-7].*", "9.*", "10.*"),
    # Every kind of data in small messages, and in 256-byte fragments; once the largest messages.
    *("12.[1-5].[24]", "12.[1-5].11", "12.1.10"),
    # Every offer, likewise.
    *("13.[1-7].[24]", "13.[1-7].11"),
)

# Whatever a server does there, the suite only tells of it.
_TELLING = frozenset({"7.1.6", "7.13.1", "7.13.2"})


def select(patterns: Sequence[str]) -> list[str]:
    """Cases that match one of ``patterns`` (``9.1.*``), in the order of the suite; all without any.

    Raises:
        ValueError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(case, pattern) for case in CASES):
            raise ValueError(f"there is no case {pattern}")
    return [c for c in CASES if not patterns or any(fnmatchcase(c, p) for p in patterns)]


def groups(cases: Sequence[str]) -> dict[str, list[str]]:
    """``cases`` by their first number."""
    found: dict[str, list[str]] = {}
    for case in cases:
        found.setdefault(case.split(".")[0], []).append(case)
    return found


def complaints(report: Mapping[str, Mapping[str, object]], wanted: Sequence[str]) -> list[str]:
    """Name each case of ``wanted`` that is missing or not as good as it can be.

    Only OK will do, for what happened and for how it was closed: NON-STRICT, WRONG CODE, UNCLEAN,
    FAILED BY CLIENT (we did not end the connection) and UNIMPLEMENTED (no compression was agreed
    upon) are what the suite forgives others.

    Args:
        report: the cases of one server in the suite's ``index.json``.
        wanted: the cases that were to run.
    """
    found = []
    for case in wanted:
        result = report.get(case)
        if result is None:
            found.append(f"{case}: missing in the report")
            continue
        behavior, close = result.get("behavior"), result.get("behaviorClose")
        good = "INFORMATIONAL" if case in _TELLING else "OK"
        if not behavior == close == good:
            found.append(f"{case}: behavior {behavior}, close {close}")
    found += [f"{case}: nobody asked for it" for case in report if case not in set(wanted)]
    return found
