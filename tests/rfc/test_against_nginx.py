"""The same bytes to nginx: whatever both take, both end at the same byte.

A proxy and the server behind it that disagree on where a request ends are how requests are smuggled
(RFC 9112, 11.2). That one of them refuses what the other takes is no harm, but has its reason here.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest

from kit.master import free_port
from kit.nginx import NGINX, Nginx
from kit.wire import Wire, WireError
from rfc.case import Case, Seen, get
from rfc.run import TOPICS, check, final, paths, worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.master import Master

__all__: list[str] = []

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None and not os.environ.get("CI"), reason="nginx is not installed"),
]

# Sizes are settings, and differ. nginx does not wait for a body that it has no use for.
CASES = {
    case.slug: case
    for topic in TOPICS
    for case in TOPICS[topic]
    if topic != "limits" and not case.half_closes
}
GOOD = [name for name, case in CASES.items() if not case.statuses]
BAD = [name for name, case in CASES.items() if case.statuses]

# What nginx (1.22, and what newer ones have left of it) takes and we refuse, with its reason.
LAXER = {
    "any HTTP/1.x will do": (
        *("the-version-is-http-1-?", "the-version-is-one-with-*-digits-behind-the-dot"),
    ),
    "HTTP/0.9 is still served": ("a-simple-request-*",),
    "more than one space, and some behind": ("two-spaces-*", "a-space-behind-the-version"),
    "a bare LF is a line end": (
        *(
            "a-bare-lf-*",
            "only-bare-lfs",
            "a-field-name-with-a-bare-lf",
            "a-value-with-a-bare-lf-*",
        ),
        *(
            "chunked-behind-a-bare-lf",
            "a-smuggled-upgrade-with-cr-and-lf",
            "a-trailer-with-a-bare-lf",
        ),
        *(
            "a-chunk-size-with-a-bare-lf",
            "a-chunked-body-of-bare-lfs",
            "a-last-chunk-with-*bare-lf*",
        ),
        *("chunk-data-with-a-bare-lf-behind-it", "a-value-with-two-crs-before-its-end"),
    ),
    "line ends before a request are skipped, whole and half": (
        *("nine-blank-lines*", "a-lone-?r-*", "a-lone-lf-*", "*-lf-before-the-request"),
        *("lf-and-crlf-before-the-request",),
    ),
    "any method of capitals is handed on": (
        *("the-method-*-which-is-rtsp-s", "a-method-that-*", "a-method-of-one-letter"),
        *("pri-in-http-1-1", "an-unknown-method-behind-a-body"),
    ),
    "a fragment is cut off": ("a*-fragment*", "absolute-form-with-a-fragment"),
    "bytes beyond ASCII are handed on": ("raw-utf-8", "a-raw-byte-beyond-ascii*"),
    "any scheme will do, and any port": (
        *("another-scheme", "the-scheme-of-websocket", "https-over-plain-tcp"),
        *("absolute-form-with-a-port-too-large",),
    ),
    "a Host is only searched for slashes and control characters": ("host-*",),
    "a field with a bad name is left out": ("a-field-name-*", "a-line-that-is-a-token"),
    "control characters but NUL are handed on": ("a-value-*", "websocket-with-a-field-that-*"),
    "Content-Type may come twice": ("two-*content-types*",),
    "a Content-Length may have any number of zeros": ("content-length-of-19-digits",),
    "spaces behind and in a chunk size, any number of zeros in front": ("a-chunk-size-*",),
    "an extension is skipped unread": ("an-extension-*",),
    "what follows chunk data is skipped": ("chunk-data-shorter-by-a-byte-than-its-size",),
    "a trailer is skipped unread, whatever its size": (*("a-trailer-*", "two-thousand-trailers"),),
    "a body has another limit": ("a-body-that-is-too-large-expects-100",),
    "what WebSocket asks for is for the server behind": ("websocket-*",),
    "no expectation but one is known": (
        *("a-miracle-*", "two-things-are-expected", "an-expectation-*", "another-status-*"),
    ),
}
# What nginx refuses and we serve.
STRICTER = {
    "what a decoded path may hold": (
        *("an-encoded-nul-is-a-character-of-the-path", "a-percent-sign-without-its-digits"),
    ),
    "nobody may ask for what TRACE tells": ("*trace*",),
    "OPTIONS has to ask for something": ("an-asterisk-with-options",),
    "a tab behind a value is a part of it": (
        *("host-with-white-space-around-it", "content-length-in-white-space"),
    ),
    "only the very word": ("chunked-in-white-space",),
}
# Not where a request ends, but whether another one may follow.
PERSISTENCE = {
    "whatever has close in it": "connection-with-an-option-that-begins-like-close",
    "the last of two fields counts": "close-in-the-first-of-two-fields",
}
# What nginx makes something else of before it hands it on, as tests/kit/nginx.py tells it to.
CHANGED = {
    "the handshake gets the Connection field that it lacks": (
        *("upgrade-to-websocket-alone", "an-upgrade-to-websocket-in-http-1-0"),
    ),
    "HTTP/1.1 without Host, from HTTP/1.0 without Host": (
        *("no-host-in-http-1-0", "absolute-form-in-http-1-0"),
    ),
}

PROBE = get(b"Connection: close", line=b"GET /probe HTTP/1.1")
# nginx alone: says which requests it has seen, and drops their bodies.
PARSER = """
    server {{
        listen 127.0.0.1:{port};
        merge_slashes off;
        location / {{ return 200 "$request_method $request_uri"; }}
    }}
"""


@dataclass(frozen=True)
class Both:
    """nginx, and behind it our worker; at ``port`` nginx answers by itself."""

    nginx: Nginx
    port: int
    master: Master


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    port = free_port()
    with worker("auto") as master, Nginx(master.address, PARSER.format(port=port)) as nginx:
        yield Both(nginx, port, master)


def listed(name: str, table: Mapping[str, tuple[str, ...]]) -> bool:
    return any(fnmatchcase(name, each) for patterns in table.values() for each in patterns)


def parsed(both: Both, case: Case) -> tuple[list[str], bool]:
    """The requests that nginx sees in these bytes, and whether it refuses what is behind them."""
    methods = [each.method for each in case.seen]
    found: list[str] = []
    with Wire(both.nginx.connect(port=both.port)) as wire:
        # It may have refused it by then and closed.
        with suppress(BrokenPipeError, ConnectionResetError):
            wire.send(case.raw + PROBE)
            wire.shutdown_write()
        while True:
            method = methods[len(found)] if len(found) < len(methods) else "GET"
            try:
                response = final(wire, method)
            except WireError:
                # HTTP/0.9 has neither a status nor fields.
                found += [wire.buffered.decode("latin-1")] if wire.buffered else []
                return found, False
            if response.status != 200:
                return found, True
            found.append(response.body.decode("latin-1") or "HEAD /")


@pytest.mark.parametrize("name", [name for name in GOOD if name not in PERSISTENCE.values()])
def test_nginx_ends_each_request_where_we_do(both: Both, name: str) -> None:
    """Or refuses one of them; never another number of them."""
    case = CASES[name]
    found, refuses = parsed(both, case)
    wanted = [each.method for each in case.seen] + ([] if case.closes else ["GET"])
    methods = [each.split(" ")[0] for each in found]
    if refuses:
        assert listed(name, STRICTER), found
        assert methods == wanted[: len(methods)]
    else:
        assert methods == wanted
        assert case.closes or found[-1] == "GET /probe"


@pytest.mark.parametrize("name", BAD)
def test_nginx_refuses_what_we_refuse(both: Both, name: str) -> None:
    """Behind as many requests; or there is a reason."""
    case = CASES[name]
    found, refuses = parsed(both, case)
    methods = [each.split(" ")[0] for each in found]
    assert methods[: len(case.seen)] == [each.method for each in case.seen]
    if len(found) > len(case.seen) or not refuses:
        assert listed(name, LAXER), found


THROUGH = [
    name
    for name in GOOD
    if not (name in PERSISTENCE.values() or listed(name, STRICTER) or listed(name, CHANGED))
]


@pytest.mark.parametrize("name", THROUGH)
def test_what_goes_through_nginx_arrives_as_it_was_sent(both: Both, name: str) -> None:
    """As many requests as there are answers, with their paths and bodies."""
    case = CASES[name]
    paths(both.master)
    last = () if case.closes else (Seen("/probe"),)
    with Wire(both.nginx.connect()) as wire:
        wire.send(case.raw + (b"" if case.closes else PROBE))
        for seen in (*case.seen, *last):
            # nginx speaks HTTP/1.1 to us, and hands on the fields that it knows.
            check(
                final(wire, seen.method), replace(seen, version="1.1", has=(), lacks=(), raw=None)
            )
        wire.recv_eof()
    assert paths(both.master) == [seen.path for seen in (*case.seen, *last)]


@pytest.mark.parametrize("name", BAD)
def test_nothing_that_we_refuse_poisons_a_connection_of_nginx(both: Both, name: str) -> None:
    """The next client's request, on the same upstream connection, gets its own answer."""
    with Wire(both.nginx.connect()) as wire:
        with suppress(BrokenPipeError, ConnectionResetError):
            wire.send(CASES[name].raw + get(line=b"GET /smuggled HTTP/1.1"))
            wire.shutdown_write()
        wire.wait_end()
    with Wire(both.nginx.connect()) as wire:
        wire.send(get(b"Connection: close", line=b"GET /fresh HTTP/1.1"))
        check(final(wire), Seen("/fresh"))
        wire.recv_eof()


def test_every_reason_has_its_case() -> None:
    tables = (LAXER, STRICTER, CHANGED)
    patterns = [each for table in tables for row in table.values() for each in row]
    patterns += PERSISTENCE.values()
    assert not [each for each in patterns if not any(fnmatchcase(name, each) for name in CASES)]
