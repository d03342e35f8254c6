"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from kit import proc
from kit.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.fakes import LoopKind

__all__: list[str] = []

LIVE = Path(__file__).parent / "live"

# What is long by its nature: twenty thousand connections, a hundred reloads, hundreds of megabytes,
# five hundred slow clients.
ENDURANCE = frozenset(
    {
        "test_connections_come_and_go.py",
        "test_flow_control.py",
        "test_hundred_reloads_leave_nothing.py",
        "test_slowloris.py",
    }
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies in live/ is live, and slow."""
    for item in items:
        if LIVE in item.path.parents:
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.slow)
        if item.path.name in ENDURANCE:
            item.add_marker(pytest.mark.endurance)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their size where they are no text: a masked frame differs in each process, and
    all processes of pytest-xdist have to collect the same names."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode().isprintable()):
        return f"{argname}-{len(val)}-bytes"
    return None


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> LoopKind:
    """Run the test on either loop: ``kit.fakes.run(coroutine, loop_kind)``."""
    return cast("LoopKind", request.param)


@pytest.fixture(scope="session", autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Whatever the tests start, they end: asserted for this process at its own end."""
    before = {each.pid for each in proc.children(os.getpid())}
    yield
    wait_until(
        lambda: {each.pid for each in proc.children(os.getpid())} <= before,
        5,
        "the children of the test process to end",
    )
