"""The only place that writes to the terminal."""

from __future__ import annotations

import sys

__all__ = ["complain", "say"]


def say(text: str, end: str = "\n") -> None:
    """Runs in: command line. The answer, on standard output, at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def complain(text: str) -> None:
    """Runs in: command line. What went wrong, on standard error."""
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()
