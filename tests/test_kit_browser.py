"""The kit's browser: what a page says can be read, and nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from kit import proc
from kit.browser import Browser, by_browser
from kit.waiting import wait_until

__all__: list[str] = []

pytestmark = [*by_browser, pytest.mark.slow]

PAGE = """data:text/html,<title>Kit</title><style>
@media (prefers-color-scheme: dark) { p { color: rgb(1, 2, 3) } }</style><p>seen</p>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests that do not end it."""
    with Browser() as running:
        yield running


def gone(browser: Browser) -> bool:
    return not browser.processes() and not browser.dir.exists()


def test_a_page_is_asked_and_its_promises_are_waited_for(browser: Browser) -> None:
    with browser.open(PAGE) as tab:
        assert tab.ask("document.title") == "Kit"
        assert tab.ask("async word => ({said: await word})", "hi") == {"said": "hi"}
        tab.ask("setTimeout(() => { window.late = [1] }, 50)")
        assert tab.wait("window.late") == [1]
        assert tab.console() == []


def test_a_wait_ends_and_tells_what_the_page_shows(browser: Browser) -> None:
    with browser.open(PAGE) as tab:
        tab.ask("console.info('nothing yet')")
        with pytest.raises(AssertionError, match=r"vain for window\.never(.|\n)*seen(.|\n)*yet"):
            tab.wait("window.never", timeout=0.1)


def test_errors_of_a_page_are_read(browser: Browser) -> None:
    with browser.open(PAGE) as tab:
        tab.ask("console.warn('a warning')")
        assert tab.errors() == []
        tab.ask("console.error('one', 2)")
        tab.ask("setTimeout(() => { throw new Error('three') })")
        tab.ask("new Promise(done => setTimeout(done))")
        assert tab.errors() == ["error: one 2", "uncaught: three"]
        assert tab.console()[0] == "warning: a warning"


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)])
def test_a_window_has_its_size_and_its_colours(
    browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    with browser.open(PAGE, width=width, height=600, dark=dark) as tab:
        color = tab.ask("getComputedStyle(document.querySelector('p')).color")
        assert color == ("rgb(1, 2, 3)" if dark else "rgb(0, 0, 0)")
        tab.screenshot(tmp_path / "seen.png")
    picture = (tmp_path / "seen.png").read_bytes()
    assert struct.unpack(">II", picture[16:24]) == (width, 600)


def test_tabs_share_nothing(browser: Browser) -> None:
    with browser.open(PAGE) as one, browser.open(PAGE) as other:
        one.ask("window.own = 1")
        assert other.ask("window.own") is None


def test_a_browser_is_in_nobodys_way(browser: Browser) -> None:
    """Of a loop in the test's own thread, and of a second browser."""
    assert asyncio.run(asyncio.sleep(0, "run")) == "run"
    with Browser() as other, other.open(PAGE) as tab:
        assert tab.ask("document.title") == "Kit"
        assert {each.pid for each in other.processes()}.isdisjoint(
            each.pid for each in browser.processes()
        )


def test_nothing_is_left_after_a_failure() -> None:
    """Neither a process nor a file, whatever the page was about to do."""
    with pytest.raises(ZeroDivisionError), Browser() as browser:
        browser.open(PAGE).ask("setInterval(() => { window.turns += 1 })")
        assert len(browser.processes()) > 3
        raise ZeroDivisionError
    assert gone(browser)


def test_nothing_is_left_of_a_browser_that_has_crashed() -> None:
    with Browser() as browser:
        for each in browser.processes():
            # The others end with the first.
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, SIGKILL)
    assert gone(browser)


def test_a_page_that_never_answers_costs_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of the whole run: Playwright itself waits for a promise for ever."""
    with pytest.raises(Exception, match="closed"), Browser() as browser:
        tab = browser.open(PAGE)
        monkeypatch.setattr("kit.browser.PATIENCE", 1)
        with pytest.raises(AssertionError, match="has not answered for 1 s"):
            tab.ask("new Promise(() => {})")
        monkeypatch.undo()
        assert browser.processes() == []
        tab.ask("1")
    assert gone(browser)


def test_nothing_is_left_when_the_driver_has_been_killed() -> None:
    """As when the tests themselves are killed: the browser ends with whoever has started it."""
    before = {each.pid for each in proc.children(os.getpid())}
    with pytest.raises(Exception, match="closed"), Browser() as browser:
        (driver,) = {each.pid for each in proc.children(os.getpid())} - before
        os.kill(driver, SIGKILL)
        wait_until(lambda: not browser.processes(), 10, "the browser to end")
        browser.open(PAGE)
    assert gone(browser)


def test_a_browser_that_does_not_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.browser.CHROMIUM", "/bin/false")
    browser = Browser()
    with pytest.raises(Exception, match="/bin/false"), browser:
        pass
    assert gone(browser)
