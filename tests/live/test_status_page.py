"""The status page in a real browser, of a real server that is used, reloaded and broken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGSTOP
from typing import TYPE_CHECKING

import pytest

from kit.browser import Browser, Tab, by_browser
from kit.master import Master, wait_until
from kit.wire import Wire, request

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__: list[str] = []

pytestmark = by_browser

APPS = Path(__file__).parent / "apps"
APP = (APPS / "status_page.py").read_text()
CONTRAST = (APPS / "contrast.js").read_text()

# What a request target may hold besides a path; nothing of it may come to life.
PROBE = (
    "/slow?<img/src=x/onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
)

# Words for the page's own elements, for what is asked of it.
WORDS = """
window.text = (id) => document.getElementById(id).textContent;
window.column = (table, name) =>
  [...document.querySelectorAll(`#${table} td.${name}`)].map((cell) => cell.textContent);
window.number = (id) => parseFloat(document.querySelector(`#${id} .value`).textContent);
window.line = (id, name) => document.querySelector(`#${id} path.${name}`)?.getAttribute("d") ?? "";
"""
# Nothing is wider than the window, and on a phone no table is wider than its box.
FITS = """document.documentElement.scrollWidth <= innerWidth && (innerWidth > 400 ||
  [...document.querySelectorAll(".scroll")].every((box) => box.scrollWidth <= box.clientWidth))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture(scope="module")
def calm() -> Iterator[Master]:
    """A server that nobody reloads."""
    with start() as m:
        yield m


def start() -> Master:
    # Gunicorn 27 looks at no signal for so long when old workers stay after a HUP.
    options = ("--graceful-timeout", "3")
    return Master("app:app", *options, workers=2, files={"app.py": APP})


@contextmanager
def look(browser: Browser, m: Master, width: int = 1440, dark: bool = False) -> Iterator[Tab]:
    """The page once it has data. It has asked no other server, and complained about nothing."""
    asked: list[str] = []

    def go(page: Page) -> None:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{m.base_url}/status")

    with browser.open("about:blank", width=width, height=900, dark=dark) as tab:
        tab.do(go)
        tab.ask(WORDS)
        tab.wait("column('workers', 'pid').length === 2")
        yield tab
        assert tab.errors() == []
        assert f"{m.base_url}/status/events" in asked
        others = [url for url in asked if not url.startswith((m.base_url + "/status", "data:"))]
        assert others == []


def test_it_shows_a_server_that_is_used_reloaded_and_broken(browser: Browser) -> None:
    with start() as m, look(browser, m) as tab:
        tab.ask("window.kept = 'the same document'")
        assert tab.ask("text('master')") == str(m.pid)
        assert tab.ask("text('said')") == "Started"
        assert sorted(map(int, tab.ask("column('workers', 'pid')"))) == m.workers()
        tab.wait("column('workers', 'state').join() === 'ready,ready'")
        use(m, tab)
        reload(m, tab)
        break_it(m, tab)
        assert tab.ask("window.kept") == "the same document"


def use(m: Master, tab: Tab) -> None:
    """Charts move under load, and errors stand out."""
    before = tab.wait("line('rps', 'ok.line')")
    assert not tab.ask("line('rps', 'c5.bars')")
    with Wire(m.connect()) as wire:

        def busy() -> bool:
            wire.request("GET", "/")
            wire.request("GET", "/bad")
            return bool(tab.ask("number('rps') > 10 && line('rps', 'c5.bars')"))

        wait_until(busy, 20, "requests on the page")
    tab.wait("number('latency') > 0 && line('latency', 'p99').length > 20")
    assert tab.ask("line('rps', 'ok.line')") != before
    label = tab.ask("document.querySelector('#rps .plot').getAttribute('aria-label')")
    assert label.startswith("Requests per second: 1xx")


def reload(m: Master, tab: Tab) -> None:
    """The stream's worker leaves, and the page finds another one."""
    m.signal(SIGHUP)
    tab.wait("text('said') === 'Reload succeeded' && text('generation') === '2'", 20)
    tab.wait("column('workers', 'state').join() === 'ready,ready'", 20)
    assert sorted(map(int, tab.ask("column('workers', 'pid')"))) == m.workers()
    tab.wait("line('rps', 'reload')")
    assert tab.ask("text('reloads')") == "1 succeeded"
    assert tab.ask("document.title").startswith("\N{CHECK MARK} Reload succeeded")


def break_it(m: Master, tab: Tab) -> None:
    """A deploy that does not boot: with its traceback, and on a phone too."""
    m.write("app.py", "import no_such_thing\n")
    m.signal(SIGHUP)
    tab.wait("text('said') === 'Reload FAILED, rolled back'", 20)
    error = "ModuleNotFoundError: No module named 'no_such_thing'"
    assert tab.ask("text('reason')") == error
    seen = tab.ask("document.getElementById('trace').innerText")  # of what is open only
    assert seen.startswith("Traceback")
    assert 'app.py", line 1' in seen
    tab.wait("column('workers', 'state').includes('failed')")
    assert error in tab.ask("column('workers', 'error')")[0]
    tab.wait("text('reloads') === '1 succeeded, 1 rolled back'")
    assert tab.ask(CONTRAST) == []
    assert tab.ask(FITS)
    tab.do(lambda page: page.set_viewport_size({"width": 390, "height": 900}))
    assert tab.ask(FITS)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_can_be_read(browser: Browser, calm: Master, width: int, dark: bool) -> None:
    """On a phone and on a large screen, by day and by night, and without a mouse."""
    with look(browser, calm, width, dark) as tab:
        tab.wait("line('rps', 'ok.line').includes('L')")
        assert tab.ask(FITS)
        assert tab.ask(CONTRAST) == []
        ground = tab.ask("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, ground[4:-1].split(","))) < 64) is dark
        tab.do(lambda page: page.locator("#rps .plot").focus())
        tab.do(lambda page: page.keyboard.press("ArrowLeft"))
        assert tab.ask("document.querySelector('#latency .to').textContent").startswith("at ")
        tab.do(lambda page: page.keyboard.press("Escape"))
        assert tab.ask("document.querySelector('#latency .to').textContent") == "now"


def test_an_open_request_is_shown_as_the_text_that_it_is(browser: Browser, calm: Master) -> None:
    release = calm.dir / "release"
    with look(browser, calm) as tab, Wire(calm.connect(30)) as wire:
        wire.send(request("GET", PROBE))
        try:
            tab.wait("column('requests', 'target').some((each) => each.includes('/slow'))")
            targets = tab.ask("column('requests', 'target')")
            assert f"GET {PROBE}" in targets
            assert "GET /status/events (a status page)" in targets
            # Old by now, which only somebody who serves streams is allowed to be.
            tab.wait("document.querySelectorAll('#requests td.age[data-tone=warn]').length === 1")
            assert tab.ask("document.querySelectorAll('#page img, #page script').length") == 0
            assert "taken" not in tab.ask("document.title")
        finally:
            release.touch()
        assert wire.recv_response().status == 200
        tab.wait("!column('requests', 'target').some((each) => each.includes('/slow'))")
    release.unlink()


def test_it_leaves_a_worker_that_is_stuck(browser: Browser, calm: Master) -> None:
    """It says since when nothing is new, and goes on with another worker."""
    with look(browser, calm) as tab:
        pid = tab.wait(
            "column('requests', 'worker').length === 1 && column('requests', 'worker')[0]"
        )
        calm.kill_worker(int(pid), SIGSTOP)
        try:
            tab.wait("!document.getElementById('lost').hidden", 20)
            assert tab.ask("text('lost-said')").startswith("Connection lost. What you see is from ")
            assert tab.ask("text('live')") == "no data"
            tab.wait("document.getElementById('lost').hidden && text('live') !== 'no data'", 20)
        finally:
            os.kill(int(pid), SIGCONT)


def test_it_draws_nothing_while_nobody_looks(browser: Browser, calm: Master) -> None:
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with look(browser, calm) as tab:
        tab.wait("line('rps', 'ok.line').includes('L')")
        tab.ask(hide, True)
        before = tab.ask("[window.first = text('live'), line('rps', 'ok.line')]")[1]
        # What came in meanwhile is not lost.
        tab.wait("text('live') !== first && (first = text('live'))")
        tab.wait("text('live') !== first")
        assert tab.ask("line('rps', 'ok.line')") == before
        tab.ask(hide, False)
        assert tab.ask("line('rps', 'ok.line')").count("L") >= before.count("L") + 2
