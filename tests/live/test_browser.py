"""A real browser: it comes back after a reload by the code that it saw, and speaks our WebSocket.

Its page, apps/browser.html, connects by the script that stands in docs/websockets.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP
from typing import Any

import pytest

from kit.browser import Browser, Tab, by_browser
from kit.master import Master, free_port, wait_until
from kit.tls import Certificates

pytestmark = by_browser

APPS = Path(__file__).parent / "apps"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "websockets.md"


def files(version: str) -> dict[str, str]:
    """The application, its page, and the script of the document, which has one only."""
    (script,) = re.findall(r"^```js\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {
        "app.py": (APPS / "browser.py").read_text(),
        "browser.html": (APPS / "browser.html").read_text(),
        "connect.js": script,
        "version": version,
    }


def notes(m: Master, **facts: object) -> list[dict[str, Any]]:
    """What the application has noted that has these facts in it."""
    path = m.dir / "notes"
    text = path.read_text() if path.exists() else ""
    found = [json.loads(line) for line in text.splitlines()]
    return [note for note in found if facts.items() <= note.items()]


def noted(m: Master, **facts: object) -> dict[str, Any]:
    """Wait for such a note; there is no more than one."""
    (note,) = wait_until(lambda: notes(m, **facts), 10, f"a note of {facts}")
    return note


def hold(tab: Tab) -> None:
    """Let the page have its two connections."""
    tab.ask("hold()")
    tab.wait("seen.length && ids.length > 10")


def wait_for_version_2(tab: Tab, timeout: float = 10) -> tuple[list[int], list[float]]:
    """Wait for the new one on both; the codes that the WebSocket saw, and the script's pauses."""
    tab.wait("seen.at(-1)[1] === '2' && versions.at(-1) === '2'", timeout)
    seen, of_events = tab.ask("[seen, versions]")
    for versions in ([what for kind, what in seen if kind == "version"], of_events):
        assert versions == sorted(versions)
    closes = [what for kind, what in seen if kind == "close"]
    for close in closes:
        assert close["wasClean"] is (close["code"] != 1006)
    pauses = [what for kind, what in seen if kind == "pause"]
    return [close["code"] for close in closes], pauses


def check_events(tab: Tab, m: Master) -> int:
    """The page has all events of version 1 and in order: their number.

    On the connection that it still has it may come back to the old worker, for a short stream.
    """

    def streams() -> list[dict[str, Any]]:
        return sorted(notes(m, stream="1"), key=lambda note: int(note["last"]))

    def seen() -> list[str]:
        return [*tab.ask("versions.filter(version => version === '1')")]

    # What was sent has arrived, and every stream has been asked to go on from there.
    wait_until(lambda: streams() and streams()[-1]["last"] == len(seen()), 5, "the last event")
    lasts = [note["last"] for note in streams()]
    assert [note["behind"] for note in streams()] == [0, *lasts[:-1]]
    ids = tab.ask("ids")
    assert ids == list(range(1, len(ids) + 1))
    return len(seen())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests."""
    with Browser() as running:
        yield running


# -- reload and stop -------------------------------------------------------------------------------

# A stream is asked to end after 3.5 s of it, and broken off 0.9 s later.
BRIEF = ("--graceful-timeout", "6")


@pytest.mark.parametrize(("workers", "loop"), [(1, "asyncio"), (2, "uvloop")])
def test_a_page_stays_connected_over_a_reload(browser: Browser, workers: int, loop: str) -> None:
    """The WebSocket comes back by 1012 and without a pause, the EventSource without a gap."""
    env = {"GUNICORN_ASGI_LOOP": loop}
    with Master("app:app", *BRIEF, workers=workers, files=files("1"), env=env) as m:
        with browser.open(m.base_url) as tab:
            hold(tab)
            m.write("version", "2")
            m.signal(SIGHUP)
            codes, pauses = wait_for_version_2(tab)
            # Of two old workers one may leave a moment later, and send it on in the same way.
            assert codes in ([[1012]] if workers == 1 else [[1012], [1012, 1012]])
            assert pauses == []
            sent = check_events(tab, m)
            assert tab.errors() == []
        assert noted(m, stream="2")["behind"] == sent


def test_a_page_comes_back_after_a_stop(browser: Browser) -> None:
    """By 1001, and after a longer pause each time that nobody is there."""
    bind = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        with Master("app:app", *BRIEF, files=files("1"), bind=bind) as m:
            tab = stack.enter_context(browser.open(m.base_url))
            hold(tab)
            assert m.stop() == 0
            sent = check_events(tab, m)
        tab.wait("seen.filter(([kind]) => kind === 'close').length > 1")
        with Master("app:app", *BRIEF, files=files("2"), bind=bind) as m:
            codes, pauses = wait_for_version_2(tab, 60)
            ids, errors = tab.ask("ids"), tab.errors()
            stack.close()
            assert noted(m, stream="2")["behind"] == sent
    assert ids == list(range(1, len(ids) + 1))
    assert codes == [1001] + [1006] * (len(pauses) - 1)
    for failures, pause in enumerate(pauses):
        longest = min(30_000, 1000 * 2**failures)
        assert longest / 2 <= pause <= longest
    assert [each for each in errors if "ERR_CONNECTION_REFUSED" not in each] == []


# -- messages and codes ----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["ws-asyncio", "wss-uvloop"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Master]:
    """One worker, with and without TLS; the browser does not ask who has signed the certificate."""
    scheme, loop = request.param.split("-")
    tls = Certificates(tmp_path_factory.mktemp("certs")).args() if scheme == "wss" else ()
    env = {"GUNICORN_ASGI_LOOP": loop}
    with Master("app:app", *tls, files=files("1"), env=env) as master:
        assert master.base_url.startswith("https:" if tls else "http:")
        yield master
        assert "Traceback" not in master.log(), master.log()[-4000:]


@pytest.fixture
def tab(server: Master, browser: Browser) -> Iterator[Tab]:
    """The page."""
    with browser.open(server.base_url) as opened:
        yield opened


def test_compression_is_negotiated(tab: Tab) -> None:
    """Every browser offers it (RFC 7692)."""
    answer = tab.ask("negotiated()")
    assert answer["extensions"].split(";")[0] == "permessage-deflate"
    assert answer["protocol"] == ""
    assert tab.errors() == []


def test_a_subprotocol_is_chosen(tab: Tab) -> None:
    """The application takes the last of those that were offered."""
    assert tab.ask("negotiated('v1.kit', 'v2.kit')")["protocol"] == "v2.kit"
    assert tab.errors() == []


def test_a_text_comes_back_as_it_went(tab: Tab) -> None:
    """In UTF-8 it has more bytes than characters."""
    assert tab.ask("text(100_000)") == [100_000, True]
    assert tab.errors() == []


@pytest.mark.parametrize("received", ["arraybuffer", "blob"])
@pytest.mark.parametrize("sent", ["arraybuffer", "blob"])
def test_bytes_come_back_as_they_went(tab: Tab, sent: str, received: str) -> None:
    """As either of the two types that a browser has for them."""
    kind = {"arraybuffer": "ArrayBuffer", "blob": "Blob"}[received]
    answer = tab.ask("([a, b]) => bytes(a, b, 200_000)", [sent, received])
    assert answer == [kind, 200_000, True]
    assert tab.errors() == []


def test_the_page_closes(server: Master, tab: Tab) -> None:
    """Its code and reason reach the application, and come back."""
    facts = {"code": 3001, "reason": "genug für heute"}
    assert tab.ask("facts => close(facts.code, facts.reason)", facts) == {**facts, "wasClean": True}
    assert noted(server, path="/echo", **facts)
    assert tab.errors() == []


def test_the_application_closes(server: Master, tab: Tab) -> None:
    """Its code and reason reach the page."""
    facts = {"code": 4000, "reason": "schöner Gruß"}
    assert tab.ask("closed('4000 schöner Gruß')") == {**facts, "wasClean": True}
    assert noted(server, path="/close", **facts)
    assert tab.errors() == []


def test_a_refused_handshake_is_an_error_and_1006(tab: Tab) -> None:
    """More the page is not told; the console is."""
    end = {"code": 1006, "reason": "", "wasClean": False}
    assert tab.ask("refused()") == {"events": ["error"], **end}
    (error,) = tab.errors()
    assert "Unexpected response code: 403" in error
