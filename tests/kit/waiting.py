"""The only place of the tests where anything sleeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["wait_until"]

T = TypeVar("T")

# Short enough not to be felt in a test, long enough to leave two cores to the processes under test.
_TICK = 0.01


def wait_until(predicate: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """Call ``predicate`` until its answer is true, and return that answer.

    Raises:
        AssertionError: the answer was still false after ``timeout`` seconds.

    """
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            name = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"waited {timeout:g} s in vain for {name} (last: {answer!r})")
        time.sleep(_TICK)
