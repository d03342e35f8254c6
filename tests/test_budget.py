"""The hot path does not rot: what a plain request costs is counted, and held."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from benches import BENCH, environment, imported

__all__: list[str] = []


@pytest.fixture(scope="module")
def budget() -> Iterator[Any]:
    """The script."""
    with imported("budget") as modules:
        yield modules.budget


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def costs(request: pytest.FixtureRequest) -> dict[str, dict[str, float]]:
    """By request. Counted in a process of its own: whatever traces this one is not in the way."""
    done = subprocess.run(
        [sys.executable, str(BENCH / "budget.py"), "--json", request.param],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["get", "get-20-headers", "get-pipelined", "post-1k"])
def test_a_request_costs_what_it_may(
    budget: SimpleNamespace, costs: dict[str, dict[str, float]], name: str
) -> None:
    """Frames exactly: who saves one lowers the budget, so that it cannot come back unseen."""
    cost, allowed = costs[name], budget.budget(name)
    assert cost["frames"] == allowed.frames, "BUDGETS in bench/budget.py"
    assert cost["calls"] <= allowed.calls
    assert cost["blocks"] <= allowed.blocks


def test_every_request_has_a_budget(budget: SimpleNamespace) -> None:
    """And the other way round; of the memory there is one that can be exceeded."""
    assert set(budget.BUDGETS) == set(budget.REQUESTS)
    assert all(each.blocks > 0 for each in budget.BUDGETS.values())


def function(path: str, line: str) -> Callable[[object], object]:
    """One of that line, as if it stood in that file."""
    names: dict[str, Any] = {}
    exec(compile(f"def made(value):\n    {line}\n", path, "exec"), names)  # noqa: S102 - our own
    made: Callable[[object], object] = names["made"]
    return made


@pytest.mark.parametrize(
    ("file", "line", "counted"),
    [
        ("ours.py", "return value", (1, 0)),
        ("ours.py", "return value.decode()", (1, 1)),
        ("ours.py", "return [len(value), len(value)]", (1, 2)),
        ("../other.py", "return value.decode()", (0, 0)),
    ],
    ids=["call", "method", "functions", "elsewhere"],
)
def test_calls_of_ours_are_counted(
    budget: SimpleNamespace, file: str, line: str, counted: tuple[int, int]
) -> None:
    """Of Python's functions and of C's; those of others are not."""
    path = f"{budget._OURS}/{file}" if file == "ours.py" else "/other.py"
    made, calls = function(path, line), budget._Calls()
    before = sys.getprofile()
    sys.setprofile(calls)
    try:
        made(b"data")
    finally:
        sys.setprofile(before)
    assert (calls.frames, calls.calls) == counted


@pytest.mark.parametrize(
    ("line", "counted"),
    [("return value", 0), ("return b'%d' % value", 1), ("return b'%d' % value, 10**6 * value", 2)],
    ids=["nothing", "bytes", "bytes-int"],
)
def test_memory_that_is_taken_is_counted(budget: SimpleNamespace, line: str, counted: int) -> None:
    """Each piece once; Python 3.10 hides some, so there none are counted anywhere."""
    made = function(f"{budget._OURS}/ours.py", line)
    tracing = sys.gettrace()
    seen = []
    for _ in range(5):  # the first calls fill caches
        blocks = budget._Blocks()
        sys.settrace(blocks)
        try:
            made(123_456)
        finally:
            sys.settrace(tracing)
        seen.append(blocks.blocks)
    assert min(seen) == counted or sys.version_info < (3, 11)
