"""aio/loop.py: event loops by name (Gunicorn's setting asgi_loop)."""

from __future__ import annotations

import asyncio
import sys

import pytest
import uvloop

from gunicorn_asgi.aio.loop import new_event_loop

__all__: list[str] = []


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``import uvloop`` fail, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "uvloop", None)


def _is_uvloop(kind: str) -> bool:
    loop = new_event_loop(kind)
    try:
        assert loop.run_until_complete(asyncio.sleep(0, "turns")) == "turns"
        return isinstance(loop, uvloop.Loop)
    finally:
        loop.close()


@pytest.mark.parametrize(("kind", "expected"), [("auto", True), ("uvloop", True)])
def test_uvloop_is_preferred(kind: str, expected: bool) -> None:
    """asgi_loop: "auto" takes uvloop where it is installed."""
    assert _is_uvloop(kind) is expected


def test_asyncio_is_taken_when_asked_for() -> None:
    """asgi_loop: "asyncio" is asyncio's own, whatever is installed."""
    assert not _is_uvloop("asyncio")


@pytest.mark.usefixtures("without_uvloop")
@pytest.mark.parametrize("kind", ["auto", "asyncio"])
def test_uvloop_is_not_needed(kind: str) -> None:
    """asgi_loop: only "uvloop" insists."""
    assert not _is_uvloop(kind)


@pytest.mark.usefixtures("without_uvloop")
def test_uvloop_that_is_asked_for_and_missing_is_an_error() -> None:
    """asgi_loop: what was asked for by name is not silently replaced."""
    with pytest.raises(ImportError):
        new_event_loop("uvloop")
