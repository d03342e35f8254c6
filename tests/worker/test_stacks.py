"""worker/stacks.py: which of the lines on a stack an operator wants to know."""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest

from gunicorn_asgi.aio.inflight import Line
from gunicorn_asgi.worker import stacks
from gunicorn_asgi.worker.stacks import Place, Places, main_frames, other_threads, shown, waits
from kit.fakes import LoopKind, new_loop
from kit.waiting import wait_until

__all__: list[str] = []

APP = "/srv/shop/views.py"
STDLIB = f"{sysconfig.get_path('stdlib')}/re/__init__.py"
LIBRARY = "/venv/lib/python3.11/site-packages/pandas/core.py"
DEBIAN = "/usr/lib/python3/dist-packages/yaml/loader.py"
INSTALLED = "/venv/lib/python3.11/site-packages/shop/views.py"
MODULE = "/venv/lib/python3.11/site-packages/shop.py"
OURS = os.path.join(stacks._OURS, "aio", "cycle.py")
GUNICORN = os.path.join(stacks._GUNICORN, "util.py")
MADE = "<string>"


def called(files: Sequence[str], last: Callable[[], FrameType]) -> FrameType:
    """Have code of each file call that of the next, and the last of them ``last``."""
    if not files:
        return last()
    code = compile("\n" * 9 + "def run(rest): return call(rest)", files[0], "exec")
    names: dict[str, Callable[[Sequence[str]], FrameType]] = {
        "call": lambda rest: called(rest, last)
    }
    exec(code, names)  # noqa: S102 - the only way to a frame of a file of that name
    return names["run"](files[1:])


def stack(*files: str) -> list[FrameType]:
    """The frames of code in these files, outermost first; what lies between is left out."""
    frame: FrameType | None = called(files, lambda: sys._getframe(2))
    frames: list[FrameType] = []
    while frame is not None and len(frames) < len(files):
        if frame.f_code.co_name == "run":
            frames.append(frame)
        frame = frame.f_back
    return frames


def at(file: str) -> Line:
    return Line(file, 10, "run")


@pytest.mark.parametrize(
    ("files", "line", "inside"),
    [
        ([OURS, APP], APP, ""),
        ([OURS, LIBRARY, APP], APP, ""),
        ([OURS, APP, STDLIB], APP, "re/__init__.py:10 run()"),
        ([OURS, APP, LIBRARY, STDLIB], APP, "re/__init__.py:10 run()"),
        ([OURS, APP, LIBRARY], APP, "pandas/core.py:10 run()"),
        ([OURS, APP, DEBIAN], APP, "yaml/loader.py:10 run()"),
        ([OURS, APP, MADE], APP, "<string>:10 run()"),
        # An application that was installed, as in most containers.
        ([OURS, LIBRARY, INSTALLED, LIBRARY], INSTALLED, "pandas/core.py:10 run()"),
        ([OURS, LIBRARY, MODULE, LIBRARY], MODULE, "pandas/core.py:10 run()"),
        # None of its lines: the innermost library's.
        ([OURS, LIBRARY, STDLIB], LIBRARY, "re/__init__.py:10 run()"),
        ([OURS, STDLIB], STDLIB, ""),
        ([OURS], OURS, ""),
        ([GUNICORN, MADE], MADE, ""),
        # The handler of a signal that has come meanwhile.
        ([OURS, APP, STDLIB, OURS], APP, "re/__init__.py:10 run()"),
        ([OURS, APP, OURS], APP, ""),
    ],
)
def test_the_innermost_line_of_the_application_is_the_place(
    files: list[str], line: str, inside: str
) -> None:
    """And the innermost of all is told beside it."""
    assert Places("shop.main:app").find(stack(*files)) == Place(at(line), inside)


def test_an_application_without_a_name_is_known_by_its_folder() -> None:
    """Whoever runs a BaseApplication of their own."""
    assert Places("").find(stack(APP, LIBRARY)) == Place(at(APP), "pandas/core.py:10 run()")
    assert Places("").find(stack(INSTALLED, STDLIB)) == Place(
        at(INSTALLED), "re/__init__.py:10 run()"
    )


def test_no_frames_are_no_place() -> None:
    assert Places("shop:app").find([]) is None


@pytest.mark.parametrize(
    ("file", "short"),
    [(APP, APP), (LIBRARY, "pandas/core.py"), (STDLIB, "re/__init__.py"), (MADE, MADE)],
)
def test_a_file_is_shown_without_the_folder_of_its_library(file: str, short: str) -> None:
    assert shown(file) == short


def test_the_frames_that_have_started_the_worker_are_left_out() -> None:
    """Those behind worker.py: Gunicorn's, the same for every stack."""
    frames = main_frames(stack(GUNICORN, stacks._WORKER, OURS, APP)[0])
    files = [frame.f_code.co_filename for frame in frames if frame.f_code.co_name == "run"]
    assert files == [APP, OURS]


def test_the_main_thread_is_looked_at_from_any_other() -> None:
    found: list[list[str]] = []

    def look() -> None:
        found.append([frame.f_code.co_name for frame in main_frames()])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(10)
    (names,) = found
    assert "test_the_main_thread_is_looked_at_from_any_other" in names
    assert "look" not in names


def test_other_threads_are_shown_with_their_names() -> None:
    """Neither the main one nor that which asks."""
    gate = threading.Event()

    def wait_for_the_gate() -> None:
        gate.wait(10)

    thread = threading.Thread(target=wait_for_the_gate, name="of the application")
    thread.start()
    try:
        text = other_threads()
    finally:
        gate.set()
        thread.join(10)
    assert text.count("Thread of the application:") == 1
    assert "in wait_for_the_gate\n    gate.wait(10)\n" in text
    assert "test_other_threads_are_shown_with_their_names" not in text


def test_a_loop_without_work_can_be_told_from_one_that_is_stuck(loop_kind: LoopKind) -> None:
    """asyncio waits in frames of its own, uvloop in none."""
    loop = new_loop(loop_kind)
    mine = len(main_frames(sys._getframe()))

    def look() -> bool:
        # Without the frames of this test and those behind it, as in a worker.
        return waits(main_frames()[:-mine])

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(look).result(10)
        await loop.run_in_executor(None, wait_until, look)

    try:
        loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
