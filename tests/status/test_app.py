"""status/app.py: paths, methods, who gets what."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from berths import Answer, ask, http_scope, moored, new_berth
from boards import new_board, new_worker, owner
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.status import app
from gunicorn_asgi.worker.command.snapshot import snapshot
from kit.fakes import FakeLog

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from gunicorn_asgi.worker.scoreboard import Scoreboard

__all__: list[str] = []

OTHER = ("203.0.113.9", 50000)
PATHS = ("/", "/status.json", "/events", "/metrics", "/live", "/ready")
TEXT = "text/plain; charset=utf-8"


@pytest.fixture
def board() -> Scoreboard:
    """Of a worker that serves a request."""
    found = new_board()
    found.begin_generation(1)
    new_worker(found).open_requests().begin(owner("/report?year=2026"))
    return found


@pytest.fixture
def log() -> FakeLog:
    """Of the worker."""
    return FakeLog()


@pytest.fixture(autouse=True)
def _berth(board: Scoreboard, log: FakeLog) -> Iterator[None]:
    with moored(new_berth(board, log=log)):
        yield


def get(path: str, *headers: tuple[str, str], **scope: Any) -> Answer:
    return asyncio.run(ask(app, http_scope(path, *headers, **scope)))


# -- what is there ---------------------------------------------------------------------------------


def test_the_page_asks_nobody_else_for_anything() -> None:
    """And is framed by nobody."""
    answer = get("/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_json_is_a_snapshot_of_the_board(board: Scoreboard) -> None:
    answer = get("/status.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told, expected = json.loads(answer.body), json.loads(json.dumps(snapshot(board)))
    for found in (told, expected):
        assert found.pop("time") > 0
        assert found["open_requests"][0].pop("age_s") >= 0
        assert found.pop("since_s") >= 0
        assert found["workers"][0].pop("age_s") >= 0
    assert told == expected


def test_metrics_are_negotiated() -> None:
    assert get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
    wanted = get("/metrics", ("accept", "application/openmetrics-text; version=1.0.0"))
    assert wanted.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert wanted.body.endswith(b"# EOF\n")


def test_without_the_library_metrics_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else works."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = get("/metrics")
    assert (answer.status, answer.headers["content-type"]) == (501, TEXT)
    assert b"pip install 'gunicorn_asgi[metrics]'" in answer.body
    assert get("/status.json").status == get("/").status == 200


@pytest.mark.parametrize("path", ["/nothing", "/status.json/", "/../etc/passwd", "/page.html", "*"])
def test_nothing_else_is_there(path: str) -> None:
    assert (get(path).status, get(path).body) == (404, b"not found\n")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_of_this_moment_and_of_this_type(path: str) -> None:
    """HEAD gets the same head; events without a stream."""
    answer = get(path, method="HEAD")
    assert answer.complete
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    if path == "/events":
        assert (answer.headers["content-type"], answer.body) == ("text/event-stream", b"")
        assert answer.headers["x-accel-buffering"] == "no"
    else:
        assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_done_but_look(path: str, method: str) -> None:
    """RFC 9110, 15.5.6: with Allow."""
    answer = get(path, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


# -- health ----------------------------------------------------------------------------------------


def test_who_answers_is_alive() -> None:
    answer = get("/live")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, TEXT, b"live\n")


@pytest.mark.parametrize(
    ("states", "stopping", "ready"),
    [
        ((WorkerState.READY,), False, True),
        ((WorkerState.READY,), None, True),  # /proc does not show it
        ((WorkerState.HOLDING, WorkerState.BOOTING), False, True),
        ((WorkerState.DRAINING, WorkerState.READY), False, True),
        ((WorkerState.DRAINING,), False, False),
        ((WorkerState.BOOTING,), False, False),
        ((WorkerState.FAILED, WorkerState.EXITING), False, False),
        ((), False, False),
        # The master has closed its listeners; whoever accepts still will not for long.
        ((WorkerState.READY,), True, False),
        ((WorkerState.DRAINING, WorkerState.READY), True, False),
    ],
)
def test_the_server_is_ready_as_long_as_it_takes_connections_and_will_go_on(
    states: tuple[WorkerState, ...], stopping: bool | None, ready: bool
) -> None:
    """Not this worker alone: one that drains after a reload has successors."""
    board = new_board()
    board.begin_generation(1)
    for state in states:
        new_worker(board, state)
    with moored(new_berth(board, stopping=lambda: stopping)):
        answer = get("/ready")
    expected = (200, b"ready\n") if ready else (503, b"unready\n")
    assert (answer.status, answer.body) == expected


# -- who -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PATHS, "/nothing", ""])
def test_others_learn_nothing_but_health(path: str, log: FakeLog) -> None:
    """Load balancers ask from elsewhere."""
    answer = get(path, client=OTHER)
    if path in ("/live", "/ready"):
        assert answer.status == 200
        assert not log.lines()
    else:
        assert (answer.status, answer.body) == (403, b"forbidden\n")
        assert log.lines("warning") == [
            "Status page refused to 203.0.113.9: it is not in asgi_status_allow"
        ]


def test_a_flood_of_refusals_is_no_flood_of_lines(log: FakeLog) -> None:
    for _ in range(500):
        assert get("/metrics", client=OTHER).status == 403
    assert 1 <= len(log.lines("warning")) <= 50


def test_under_another_server_there_is_nothing_to_show() -> None:
    """Live it is; ready it cannot say."""
    with moored(None):
        answers = {path: get(path) for path in PATHS}
    assert {path: answer.status for path, answer in answers.items()} == {
        **dict.fromkeys(PATHS, 503),
        "/live": 200,
    }
    assert answers["/metrics"].body == b"no gunicorn_asgi worker runs this application\n"


# -- where -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/live", ""),
        ("/ops/live", "/ops"),
        ("/a/ops/live", "/a/ops"),
        ("/ops/live", "/ops/"),
        # Frameworks that take the mount off; proxies that say where they have mounted us.
        ("/live", "/ops"),
        ("/live", "/live"),
    ],
)
def test_it_may_be_mounted_anywhere(path: str, root_path: str) -> None:
    """ASGI, HTTP connection scope: path includes root_path."""
    answer = get(path, root_path=root_path)
    expected = 307 if path == root_path else 200
    assert answer.status == expected


@pytest.mark.parametrize(
    ("path", "location"), [("/ops", "./ops/"), ("/a/b c%", "./b%20c%25/"), ("/a//b", "./b/")]
)
def test_the_place_itself_leads_to_the_page(path: str, location: str) -> None:
    """Its links are relative: without the slash they would lead beside it."""
    answer = get(path, root_path=path)
    assert (answer.status, answer.headers["location"]) == (307, location)


def frameworks() -> list[Any]:
    fast = FastAPI()
    fast.mount("/ops", app)
    return [Starlette(routes=[Mount("/ops", app)]), fast]


@pytest.mark.parametrize("outer", frameworks(), ids=["starlette", "fastapi"])
@pytest.mark.parametrize("root_path", ["", "/front"])
def test_frameworks_mount_it(outer: Any, root_path: str) -> None:  # noqa: ANN401
    """Their Mount, with and without a proxy's prefix."""
    for path in ("/live", "/", "/metrics", "/status.json"):
        scope = http_scope(f"{root_path}/ops{path}", root_path=root_path)
        scope = {**scope, "query_string": b"", "raw_path": scope["path"].encode()}
        answer = asyncio.run(ask(outer, scope))
        assert answer.status == 200, path


# -- other scopes ----------------------------------------------------------------------------------


def exchange(scope_type: str, *messages: str) -> list[MutableMapping[str, Any]]:
    """What it sends for these messages."""
    sent: list[MutableMapping[str, Any]] = []
    left = [{"type": f"{scope_type}.{each}"} for each in messages]

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": scope_type}, receive, send))
    return sent


def test_websockets_are_refused() -> None:
    """ASGI: a close before the accept is a 403."""
    assert exchange("websocket", "connect") == [{"type": "websocket.close"}]


def test_it_has_a_lifespan_of_its_own() -> None:
    """``gunicorn -k gunicorn_asgi.Worker gunicorn_asgi.status:app``."""
    sent = exchange("lifespan", "startup", "shutdown")
    assert [each["type"] for each in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_what_it_does_not_know_it_refuses() -> None:
    """ASGI: an application must raise for a scope that it does not know."""
    with pytest.raises(ValueError, match="'nothing'"):
        exchange("nothing")


def test_asgi_status_allow_is_read_with_each_request(board: Scoreboard) -> None:
    """The worker's, whoever has imported the application before."""
    berth = new_berth(board, allow=("203.0.113.0/24",))
    with moored(berth):
        assert get("/status.json", client=OTHER).status == 200
        assert get("/status.json").status == 403
    with moored(replace(berth, allowed=new_berth().allowed)):
        assert get("/status.json", client=OTHER).status == 403
