"""Hooks and access log: called with Gunicorn's shapes where wanted, and not there where not."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from accesslogs import Turns, leave_gunicorns_alone
from gunicorn_asgi.protocol.accesslog import AccessRecord, WebSocketFigures
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.worker import jsonlog
from gunicorn_asgi.worker.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gunicorn_asgi.aio.state import ServerState
    from gunicorn_asgi.worker.worker import Worker

__all__: list[str] = []

HEAD = RequestHead("GET", b"/a%20b?q=1", "1.1", [(b"host", b"h")], True)
SCOPE = {
    "type": "http",
    "path": "/a b",
    "query_string": b"q=1",
    "scheme": "http",
    "client": ("192.0.2.1", 4711),
    "server": ("192.0.2.2", 80),
}
RECORD = AccessRecord(HEAD, SCOPE, 404, [(b"x-a", b"1")], 12, 0.25)


FIGURES = WebSocketFigures()
FIGURES.received, FIGURES.sent, FIGURES.bytes_received = 3, 2, 40
# The two records of a WebSocket.
OPENING = AccessRecord(HEAD, SCOPE, 101, [], 0, 0.001)
END = AccessRecord(HEAD, SCOPE, 1001, [], 30, 7.5, FIGURES)


class Installed:
    """Hooks installed for a worker with that configuration."""

    def __init__(self, log_class: type[Any] = Logger, /, **values: object) -> None:
        self.cfg = Config()
        for name, value in values.items():
            self.cfg.set(name, value)
        self.worker = SimpleNamespace(cfg=self.cfg, log=log_class(self.cfg))
        self.turns = Turns()
        self.state = SimpleNamespace(on_request=None, on_complete=None, loop=self.turns, requests=7)
        leave_gunicorns_alone()
        Hooks(cast("Worker", self.worker), cast("ServerState", self.state), 3).install()

    @property
    def on_request(self) -> Callable[[RequestHead, dict[str, Any]], None]:
        """As the connections see it."""
        hook: Callable[[RequestHead, dict[str, Any]], None] = self.state.on_request
        return hook

    @property
    def on_complete(self) -> Callable[[AccessRecord], None]:
        """As the connections see it."""
        hook: Callable[[AccessRecord], None] = self.state.on_complete
        return hook


class Ear(Logger):  # type: ignore[misc]  # Gunicorn is not typed
    """A logger class of the user's, which hears what is given to access()."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.heard: list[tuple[Any, ...]] = []

    def access(self, *args: object) -> None:
        """Instead of writing a line."""
        self.heard.append(args)


# -- nothing for what nobody wants -----------------------------------------------------------------


def test_without_hooks_and_access_log_nothing_is_in_the_request_path() -> None:
    """A request then costs nothing here."""
    installed = Installed()
    assert installed.state.on_request is None
    assert installed.state.on_complete is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accesslog", "access.log"),
        ("logconfig_dict", {"version": 1, "disable_existing_loggers": False}),
        ("logconfig_json", "log.json"),
        ("logconfig", "log.ini"),
        ("syslog", True),
    ],
)
def test_each_setting_that_makes_access_write_brings_the_record(
    name: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """glogging.py, Logger.access: it returns at once unless one of these is set."""
    monkeypatch.setattr(Logger, "setup", lambda _self, _cfg: None)
    if name == "accesslog":
        value = str(tmp_path / str(value))
    installed = Installed(**{name: value})
    assert installed.state.on_complete is not None
    assert installed.state.on_request is None


def test_syslog_without_the_access_log_brings_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """disable_redirect_access_to_syslog."""
    monkeypatch.setattr(Logger, "setup", lambda _self, _cfg: None)
    installed = Installed(syslog=True, disable_redirect_access_to_syslog=True)
    assert installed.state.on_complete is None


def test_gunicorns_own_logger_agrees_when_it_writes(tmp_path: Path) -> None:
    """The same line, whoever asks: with the file one, without none."""
    path = tmp_path / "access.log"
    installed = Installed(accesslog=str(path), access_log_format="%(h)s %(r)s %(s)s %(B)s %(M)s")
    installed.on_complete(RECORD)
    installed.turns.end()
    assert path.read_text() == "192.0.2.1 GET /a%20b?q=1 HTTP/1.1 404 12 250\n"
    for handler in installed.worker.log.access_log.handlers[:]:
        installed.worker.log.access_log.removeHandler(handler)
        handler.close()


# -- the access log --------------------------------------------------------------------------------


def test_a_logger_class_of_the_users_is_called_whatever_is_set() -> None:
    """It may write elsewhere; statsd is such a class too."""
    installed = Installed(Ear)
    installed.on_complete(RECORD)
    ((response, request, environ, elapsed),) = installed.worker.log.heard
    assert (response.status, response.sent) == ("404 Not Found", 12)
    assert (request.method, request.path, request.query) == ("GET", "/a b", "q=1")
    assert environ["RAW_URI"] == "/a%20b?q=1"
    assert elapsed.total_seconds() == 0.25


def test_a_websocket_is_told_at_its_beginning_and_at_its_end() -> None:
    """101 and the close code; what went through it is in the environ of the second."""
    installed = Installed(Ear)
    installed.on_complete(OPENING)
    installed.on_complete(END)
    first, second = installed.worker.log.heard
    assert first[0].status == "101 Switching Protocols"
    assert not {"WS_RECEIVED", "WS_SENT", "WS_BYTES_RECEIVED"} & set(first[2])
    assert (second[0].status, second[0].sent) == ("1001", 30)
    told = [second[2][name] for name in ("WS_RECEIVED", "WS_SENT", "WS_BYTES_RECEIVED")]
    assert told == ["3", "2", "40"]
    assert second[3].total_seconds() == 7.5


def test_a_logger_class_that_raises_costs_a_line_and_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the user's code; the response is already out."""
    told: list[str] = []
    monkeypatch.setattr(Logger, "exception", lambda _self, text: told.append(text))
    monkeypatch.setattr(Ear, "access", lambda *_args: 1 / 0)
    Installed(Ear).on_complete(RECORD)
    assert told == ["Exception in the access log"]


def test_statsd_counts_and_times_a_websocket_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a request that was answered with 101; hours are no duration. Its line has both."""
    told: list[str] = []
    monkeypatch.setattr(Statsd, "_sock_send", lambda _self, line: told.append(line.split("|")[0]))
    path = tmp_path / "access.log"
    installed = Installed(
        Statsd, statsd_host="127.0.0.1:9", accesslog=str(path), access_log_format="%(s)s %(B)s"
    )
    installed.on_complete(OPENING)
    installed.on_complete(END)
    assert told == [
        "gunicorn.request.duration:1.0",
        "gunicorn.requests:1",
        "gunicorn.request.status.101:1",
    ]
    assert path.read_text() == "101 0\n1001 30\n"
    for handler in installed.worker.log.access_log.handlers[:]:
        installed.worker.log.access_log.removeHandler(handler)
        handler.close()
    installed.worker.log.sock.close()


@pytest.mark.parametrize("hook", [False, True])
def test_lines_of_both_ways_stand_in_the_order_of_the_requests(tmp_path: Path, hook: bool) -> None:
    """A handler of the application's comes and goes: from the short way to the long and back."""
    path = tmp_path / "access.log"
    hooked: list[int] = []
    more = {"post_request": lambda _worker, _req, _env, resp: hooked.append(resp.status_code)}
    installed = Installed(
        accesslog=str(path), access_log_format="%(s)s %(r)s", **(more if hook else {})
    )
    heard: list[int] = []

    class Own(logging.Handler):
        """Hears."""

        def emit(self, record: logging.LogRecord) -> None:
            """The status."""
            heard.append(int(record.getMessage().partition(" ")[0]))

    own = Own()
    channel = installed.worker.log.access_log
    for number in range(200, 230):
        if number == 212:  # in the middle of a turn
            channel.addHandler(own)
        if number == 222:
            channel.removeHandler(own)
        head = RequestHead("GET", b"/%d" % number, "1.1", [], True)
        installed.on_complete(AccessRecord(head, SCOPE, number, [], 0, 0.0))
        if number % 5 == 4:
            installed.turns.end()
    assert path.read_text() == "".join(
        f"{number} GET /{number} HTTP/1.1\n" for number in range(200, 230)
    )
    assert heard == list(range(210, 222))
    assert hooked == (list(range(200, 230)) if hook else [])
    for handler in channel.handlers[:]:
        channel.removeHandler(handler)
        handler.close()


def test_the_format_can_name_what_gunicorn_does_not_know(tmp_path: Path) -> None:
    """Whatever class the logger has: see test_atoms.py."""
    path = tmp_path / "access.log"
    installed = Installed(
        accesslog=str(path), access_log_format="%(bytes_out)s %(generation)s %(ttfb)s %(nobody)s"
    )
    installed.on_complete(RECORD)
    installed.turns.end()
    assert path.read_text() == "12 3 - -\n"
    for handler in installed.worker.log.access_log.handlers[:]:
        installed.worker.log.access_log.removeHandler(handler)
        handler.close()


# -- pre_request -----------------------------------------------------------------------------------


def test_pre_request_gets_the_worker_and_the_request() -> None:
    """In the shape of gunicorn.http.message.Request."""
    seen: list[tuple[Any, Any]] = []

    def hook(worker: object, req: object) -> None:
        seen.append((worker, req))

    installed = Installed(pre_request=hook)
    assert installed.state.on_complete is None
    installed.on_request(HEAD, SCOPE)
    ((worker, req),) = seen
    assert worker is installed.worker
    assert (req.method, req.uri, req.version) == ("GET", "/a%20b?q=1", (1, 1))
    assert req.headers == [("HOST", "h")]


def test_where_json_is_written_each_request_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its task logs has its id then; without a hook of the user's too."""
    noted: list[str] = []
    monkeypatch.setattr(jsonlog, "in_use", lambda: True)
    monkeypatch.setattr(jsonlog, "note_request", noted.append)
    head = RequestHead("GET", b"/", "1.1", [], True)
    head.request_id = "given"
    Installed().on_request(head, SCOPE)
    assert noted == ["given"]


def test_an_exception_of_pre_request_is_not_swallowed() -> None:
    """The cycle answers it with 500, as Gunicorn's workers do."""

    def hook(worker: object, req: object) -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        Installed(pre_request=hook).on_request(HEAD, SCOPE)


# -- post_request ----------------------------------------------------------------------------------


def test_post_request_gets_worker_request_environ_and_response() -> None:
    """All four; Gunicorn itself shortens it for hooks of two or three arguments."""
    seen: list[tuple[Any, ...]] = []

    def hook(worker: object, req: object, environ: object, resp: object) -> None:
        seen.append((worker, req, environ, resp))

    installed = Installed(post_request=hook)
    assert installed.state.on_request is None
    installed.on_complete(RECORD)
    ((worker, req, environ, resp),) = seen
    assert worker is installed.worker
    assert worker.nr == installed.state.requests
    assert req.uri == "/a%20b?q=1"
    assert environ["PATH_INFO"] == "/a b"
    assert (resp.status_code, resp.response_length) == (404, 12)


@pytest.mark.parametrize("log_class", [Logger, Ear], ids=["without a log", "with a log"])
def test_post_request_runs_once_for_a_websocket(log_class: type[Any]) -> None:
    """At its end, with its close code: who counts open ones by both hooks comes out even."""
    seen: list[tuple[Any, Any]] = []

    def hook(worker: object, req: object, environ: Any, resp: Any) -> None:  # noqa: ANN401
        seen.append((environ["WS_SENT"], resp.status_code))

    installed = Installed(log_class, post_request=hook)
    installed.on_complete(OPENING)
    assert seen == []
    installed.on_complete(END)
    assert seen == [("2", 1001)]


@pytest.mark.parametrize("count", [2, 3])
def test_a_short_post_request_works(count: int) -> None:
    """config.py, validate_post_request."""
    seen: list[int] = []
    two = lambda worker, req: seen.append(2)  # noqa: E731 - an arity is all it has
    three = lambda worker, req, environ: seen.append(3)  # noqa: E731
    Installed(post_request={2: two, 3: three}[count]).on_complete(RECORD)
    assert seen == [count]


def test_an_exception_of_post_request_is_logged_and_goes_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The response is already out; the access log line too."""
    told: list[str] = []
    monkeypatch.setattr(Logger, "exception", lambda _self, text: told.append(text))

    def hook(worker: object, req: object, environ: object, resp: object) -> None:
        raise LookupError("no")

    installed = Installed(Ear, post_request=hook)
    installed.on_complete(RECORD)
    assert told == ["Exception in post_request hook"]
    assert len(installed.worker.log.heard) == 1
