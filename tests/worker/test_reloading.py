"""What answers while the application cannot be loaded, and which files may mend it."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gunicorn_asgi.worker.reloading import broken_app, files_of
from kit.fakes import run

if TYPE_CHECKING:
    from pathlib import Path

__all__: list[str] = []


def failure_of(module: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> BaseException:
    """What an import raises."""
    monkeypatch.syspath_prepend(path)
    for name in ("outer", "inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises((Exception, SystemExit)) as caught:
        importlib.import_module(module)
    return caught.value


def test_a_syntax_error_names_the_file_that_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no frame of the traceback: nothing of it was ever run."""
    (tmp_path / "outer.py").write_text("import inner\n")
    (tmp_path / "inner.py").write_text("def broken(:\n")
    files = files_of(failure_of("outer", tmp_path, monkeypatch))
    assert {str(tmp_path / "outer.py"), str(tmp_path / "inner.py")} <= files


def test_every_file_on_the_way_to_an_error_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mistake may be in any of them."""
    (tmp_path / "outer.py").write_text("import inner\ninner.fail()\n")
    (tmp_path / "inner.py").write_text("def fail():\n    raise LookupError\n")
    files = files_of(failure_of("outer", tmp_path, monkeypatch))
    assert {str(tmp_path / "outer.py"), str(tmp_path / "inner.py")} <= files


def test_nothing_is_named_that_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "<frozen importlib._bootstrap>" and "<string>" cannot be watched."""
    (tmp_path / "outer.py").write_text("exec('1/0')\n")
    files = files_of(failure_of("outer", tmp_path, monkeypatch))
    assert str(tmp_path / "outer.py") in files
    assert not [name for name in files if name.startswith("<")]
    error = SyntaxError("invalid syntax", ("<string>", 1, 1, "", 1, 1))
    assert files_of(error) == set()
    assert files_of(SyntaxError("without a place")) == set()


def call(scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What the app sends, when it gets these messages and no others."""
    sent = []
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    run(broken_app(scope, receive, send))
    assert not left
    return sent


def test_a_request_is_answered_with_500_and_without_our_internals() -> None:
    """Unread. The traceback stays in the log; no cache keeps the answer."""
    start, body = call({"type": "http"})
    assert start["type"] == "http.response.start"
    assert start["status"] == 500
    assert (b"cache-control", b"no-store") in start["headers"]
    assert body["type"] == "http.response.body"
    assert b"Traceback" not in body["body"]
    assert b"error log" in body["body"]


def test_the_lifespan_goes_through() -> None:
    """With asgi_lifespan "on" a refusal would stop the server, and nobody could mend the file."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = call({"type": "lifespan"}, *messages)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_a_websocket_is_not_supported() -> None:
    """ASGI: an application that does not know a scope's type must raise."""
    with pytest.raises(RuntimeError, match="could not be loaded"):
        call({"type": "websocket"})
