"""A real headless Chromium, driven by Playwright.

It has a profile of its own and knows no network but the machine's. Leaving the ``with`` block ends
it and asserts that nothing of it is left. Everything is bounded in time.

    pytestmark = by_browser

    with Browser() as browser, browser.open(m.base_url) as tab:
        tab.wait("document.title === 'ready'")
        assert not tab.errors()

Playwright keeps an event loop running in the thread that uses it, and a thread can have one only.
So each browser has a thread of its own, and tests may run loops and further browsers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from kit import proc
from kit.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from playwright.sync_api import Browser as Chromium
    from playwright.sync_api import ConsoleMessage, Error, Page, Playwright

__all__ = ["CHROMIUM", "MISSING", "Browser", "Tab", "by_browser"]

T = TypeVar("T")

# Debian's name, Ubuntu's and Google's.
_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)


def _missing() -> str:
    if CHROMIUM is None:
        return "Chromium is not installed"
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed (make test WITH=browser)"
    return ""


# What there would have to be, or "".
MISSING = _missing()
# For tests that need a browser: without one they are skipped, but in CI they fail.
by_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(MISSING) and not os.environ.get("CI"), reason=MISSING),
]

# Of the directory whose name finds our processes again.
_PREFIX = "kit-browser-"
# Seconds. Everything that has an end of its own has it sooner.
PATIENCE = 60.0
# Those that Playwright does not give by itself. A proxy of the machine's is none of ours.
_FLAGS = (
    *("--disable-gpu", "--disable-quic", "--disable-sync", "--no-proxy-server"),
    "--ignore-certificate-errors",
)


class Tab:
    """A page in a context of its own: no cookie and no cache is shared with another tab."""

    def __init__(self, page: Page, browser: Browser) -> None:
        """Listen to what the page has to say, before it is loaded; in the browser's thread."""
        self._page = page
        self._browser = browser
        self._console: list[tuple[str, str]] = []
        page.on("console", self._heard)
        page.on("pageerror", self._raised)

    def __enter__(self) -> Tab:
        """Nothing: it was opened by the browser."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the page, and with it its connections."""
        if error is not None:
            # pytest shows it under "Captured stderr" of the failing test.
            print(self._tale("the page"), file=sys.stderr)  # noqa: T201
        self.do(lambda page: page.context.close())

    def do(self, action: Callable[[Page], T]) -> T:
        """Do with Playwright's page whatever else it can do; raises what that raises."""
        return self._browser.call(lambda: action(self._page))

    def ask(self, script: str, argument: object = None) -> Any:  # noqa: ANN401 - the page knows
        """Run an expression or a function in the page; what it, or its promise, gives."""
        return self.do(lambda page: page.evaluate(script, argument))

    def wait(self, condition: str, timeout: float = 10.0) -> Any:  # noqa: ANN401 - likewise
        """Wait until that expression is true in the page, at most ``timeout`` seconds.

        Returns its value, as far as JSON can say it.
        """
        # From outside: Playwright's own waiting uses the page's timers, and a test may watch those.
        try:
            return wait_until(lambda: self.ask(condition), timeout, condition)
        except AssertionError as failure:
            raise AssertionError(self._tale(str(failure))) from None

    def console(self) -> list[str]:
        """What the page has written, as "kind: text"; "uncaught" is a kind too."""
        # Events come in while Playwright waits for an answer, and in their order.
        self.ask("0")
        return [f"{kind}: {text}" for kind, text in self._console]

    def errors(self) -> list[str]:
        """Errors on the console, resources that did not load, exceptions that nobody caught."""
        return [line for line in self.console() if line.startswith(("error: ", "uncaught: "))]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Take a picture (PNG) of what is seen, or of the whole page."""
        self.do(lambda page: page.screenshot(path=path, full_page=whole))

    def _heard(self, message: ConsoleMessage) -> None:
        self._console.append((message.type, message.text))

    def _raised(self, error: Error) -> None:
        self._console.append(("uncaught", str(error)))

    def _tale(self, what: str) -> str:
        from playwright.sync_api import Error

        # A page that has crashed says nothing any more, and that is no reason to hide why.
        try:
            text, console = self.ask("document.body.innerText"), self.console()
        except Error as error:
            text, console = str(error), []
        return "\n".join([what, "-- the page --", text[-3000:], "-- its console --", *console])


class Browser:
    """Runs from ``with`` to its end; ``open`` opens a page."""

    def __init__(self) -> None:
        """Start nothing before the ``with`` block is entered."""
        self.dir = Path()
        self._thread: ThreadPoolExecutor | None = None
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None

    def __enter__(self) -> Browser:
        """Start it with an empty profile."""
        assert not MISSING, MISSING
        self.dir = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._thread = ThreadPoolExecutor(1, _PREFIX)
        try:
            self.call(self._start)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it and assert that nothing of it is left."""
        self._end()

    def open(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Tab:
        """Open a page and wait until it is loaded, at most 10 s.

        The window has that many pixels; its user is used to the dark, or not.
        """
        return self.call(lambda: self._open(url, width, height, dark))

    def call(self, action: Callable[[], T]) -> T:
        """Run that in the browser's thread; what takes longer than ``PATIENCE`` costs its life."""
        assert self._thread is not None, "not started"
        future = self._thread.submit(action)
        try:
            return future.result(PATIENCE)
        except Late:
            if future.done():
                raise  # the action's own
            self._kill()
            text = f"the browser has not answered for {PATIENCE:g} s"
            raise AssertionError(text) from None

    def processes(self) -> list[proc.Stat]:
        """Every living process of this browser and its driver: all of them name its directory."""
        assert self.dir.name.startswith(_PREFIX), "not started"
        return proc.naming(str(self.dir))

    # -- in the browser's thread -------------------------------------------------------------------

    def _start(self) -> None:
        from playwright.sync_api import sync_playwright

        # The driver makes the profile. It takes the directory from the environment only, which it
        # copies while it starts.
        with _temporary_files_in(self.dir):
            self._playwright = sync_playwright().start()
        home = {name: str(self.dir) for name in ("HOME", "TMPDIR")}
        self._chromium = self._playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=_FLAGS,
            # Nothing else of ours: no bus, no proxy, no configuration of a desktop.
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **home},
            chromium_sandbox=False,  # it cannot be had by root, nor in most containers
            timeout=30_000,
        )

    def _open(self, url: str, width: int, height: int, dark: bool) -> Tab:
        assert self._chromium is not None, "not started"
        context = self._chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        try:
            context.set_default_timeout(10_000)
            tab = Tab(context.new_page(), self)
            tab._page.goto(url)
        except BaseException:
            context.close()
            raise
        return tab

    def _stop(self) -> None:
        with contextlib.ExitStack() as stack:
            # The last first, and each of them whatever becomes of the one before.
            if self._playwright is not None:
                stack.callback(self._playwright.stop)
            if self._chromium is not None:
                stack.callback(self._chromium.close)
            self._chromium = self._playwright = None

    # -- inside ------------------------------------------------------------------------------------

    def _end(self) -> None:
        assert self._thread is not None
        try:
            self.call(self._stop)
            wait_until(lambda: not self.processes(), 5, "the browser to end")
        finally:
            self._kill()
            # Whatever it waited for has ended.
            self._thread.shutdown()
            shutil.rmtree(self.dir)

    def _kill(self) -> None:
        for each in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, SIGKILL)
        wait_until(lambda: not self.processes(), 5, "what was killed to end")


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
