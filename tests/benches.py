"""The modules of bench/, which are scripts side by side and no package."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

__all__ = ["BENCH", "environment", "imported"]

BENCH = Path(__file__).resolve().parent.parent / "bench"


@contextlib.contextmanager
def imported(*names: str) -> Iterator[SimpleNamespace]:
    """Those of these names; afterwards nobody else finds any of the folder."""
    sys.path.insert(0, str(BENCH))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(BENCH))
        for script in BENCH.glob("*.py"):
            sys.modules.pop(script.stem, None)


def environment() -> dict[str, str]:
    """For a script of the folder, which is to find the same packages as this process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
