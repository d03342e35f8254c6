"""Who the client is behind a proxy, by forwarded_allow_ips, header_map and the settings beside
them: real masters, real peers. 127.0.0.1, 127.0.0.2 and 127.0.0.9 are three of them.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import gunicorn
import pytest

from kit.master import Master
from kit.message import Response
from kit.wire import WebSocketWire, Wire

APP = """
import json

async def app(scope, receive, send):
    if scope["path"].endswith("/fail"):
        raise RuntimeError("a bug")
    told = {
        name: scope[name]
        for name in ("type", "client", "scheme", "root_path", "path", "extensions")
    }
    told["headers"] = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    body = json.dumps(told)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body})
        await receive()
        return
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})
"""
# Gunicorn's own defaults; the second proxy is a stranger then.
DEFAULTS = ""
# Gunicorn 23 takes addresses only.
PROXIES = (
    "127.0.0.0/30,10.0.0.0/8"
    if gunicorn.version_info >= (24, 1)
    else "127.0.0.1,127.0.0.2,10.1.1.1"
)
# Networks, everything that asgi_forwarded_fields can add but Forwarded, and strict names.
NETWORKS = f"""
forwarded_allow_ips = "{PROXIES}"
header_map = "refuse"
root_path = "/setting"
secure_scheme_headers = {{"X-Tls": "Yes"}}
asgi_forwarded_fields = ["x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"]
asgi_request_id_field = "X-Own-ID"
asgi_request_id_response = True
"""
# Everybody, Forwarded, no ids.
STAR = """
forwarded_allow_ips = "*"
header_map = "dangerous"
forwarder_headers = "REMOTE_USER"
asgi_forwarded_fields = "forwarded"
asgi_request_id_field = ""
"""
# Nobody, so that only a unix socket is trusted.
NOBODY = """
forwarded_allow_ips = "192.0.2.1"
"""
FORMAT = """
access_log_format = "%(h)s %(s)s %(U)s %({request_id}e)s %({wsgi.url_scheme}e)s"
"""

ONE, TWO, NINE, UNIX = "127.0.0.1", "127.0.0.2", "127.0.0.9", "unix"
Fields = dict[str, str]


def serve(config: str) -> Iterator[Master]:
    """A master on TCP and on a unix socket."""
    settings = {"config": config + FORMAT, "files": {"app.py": APP}, "access_log": True}
    with Master("app:app", bind=["tcp", "unix"], **settings) as running:  # type: ignore[arg-type]
        yield running


@pytest.fixture(scope="module")
def default() -> Iterator[Master]:
    """Gunicorn's defaults."""
    yield from serve(DEFAULTS)


@pytest.fixture(scope="module")
def networks() -> Iterator[Master]:
    """Networks in forwarded_allow_ips."""
    yield from serve(NETWORKS)


@pytest.fixture(scope="module")
def star() -> Iterator[Master]:
    """Everybody in forwarded_allow_ips."""
    yield from serve(STAR)


@pytest.fixture(scope="module")
def nobody() -> Iterator[Master]:
    """Nobody in forwarded_allow_ips."""
    yield from serve(NOBODY)


@pytest.fixture
def master(request: pytest.FixtureRequest) -> Master:
    """The one that the case names."""
    found: Master = request.getfixturevalue(request.param)
    return found


def connect(m: Master, peer: str) -> socket.socket:
    """As that peer."""
    tcp, unix = m.addresses
    if peer == UNIX:
        return m.connect(address=unix)
    assert isinstance(tcp, tuple)
    return socket.create_connection(tcp, 5.0, (peer, 0))


def ask(m: Master, peer: str, headers: Fields, path: str = "/", version: str = "1.1") -> Response:
    """One request of that peer."""
    with Wire(connect(m, peer)) as wire:
        return wire.request("GET", path, headers, version=version)


def told(m: Master, peer: str, headers: Fields, path: str = "/") -> dict[str, Any]:
    """What the application was told of it; the peer's port is left out."""
    response = ask(m, peer, headers, path)
    assert response.status == 200, response
    facts: dict[str, Any] = response.json()
    facts["host"] = dict(facts["headers"])["host"]
    if facts["client"] is not None and facts["client"][0].startswith("127."):
        facts["client"] = facts["client"][:1]
    return facts


SPOOFED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil",
    "X-Forwarded-Prefix": "/evil",
    "X-Tls": "Yes",
    "Forwarded": "for=6.6.6.6;proto=https;host=evil",
    "SCRIPT_NAME": "/evil",
    "X-Request-ID": "evil",
}
FOR, PROTO = "X-Forwarded-For", "X-Forwarded-Proto"
CHAIN = {FOR: "6.6.6.6, 203.0.113.9:4711"}
HOSTS = {"X-Forwarded-Host": "a", "X-Forwarded-Port": "8443"}

CASES: list[tuple[str, str, Fields, dict[str, Any]]] = [
    # Gunicorn's defaults.
    ("default", ONE, {}, {"client": [ONE], "scheme": "http", "root_path": "", "host": "kit"}),
    ("default", ONE, CHAIN, {"client": ["203.0.113.9", 4711]}),
    ("default", ONE, {FOR: "6.6.6.6, 203.0.113.9, 127.0.0.1, ::1"}, {"client": ["203.0.113.9", 0]}),
    ("default", ONE, {FOR: "127.0.0.9, unknown"}, {"client": [ONE]}),
    ("default", ONE, {FOR: "::ffff:203.0.113.9, ::ffff:127.0.0.1"}, {"client": ["203.0.113.9", 0]}),
    ("default", ONE, {PROTO: "https"}, {"scheme": "https", "client": [ONE]}),
    ("default", ONE, {PROTO: "https", "X-Forwarded-SSL": "on"}, {"scheme": "https"}),
    ("default", ONE, {PROTO: "https, http"}, {"scheme": "http"}),
    ("default", ONE, {"X_Forwarded_Proto": "https"}, {"scheme": "http"}),
    ("default", ONE, {"SCRIPT_NAME": "/app"}, {"root_path": "/app", "path": "/app/"}),
    ("default", ONE, {**HOSTS, "Forwarded": "for=6.6.6.6"}, {"host": "kit", "client": [ONE]}),
    ("default", TWO, CHAIN, {"client": [TWO]}),
    ("default", TWO, SPOOFED, {"client": [TWO], "scheme": "http", "root_path": "", "host": "kit"}),
    ("default", UNIX, {}, {"client": None, "scheme": "http"}),
    ("default", UNIX, CHAIN, {"client": ["203.0.113.9", 4711]}),
    ("default", UNIX, {PROTO: "https"}, {"client": None, "scheme": "https"}),
    # Networks.
    ("networks", TWO, {FOR: "6.6.6.6, 127.0.0.9, 10.1.1.1"}, {"client": ["127.0.0.9"]}),
    ("networks", NINE, CHAIN, {"client": [NINE]}),
    ("networks", UNIX, {FOR: "6.6.6.6, 127.0.0.9, 127.0.0.2"}, {"client": ["127.0.0.9"]}),
    ("networks", TWO, {"X-Tls": "Yes", **HOSTS}, {"scheme": "https", "host": "a:8443"}),
    ("networks", TWO, {"X-Tls": "Yes", "X-Forwarded-Port": "443"}, {"host": "kit"}),
    ("networks", TWO, {PROTO: "https", **HOSTS}, {"scheme": "http", "host": "a:8443"}),
    ("networks", TWO, {}, {"root_path": "/setting", "path": "/setting/"}),
    ("networks", TWO, {"X-Forwarded-Prefix": "/app/"}, {"root_path": "/app", "path": "/app/"}),
    ("networks", TWO, {"SCRIPT_NAME": "/app"}, {"root_path": "/app", "path": "/app/"}),
    ("networks", NINE, {**HOSTS, "X-Tls": "Yes"}, {"scheme": "http", "host": "kit"}),
    ("networks", NINE, {"X-Forwarded-Prefix": "/evil"}, {"root_path": "/setting"}),
    # Everybody: the right-most address, never the left-most.
    ("star", NINE, {"Forwarded": "for=6.6.6.6, for=203.0.113.9"}, {"client": ["203.0.113.9", 0]}),
    (
        "star",
        NINE,
        {"Forwarded": "for=6.6.6.6;proto=http, for=10.0.0.1;proto=https"},
        {"scheme": "https", "client": ["10.0.0.1", 0]},
    ),
    (
        "star",
        ONE,
        {"Forwarded": 'for="[2001:db8::1]:4711";host="a:81"'},
        {"client": ["2001:db8::1", 4711], "host": "a:81"},
    ),
    ("star", ONE, {FOR: "6.6.6.6", PROTO: "https"}, {"client": [ONE], "scheme": "http"}),
    ("star", UNIX, {"Forwarded": "for=unknown;proto=https"}, {"client": None, "scheme": "https"}),
    ("star", ONE, {"SCRIPT_NAME": "/evil"}, {"root_path": ""}),
    # Nobody.
    ("nobody", ONE, SPOOFED, {"client": [ONE], "scheme": "http", "root_path": "", "host": "kit"}),
    (
        "nobody",
        UNIX,
        {**CHAIN, PROTO: "https"},
        {"client": ["203.0.113.9", 4711], "scheme": "https"},
    ),
]


@pytest.mark.parametrize(("master", "peer", "headers", "expected"), CASES, indirect=["master"])
def test_the_application_is_told_what_a_trusted_proxy_says(
    master: Master, peer: str, headers: Fields, expected: dict[str, Any]
) -> None:
    """And of everybody else, what can be seen."""
    facts = told(master, peer, headers)
    assert {name: facts[name] for name in expected} == expected


REFUSED: list[tuple[str, str, Fields]] = [
    ("default", ONE, {PROTO: "https", "X-Forwarded-SSL": "off"}),
    ("default", UNIX, {PROTO: "http", "X-Forwarded-Protocol": "ssl"}),
    ("default", ONE, {"SCRIPT_NAME": "//evil"}),
    ("networks", TWO, {"X-Forwarded-Host": "a/b"}),
    ("networks", TWO, {"X-Forwarded-Port": "0"}),
    ("networks", TWO, {"X-Forwarded-Prefix": "/a/../b"}),
    ("networks", NINE, {"SCRIPT_NAME": "/app"}),
    ("networks", TWO, {"X_Other": "a"}),
    ("star", ONE, {"Forwarded": "for=a;for=b"}),
]


@pytest.mark.parametrize(("master", "peer", "headers"), REFUSED, indirect=["master"])
def test_a_trusted_proxys_nonsense_is_400(master: Master, peer: str, headers: Fields) -> None:
    """And so is a name with an underscore, where header_map is refuse."""
    mark = master.mark()
    assert ask(master, peer, headers).status == 400
    master.wait_log("Refused a request from .* with 400", after=mark)
    assert ask(master, NINE, {}).status == 200


@pytest.mark.parametrize(
    ("master", "peer", "passed"),
    [
        ("default", ONE, {"script_name"}),
        ("default", TWO, set()),
        ("default", UNIX, {"script_name"}),
        ("star", ONE, {"script_name", "x_forwarded_for", "remote_user"}),
    ],
    indirect=["master"],
)
def test_names_with_underscores_reach_whom_they_should(
    master: Master, peer: str, passed: set[str]
) -> None:
    """header_map and forwarder_headers."""
    sent = {"SCRIPT_NAME": "/app", "X_Forwarded_For": "6.6.6.6", "Remote_User": "root"}
    facts = told(master, peer, sent)
    assert {name for name, _ in facts["headers"] if "_" in name} == passed


def test_a_websocket_is_told_the_same(default: Master) -> None:
    """Client, scheme, mount point and id."""
    headers = {**CHAIN, PROTO: "https", "SCRIPT_NAME": "/app", "X-Request-ID": "given"}
    for peer, client, scheme, root_path in (
        (UNIX, ["203.0.113.9", 4711], "wss", "/app"),
        (TWO, None, "ws", ""),
    ):
        with WebSocketWire(connect(default, peer)) as ws:
            assert ws.connect("/", headers=headers).status == 101
            facts = json.loads(ws.recv_text())
        assert (facts["scheme"], facts["root_path"]) == (scheme, root_path)
        assert facts["client"][0] == TWO if client is None else facts["client"] == client
        assert (facts["extensions"]["gunicorn_asgi.request"]["id"] == "given") is (peer == UNIX)


# -- ids -----------------------------------------------------------------------------------------


def request_id(response: Response) -> str:
    """What the application knows it by."""
    found: str = response.json()["extensions"]["gunicorn_asgi.request"]["id"]
    return found


def test_an_id_is_made_or_taken_and_all_over_the_place(default: Master) -> None:
    """Scope, access log, error line."""
    given = {"X-Request-ID": "given-1"}
    parent = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    made = request_id(ask(default, TWO, given, "/made"))
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert request_id(ask(default, ONE, {}, "/made")) != made
    assert request_id(ask(default, ONE, given, "/taken")) == "given-1"
    assert request_id(ask(default, UNIX, parent, "/traced")) == "4bf92f3577b34da6a3ce929d0e0e4736"
    for line in (
        f"{TWO} 200 /made {made} http",
        f"{ONE} 200 /taken given-1 http",
        "- 200 /traced 4bf92f3577b34da6a3ce929d0e0e4736 http",
    ):
        wait_access(default, line)
    mark = default.mark()
    assert ask(default, ONE, {"X-Request-ID": "given-2", **CHAIN}, "/fail").status == 500
    default.wait_log(r"\[ERROR\] .*/fail.*given-2", after=mark)
    wait_access(default, "203.0.113.9 500 /fail given-2 http")
    mark = default.mark()
    contradiction = {PROTO: "https", "X-Forwarded-SSL": "off", "X-Request-ID": "given-3"}
    assert ask(default, ONE, contradiction).status == 400
    default.wait_log(r"Refused a request .*given-3", after=mark)


def wait_access(m: Master, line: str) -> None:
    """It is written after the response."""
    count = 1
    while line not in m.wait_access(count):
        count = len(m.access()) + 1


def test_an_id_is_in_the_response_where_that_is_wanted(networks: Master, default: Master) -> None:
    """asgi_request_id_response, in the field of asgi_request_id_field; not by default."""
    given = {"X-Own-ID": "given", "X-Request-ID": "other"}
    response = ask(networks, TWO, given)
    assert (response.header("x-own-id"), request_id(response)) == (b"given", "given")
    response = ask(networks, NINE, given)
    made = request_id(response)
    assert (response.header("x-own-id"), len(made)) == (made.encode(), 32)
    assert ask(networks, TWO, given, "/fail").header("x-own-id") == b"given"
    assert ask(default, ONE, given).header("x-request-id") is None


def test_without_ids_there_is_none(star: Master) -> None:
    """asgi_request_id_field = ""."""
    response = ask(star, ONE, {"X-Request-ID": "given"}, "/no-id")
    assert "gunicorn_asgi.request" not in response.json()["extensions"]
    wait_access(star, f"{ONE} 200 /no-id - http")
