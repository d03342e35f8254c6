"""protocol/accesslog.py: Gunicorn's own logger finds everything where it looks for it."""

from __future__ import annotations

import base64
import os
import random
from datetime import timedelta
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger, SafeAtoms

from gunicorn_asgi.protocol.accesslog import (
    FIELDS,
    AccessRecord,
    RequestView,
    ResponseView,
    Value,
    WebSocketFigures,
    atom_of,
    environ_of,
)
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.scope import Peer, Scopes

__all__: list[str] = []

TCP = Peer(("192.0.2.1", 50000), ("192.0.2.2", 8443), tls=True)
UNIX = Peer(None, ("/run/app.sock", None), tls=False)
HEADERS = [
    (b"host", b"example.com"),
    (b"referer", b"http://elsewhere/"),
    (b"user-agent", b'Mozilla "5"'),
    (b"authorization", b"Basic " + base64.b64encode(b"ada:secret")),
    (b"content-type", b"text/plain"),
    (b"content-length", b"3"),
    (b"x-for", b"a"),
    (b"x-for", b"\xe9"),
]


def record(
    *,
    fields: list[tuple[bytes, bytes]] = HEADERS,
    peer: Peer = TCP,
    status: int = 201,
    duration: float = 2.345678,
    refused: bool = False,
) -> AccessRecord:
    """A finished exchange, as aio makes it."""
    head = RequestHead("POST", b"/a%20b?c=d", "1.1", fields, True)
    head.request_id = "given"
    scope = {} if refused else Scopes(ForwardedPolicy(), "/root").http(head, peer, None)
    headers = [(b"Content-Type", b"text/html"), (b"x-id", b"7")]
    return AccessRecord(head, scope, status, headers, 12, duration)


def atoms(exchange: AccessRecord) -> dict[str, Any]:
    """What the real logger makes of it."""
    found: dict[str, Any] = Logger(Config()).atoms(
        ResponseView(exchange),
        RequestView(exchange.head, exchange.scope),
        environ_of(exchange.head, exchange.scope, exchange.figures),
        exchange.elapsed,
    )
    return found


@pytest.mark.parametrize(
    ("atom", "value"),
    [
        # access_log_format, in the order of Gunicorn's documentation.
        ("h", "192.0.2.1"),
        ("l", "-"),
        ("u", "ada"),
        ("r", "POST /a%20b?c=d HTTP/1.1"),
        ("m", "POST"),
        ("U", "/root/a b"),
        ("q", "c=d"),
        ("H", "HTTP/1.1"),
        ("s", "201"),
        ("B", 12),
        ("b", "12"),
        ("f", "http://elsewhere/"),
        ("a", 'Mozilla "5"'),
        ("T", 2),
        ("M", 2345),
        ("D", 2345678),
        ("L", "2.345678"),
        ("{host}i", "example.com"),
        ("{user-agent}i", 'Mozilla "5"'),
        ("{x-for}i", "é"),  # the last one, as with Gunicorn's other workers
        ("{content-type}o", "text/html"),
        ("{x-id}o", "7"),
        ("{request_method}e", "POST"),
        ("{raw_uri}e", "/a%20b?c=d"),
        ("{path_info}e", "/root/a b"),
        ("{script_name}e", "/root"),
        ("{query_string}e", "c=d"),
        ("{server_protocol}e", "HTTP/1.1"),
        ("{server_name}e", "192.0.2.2"),
        ("{server_port}e", "8443"),
        ("{remote_addr}e", "192.0.2.1"),
        ("{remote_port}e", "50000"),
        ("{wsgi.url_scheme}e", "https"),
        ("{request_id}e", "given"),
        ("{content_type}e", "text/plain"),
        ("{content_length}e", "3"),
        ("{http_host}e", "example.com"),
        ("{http_x_for}e", "a,é"),
    ],
)
def test_every_atom_is_there(atom: str, value: object) -> None:
    """access_log_format."""
    assert atoms(record())[atom] == value


def test_the_atom_of_the_process_is_there() -> None:
    """access_log_format: p."""
    assert atoms(record())["p"] == f"<{os.getpid()}>"


def test_the_default_format_makes_its_line() -> None:
    """access_log_format: the combined format, quotes escaped."""
    found = atoms(record())
    line = Config().access_log_format % SafeAtoms(found)
    assert line == (
        f'192.0.2.1 - ada {found["t"]} "POST /a%20b?c=d HTTP/1.1" 201 12 '
        '"http://elsewhere/" "Mozilla \\"5\\""'
    )


@pytest.mark.parametrize(
    ("atom", "value"),
    [("h", "-"), ("u", "-"), ("f", "-"), ("a", "-"), ("{server_name}e", "/run/app.sock")],
)
def test_what_is_not_known_is_a_dash(atom: str, value: str) -> None:
    """A unix socket's client has no address, and fields may be missing."""
    exchange = record(fields=[], peer=UNIX)
    found = atoms(exchange)
    assert found[atom] == value
    for missing in ("{remote_addr}e", "{remote_port}e", "{server_port}e", "{x}i", "{x}o"):
        assert SafeAtoms(found)[missing] == "-"


def test_a_request_without_an_id_has_none() -> None:
    """asgi_request_id_field = "", or a request that was refused before it had one."""
    exchange = record()
    exchange.head.request_id = ""
    assert SafeAtoms(atoms(exchange))["{request_id}e"] == "-"


def test_a_refused_request_is_logged_too() -> None:
    """Before there was a scope: the line of the request is what came in."""
    found = atoms(record(refused=True, status=400))
    assert found["h"] == "-"
    assert found["r"] == "POST /a%20b?c=d HTTP/1.1"
    assert found["s"] == "400"
    assert (found["U"], found["q"]) == ("", "")
    assert found["{server_name}e"] == ""
    assert Config().access_log_format % SafeAtoms(found)


def test_a_websocket_that_has_ended_has_its_figures() -> None:
    """%({ws_received}e)s and the like; "-" for everything else."""
    exchange = record(status=1000)
    exchange.figures = WebSocketFigures()
    exchange.figures.received, exchange.figures.sent, exchange.figures.bytes_received = 5, 4, 300
    found = SafeAtoms(atoms(exchange))
    names = ("{ws_received}e", "{ws_sent}e", "{ws_bytes_received}e")
    assert [found[name] for name in names] == ["5", "4", "300"]
    assert [SafeAtoms(atoms(record()))[name] for name in names] == ["-", "-", "-"]


def test_only_the_first_line_of_a_websocket_is_its_opening() -> None:
    """An HTTP response is never 101, and the end has figures."""
    assert record(status=101).opening
    assert not record(status=200).opening
    ended = record(status=1000)
    ended.figures = WebSocketFigures()
    assert not ended.opening


@pytest.mark.parametrize(
    ("status", "text"),
    [(1006, "1006"), (200, "200 OK"), (499, "499"), (101, "101 Switching Protocols")],
)
def test_a_status_is_what_gunicorn_shows(status: int, text: str) -> None:
    """gunicorn.http.wsgi.Response.status; 499 has no reason phrase."""
    exchange = record(status=status)
    view = ResponseView(exchange)
    assert view.status == text
    assert view.status_code == status
    assert atoms(exchange)["s"] == str(status)


def test_a_response_as_hooks_see_it() -> None:
    """post_request(worker, req, environ, resp)."""
    view = ResponseView(record())
    assert view.headers == [("Content-Type", "text/html"), ("x-id", "7")]
    assert view.sent == view.response_length == 12


def test_a_request_as_hooks_see_it() -> None:
    """pre_request(worker, req): the attributes of gunicorn.http.message.Request."""
    exchange = record()
    view = RequestView(exchange.head, exchange.scope)
    assert (view.method, view.uri) == ("POST", "/a%20b?c=d")
    assert (view.path, view.query) == ("/root/a b", "c=d")
    assert view.version == (1, 1)
    assert view.headers[:2] == [("HOST", "example.com"), ("REFERER", "http://elsewhere/")]
    assert view.headers[-1] == ("X-FOR", "é")
    assert view.scheme == "https"
    assert view.remote_addr == ("192.0.2.1", 50000)
    assert view.scope is exchange.scope


def test_a_refused_request_as_hooks_see_it() -> None:
    """Without a scope: the target, and nobody's address."""
    view = RequestView(record().head, {})
    assert (view.path, view.query, view.scheme) == ("/a%20b?c=d", "", "http")
    assert view.remote_addr == ("", -1)


def test_a_duration_is_a_timedelta() -> None:
    """gunicorn.glogging.Logger.access(resp, req, environ, request_time)."""
    assert record(duration=1.5).elapsed == timedelta(seconds=1, milliseconds=500)


def test_a_websocket_may_last_for_days() -> None:
    """Gunicorn's loggers look at ``seconds`` alone, which begins anew each day."""
    exchange = record(duration=2 * 86400 + 3.25)
    found = atoms(exchange)
    assert [found[name] for name in "TMDL"] == [172803, 172803250, 172803250000, "172803.250000"]
    assert exchange.elapsed.total_seconds() == 172803.25


def test_microseconds_are_those_of_the_timedelta() -> None:
    """Rounded in the same way, to the even one of two that are equally near."""
    some = random.Random(7)
    durations = [0.0, 1e-7, 5e-7, 15e-7, 25e-7, 0.9999995, 0.9999996, 1.0000005, 59.9999999, 1e6]
    durations += [some.uniform(0, 10.0 ** some.randrange(-7, 6)) for _ in range(5000)]
    durations += [some.randrange(10**8) / 2e6 for _ in range(5000)]
    for duration in durations:
        exchange = record(duration=duration)
        assert exchange.microseconds == exchange.elapsed // timedelta(microseconds=1), duration


# -- what Gunicorn's atoms do not have -------------------------------------------------------------


def fields(exchange: AccessRecord) -> dict[str, Value]:
    """All of FIELDS."""
    return {name: make(exchange) for name, make in FIELDS.items()}


def test_the_fields_of_a_request() -> None:
    """Numbers stay numbers; what is not known is None."""
    exchange = record()
    exchange.received, exchange.first_byte, exchange.pieces = 3, 0.25, 7
    assert fields(exchange) == {
        "request_id": "given",
        "ttfb": 0.25,
        "bytes_in": 3,
        "bytes_out": 12,
        "body_messages": 7,
        "http_version": "1.1",
        "tls_version": None,
        "ws_received": None,
        "ws_sent": None,
        "ws_bytes_received": None,
    }


def test_the_fields_of_a_websocket_that_has_ended() -> None:
    """Its bytes are those of its frames."""
    exchange = record(status=1000)
    exchange.figures = WebSocketFigures()
    exchange.figures.received, exchange.figures.sent, exchange.figures.bytes_received = 5, 4, 300
    found = fields(exchange)
    assert (found["bytes_in"], found["bytes_out"]) == (300, 12)
    told = (found["ws_received"], found["ws_sent"], found["ws_bytes_received"])
    assert told == (5, 4, 300)


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        ({"tls": {"tls_version": 0x0301}}, "TLSv1"),
        ({"tls": {"tls_version": 0x0303}}, "TLSv1.2"),
        ({"tls": {"tls_version": 0x0304}}, "TLSv1.3"),
        ({"tls": {"tls_version": 0x7F1C}}, None),
        ({"tls": {"tls_version": None}}, None),
        ({"tls": {"tls_version": [1]}}, None),
        ({"tls": "odd"}, None),
        ({}, None),
        (None, None),
        ("odd", None),
    ],
    ids=repr,
)
def test_the_tls_version_is_named_whatever_became_of_the_scope(
    extensions: object, name: str | None
) -> None:
    """The application has it in its hands."""
    exchange = record()
    exchange.scope["extensions"] = extensions
    assert fields(exchange)["tls_version"] == name


def test_a_refused_request_has_fields_too() -> None:
    """As far as they are known."""
    exchange = record(refused=True)
    exchange.head.request_id = ""
    found = fields(exchange)
    assert (found["request_id"], found["ttfb"], found["tls_version"]) == (None, None, None)
    assert (found["bytes_in"], found["http_version"]) == (0, "1.1")


@pytest.mark.parametrize(
    ("value", "atom"),
    [(None, "-"), (0, 0), (7, 7), (0.25, "0.250000"), (1e-7, "0.000000"), ("x", "x"), ("", "")],
)
def test_a_field_as_an_atom(value: Value, atom: object) -> None:
    """Seconds with six decimals, like %(L)s."""
    assert atom_of(value) == atom
