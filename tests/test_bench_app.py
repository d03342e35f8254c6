"""bench/app.py: every server is asked for the same work, and it is what the tables say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from benches import imported

__all__: list[str] = []

App = Callable[..., Coroutine[Any, Any, None]]
MB = 1024 * 1024


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    """The application."""
    with imported("app") as modules:
        yield modules.app.app


def ask(app: App, path: str, *body: bytes, **scope: object) -> tuple[dict[bytes, bytes], list[Any]]:
    """The fields of its answer, and the messages behind them."""
    events = [
        {"type": "http.request", "body": piece, "more_body": number < len(body)}
        for number, piece in enumerate(body, 1)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "path": path, **scope}, receive, send))
    assert sent[0]["type"] == "http.response.start"
    assert sent[0]["status"] == 200
    assert not events
    return dict(sent[0]["headers"]), sent[1:]


@pytest.mark.parametrize(
    ("path", "body", "messages", "length"),
    [
        ("/", (), 1, 13),
        ("/json", (), 1, 980),
        ("/echo", (b"x" * 1000, b"y" * 24), 1, 1024),
        ("/1m", (), 1, MB),
        ("/10m", (), 160, 10 * MB),
    ],
)
def test_the_answer_has_the_length_that_it_says(
    app: App, path: str, body: tuple[bytes, ...], messages: int, length: int
) -> None:
    """In so many messages, of which only the last is the last."""
    fields, sent = ask(app, path, *body)
    assert [each["type"] for each in sent] == ["http.response.body"] * messages
    assert sum(len(each["body"]) for each in sent) == length == int(fields[b"content-length"])
    assert [each.get("more_body", False) for each in sent] == [True] * (messages - 1) + [False]


def test_an_upload_is_answered_with_its_length(app: App) -> None:
    """Read to its end, whatever the pieces."""
    _, (answer,) = ask(app, "/count", b"x" * 65536, b"", b"y" * 3)
    assert answer["body"] == b"65539"


def test_a_stream_does_not_say_how_long_it_is(app: App) -> None:
    """A hundred small messages, and an empty one that is the last."""
    fields, sent = ask(app, "/stream")
    assert b"content-length" not in fields
    assert len([each for each in sent if each["body"] and each["more_body"]]) == 100
    assert sent[-1] == {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize(
    ("offered", "kind"),
    [
        (["http.response.zerocopysend", "http.response.pathsend"], "pathsend"),
        (["http.response.zerocopysend"], "zerocopysend"),
        (["tls"], "body"),
    ],
    ids=["pathsend", "zerocopysend", "neither"],
)
def test_a_file_goes_by_the_best_that_is_offered(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offered: list[str], kind: str
) -> None:
    """Else it is read and sent."""
    monkeypatch.setenv("BENCH_FOLDER", str(tmp_path))
    with imported("app") as modules:
        fields, sent = ask(modules.app.app, "/file", extensions={name: {} for name in offered})
    assert int(fields[b"content-length"]) == MB
    assert {each["type"] for each in sent} == {f"http.response.{kind}"}
    if kind == "body":
        assert b"".join(each["body"] for each in sent) == (tmp_path / "1m").read_bytes()
        assert [each["more_body"] for each in sent] == [True] * 15 + [False]
    elif kind == "pathsend":
        assert Path(sent[0]["path"]).stat().st_size == MB
    else:
        assert sent[0]["file"].name == str(tmp_path / "1m")
