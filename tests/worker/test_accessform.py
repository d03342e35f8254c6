"""access_log_format, compiled: the same line as Gunicorn's own logger makes, to the last byte."""

from __future__ import annotations

import base64
import io
import time
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from accesslogs import access_logger
from gunicorn_asgi.protocol.accesslog import (
    FIELDS,
    AccessRecord,
    RequestView,
    ResponseView,
    WebSocketFigures,
    environ_of,
)
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.worker.accessform import compiled
from gunicorn_asgi.worker.atoms import add_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__: list[str] = []

GENERATION = 3


def record(
    fields: Sequence[tuple[bytes, bytes]] = (),
    *,
    method: str = "GET",
    target: bytes = b"/a%20b?q=1",
    version: str = "1.1",
    scope: dict[str, Any] | None = None,
    status: int = 200,
    duration: float = 0.25,
    figures: WebSocketFigures | None = None,
    answer: Sequence[tuple[bytes, bytes]] = (),
) -> AccessRecord:
    """A finished exchange."""
    head = RequestHead(method, target, version, list(fields), True)
    head.request_id = "given"
    if scope is None:
        scope = {
            "type": "http",
            "path": "/a b",
            "root_path": "",
            "query_string": b"q=1",
            "scheme": "http",
            "client": ("192.0.2.1", 4711),
            "server": ("192.0.2.2", 80),
        }
    return AccessRecord(head, scope, status, list(answer), 1234, duration, figures, 7, 0.125, 2)


def basic(raw: bytes) -> bytes:
    """An Authorization field."""
    return b"Basic " + base64.b64encode(raw)


def ended() -> WebSocketFigures:
    """What went through a WebSocket."""
    figures = WebSocketFigures()
    figures.received, figures.sent, figures.bytes_received = 5, 4, 300
    return figures


BROWSER = [
    (b"host", b"example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"),
    (b"referer", b"http://elsewhere/"),
    (b"content-type", b"text/plain"),
    (b"content-length", b"3"),
    (b"x-in", b"in"),
]
NASTY = b'a"b\\c\x1b[31m\x9b\x85\xe9\x7f\tx'
SCOPE = {"path": "/", "query_string": b"", "client": ("192.0.2.1", 1), "server": ("h", 80)}
TLS = {"tls": {"tls_version": 0x0304}}

RECORDS: dict[str, AccessRecord] = {
    "a browser's": record(BROWSER, answer=[(b"Content-Type", b"text/html"), (b"x-out", b"7")]),
    "without fields": record(),
    "nasty values": record(
        [(b"user-agent", NASTY), (b"referer", NASTY), (b"x-in", NASTY), (b"content-type", NASTY)],
        method='-"',
        target=b'/"\x00\xff',
        scope={**SCOPE, "path": '/"\x1b\n\u2028é日', "query_string": b'"\x9b', "root_path": '/"'},
        answer=[(b"X-Out", NASTY)],
    ),
    "twice the same field": record(
        [
            *((b"user-agent", b"one"), (b"user-agent", b"two"), (b"user_agent", b"three")),
            *((b"x-in", b"one"), (b"x_in", b"two"), (b"referer", b"one"), (b"referer", b"")),
            *((b"content-type", b"one"), (b"content-type", b"two")),
        ],
        answer=[(b"x-out", b"one"), (b"X-OUT", b"two")],
    ),
    "empty fields": record(
        [(b"user-agent", b""), (b"referer", b""), (b"authorization", b""), (b"x-in", b"")]
    ),
    "long fields": record([(b"user-agent", b"a" * 300), (b"referer", b'"' * 300)]),
    "a user": record([(b"authorization", basic(b"ada:secret"))]),
    "a nasty user": record([(b"authorization", basic('a"d\x1b\né'.encode() + b":secret"))]),
    "two users": record([(b"authorization", b""), (b"authorization", basic(b"ada:secret"))]),
    "no user": record([(b"authorization", b"Basic YWJ")]),
    "a bearer": record([(b"authorization", b"Bearer abc")]),
    "HTTP/1.0": record(version="1.0"),
    "499": record(status=499, duration=1e-7),
    "days": record(duration=2 * 86400 + 3.25, status=599),
    "no time": record(duration=0.0),
    "refused": record(method="-", target=b"\x16\x03\x01", scope={}, status=400, duration=0.0),
    "refused with a peer": record(scope={"client": ("192.0.2.9", 5)}, status=414),
    "a unix socket": record(scope={**SCOPE, "client": None, "server": ("/run/a.sock", None)}),
    "IPv6": record(scope={**SCOPE, "client": ("2001:db8::1", 1), "server": None}),
    "TLS": record(scope={**SCOPE, "scheme": "https", "extensions": TLS}),
    "a WebSocket opens": record(status=101, scope={**SCOPE, "scheme": "ws"}),
    "a WebSocket ends": record(status=1001, figures=ended(), duration=7.5),
    "an odd scope": record(scope={**SCOPE, "path": None, "client": (b"raw", "x")}),
}

ATOMS = "h l u t r s m U q H b B f a T D M L p".split()
NAMED = (
    *("{x-in}i", "{X-In}I", "{user-agent}i", "{Referer}i", "{none}i", "{}i"),
    *("{x-out}o", "{X-OUT}o", "{content-type}O", "{none}o"),
    *("{http_user_agent}e", "{HTTP_X_IN}e", "{HTTP_REFERER}e", "{http_authorization}e"),
    *("{content_type}e", "{CONTENT_LENGTH}e", "{http_content_type}e", "{http_none}e", "{http_}e"),
    *("{request_method}e", "{RAW_URI}e", "{path_info}e", "{script_name}e", "{query_string}e"),
    *("{server_protocol}e", "{server_name}e", "{server_port}e", "{remote_addr}e"),
    *("{remote_port}e", "{request_id}e", "{wsgi.url_scheme}e", "{WSGI.URL_SCHEME}e"),
    *("{ws_received}e", "{ws_sent}e", "{ws_bytes_received}e", "{none}e", "{e", "{x}z", "{}", "{"),
)
UNKNOWN = ("x", "", "hh", "H h", "status", "%", "ttfb ")
FORMS = [
    Config().access_log_format,
    '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s',
    '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s "%({X-In}i)s"',
    '{"ip": "%(h)s", "status": %(s)s, "took": %(L)s, "agent": "%(a)s"}',
    *(f"<%({name})s>" for name in (*ATOMS, *FIELDS, "generation", *NAMED, *UNKNOWN)),
    # flags, width and precision; a sign; a conversion for numbers, and one for everything
    *("<%(D)12d>", "<%(D)-12d>", "<%(B)+06i>", "<%(T)x>", "<%(M)e>", "<%(generation)#o>"),
    *("<%(h)20s>", "<%(h)-20s>", "<%(h).3s>", "<%(s)5s>", "<%(b)-9.2s>", "<%(s)r>", "<%(b)a>"),
    *("<%(a)r>", "<%(a)a>", "<%(U)r>", "<%(L)s>", "<%(bytes_in)05d>", "<%(B)f>", "<%(T)c>"),
    *("100%% of %(r)s%%", "%%%%", "", "only text", "%(h)s\n%(s)s", "ü %(s)s", "%%(h)s", "{0} {x}"),
]


class Both:
    """A line, both ways."""

    def __init__(self, log: Logger, written: io.StringIO) -> None:
        """``log`` writes there."""
        self.log = log
        self._written = written

    def ours(self, form: str, exchange: AccessRecord) -> str:
        """By the compiled form, and a line end."""
        line = compiled(form, self.log, GENERATION)
        assert line is not None, form
        return line(exchange) + "\n"

    def gunicorns(self, form: str, exchange: AccessRecord) -> str:
        """By Gunicorn's own logger, and logging."""
        log = self.log
        log.cfg.set("access_log_format", form)
        add_fields(log, GENERATION)
        log.access(
            ResponseView(exchange),
            RequestView(exchange.head, exchange.scope),
            environ_of(exchange.head, exchange.scope, exchange.figures),
            exchange.elapsed,
        )
        vars(log).pop("atoms", None)  # what add_fields has put there
        line = self._written.getvalue()
        self._written.seek(0)
        self._written.truncate()
        return line


@pytest.fixture(autouse=True)
def one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways are asked one after the other, and a second may begin between them."""
    monkeypatch.setattr(Logger, "now", lambda _self: "[21/Nov/2026:21:45:00 +0000]")


@pytest.fixture
def both() -> Iterator[Both]:
    """A logger of Gunicorn's."""
    written = io.StringIO()
    with access_logger("-", loglevel="debug") as log:
        (handler,) = log.access_log.handlers
        handler.setStream(written)
        yield Both(log, written)


@pytest.mark.parametrize("name", RECORDS)
def test_a_line_is_gunicorns(both: Both, name: str) -> None:
    """Whatever is named, and whatever came in."""
    exchange = RECORDS[name]
    for form in FORMS:
        assert both.ours(form, exchange) == both.gunicorns(form, exchange), form


def test_the_table_of_records_tells_something() -> None:
    """Two empty lines are equal too."""
    with access_logger("-") as log:
        line = compiled('%(h)s %(u)s "%(r)s" %(s)s "%(a)s" %({x-out}o)s', log, GENERATION)
        assert line is not None
        assert line(RECORDS["a browser's"]) == (
            '192.0.2.1 - "GET /a%20b?q=1 HTTP/1.1" 200 "Mozilla/5.0 (X11; Linux x86_64)" 7'
        )
        assert ' ada "GET' in line(RECORDS["a user"])


@pytest.mark.parametrize("form", ["%(s)d", "%(h)d", "%(L)f", "%(ttfb)d", "%(ws_sent)d", "%(h)c"])
def test_what_gunicorns_logger_cannot_format_ours_does_not_either(
    both: Both, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record goes the long way then, where logging complains on stderr."""
    with pytest.raises((TypeError, ValueError)):
        both.ours(form, record())
    assert both.gunicorns(form, record()) == ""
    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.mark.parametrize(
    "form",
    [
        *("%s", "%h", "%(h)", "%(h", "100%", "% d", "%(h)*d", "%(h).*s", "%(h)hd", "%((h))s"),
        *("%(h)%", "%(h)y", "%({é}i)s", "%({HTTP_A_B_C_D_E_F_G_H_I}e)s"),
    ],
)
def test_what_is_better_left_to_gunicorn_is_left_to_it(both: Both, form: str) -> None:
    """A format that is none, and what nobody writes."""
    assert compiled(form, both.log, GENERATION) is None


def test_a_variable_of_eight_words_is_found_however_it_is_spelled(both: Both) -> None:
    """As a proxy with underscores may have sent it."""
    form = "%({http_a_b_c_d_e_f_g_h}e)s"
    fields = [(b"a-b-c-d-e-f-g-h", b"one"), (b"a_b-c_d-e_f-g_h", b"two"), (b"a-b", b"no")]
    exchange = record(fields)
    assert both.ours(form, exchange) == both.gunicorns(form, exchange) == "one,two\n"


def test_only_what_is_named_is_made(both: Both) -> None:
    """A line of the status alone looks at nothing else."""
    exchange = record()
    exchange.scope = None  # type: ignore[assignment]
    exchange.headers = None  # type: ignore[assignment]
    assert both.ours("%(s)s", exchange) == "200\n"


@pytest.mark.parametrize(
    "name", ["{x'; raise SystemExit #}i", '"""', "{head.method}e", "{'+exit+'}o", "\\", "\n"]
)
def test_a_format_is_not_run(both: Both, name: str) -> None:
    """The function has a source, and nothing of the format is in it."""
    form = f"{{head}} \"' %({name})s \\ {{0!r}}"
    assert both.ours(form, record()) == both.gunicorns(form, record())


def test_the_time_is_asked_once_a_second(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again when the clock was set back."""
    told: list[float] = []
    seconds = [0.0]
    monkeypatch.setattr(time, "time", lambda: seconds[0])

    def now(_self: object) -> str:
        told.append(seconds[0])
        return f"[{seconds[0]:.2f}]"

    monkeypatch.setattr(Logger, "now", now)
    line = compiled("%(t)s", both.log, GENERATION)
    assert line is not None
    shown = []
    for seconds[0] in (1000.25, 1000.5, 1000.99, 1001.0, 1001.5, 1003.5, 990.0, 990.5):
        shown.append(line(RECORDS["without fields"]))
    assert told == [1000.25, 1001.0, 1003.5, 990.0]
    assert shown[:4] == ["[1000.25]"] * 3 + ["[1001.00]"]


def test_a_user_that_cannot_be_read_is_told_as_gunicorn_tells_it(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At debug level, in the error log."""
    told: list[str] = []
    monkeypatch.setattr(Logger, "debug", lambda _self, text, *_args: told.append(text))
    assert both.ours("%(u)s", RECORDS["no user"]) == "-\n"
    assert told == ["Couldn't get username: %s"]
