"""Plays a case on a fresh connection to a real worker, and holds the worker to it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kit.master import Master
from kit.wire import Response, Wire
from rfc.case import Case, Seen, get
from rfc.cases import chunked, connection, fields, framing, limits, request_line, target

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "APP",
    "SMUGGLED",
    "SOURCE",
    "TOPICS",
    "check",
    "final",
    "paths",
    "play",
    "probe",
    "refusal",
    "worker",
]

APP = Path(__file__).parent / "app.py"
TOPICS: dict[str, tuple[Case, ...]] = {
    "request-line": request_line.CASES,
    "target": target.CASES,
    "fields": fields.CASES,
    "framing": framing.CASES,
    "chunked": chunked.CASES,
    "connection": connection.CASES,
    "limits": limits.CASES,
}

# A section of a document, a number of a list of mistakes, or a thread where one was made.
SOURCE = re.compile(
    r"RFC \d+ [\dA-Z]|CVE-\d{4}-\d|GHSA-|\w #\d|gunicorn (PR|\d)|(Gunicorn|ASGI|ASGI HTTP): |asgi_"
)

SMUGGLED = get(line=b"GET /smuggled HTTP/1.1")
# What nobody may bring into a log: all control characters but LF (and what makes colours).
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@contextmanager
def worker(loop: str) -> Iterator[Master]:
    """One worker, which is the same and answers when all is over."""
    env = {"GUNICORN_ASGI_LOOP": loop, "GUNICORN_ASGI_LIMIT_REQUEST_BODY": str(limits.BODY)}
    env["GUNICORN_WEBSOCKET_MAX_MESSAGE_SIZE"] = str(limits.BODY)
    args = ("--keep-alive", "20", "--forwarded-allow-ips", "192.0.2.1")
    files = {"app.py": APP.read_text()}
    with Master("app:app", *args, files=files, env=env, access_log=True) as master:
        pids = master.workers()
        yield master
        with Wire(master.connect()) as wire:
            probe(wire)
        assert master.workers() == pids, "the worker has been replaced"
        for text in (master.log(), "\n".join(master.access())):
            assert not _CONTROL.search(text), _CONTROL.findall(text)


def play(server: Master, case: Case, behind: bytes = b"") -> None:
    """Send it, read all answers, and see that the connection ends or goes on as it should."""
    with Wire(server.connect()) as wire:
        wire.send(case.raw + behind)
        if case.half_closes:
            wire.shutdown_write()
        for seen in case.seen:
            check(final(wire, seen.method), seen)
        if case.statuses:
            status = refusal(wire).status
            # What follows breaks further rules, where the request itself has no end.
            fits = case.statuses | {400} if behind else case.statuses
            assert status in fits, f"refused with {status}"
        elif case.closes:
            wire.recv_eof()
        else:
            probe(wire)


def final(wire: Wire, method: str = "GET") -> Response:
    """The next response that is not an interim one."""
    while True:
        response = wire.recv_response(head=method == "HEAD")
        if response.status >= 200:
            return response


def check(response: Response, seen: Seen) -> None:
    """Compare what the application has seen with what it has to see."""
    assert response.status == 200, response
    if seen.method == "HEAD":
        assert not response.body
        return
    told = response.json()
    wanted = {"method": seen.method, "path": seen.path, "query": seen.query, "scheme": "http"}
    wanted |= {"http_version": seen.version, "body": seen.body.decode("latin-1"), "root_path": ""}
    wanted |= {} if seen.raw is None else {"raw_path": seen.raw}
    got = {key: told[key] for key in wanted}
    assert got == wanted, f"{got} instead of {wanted}"
    names = {name for name, _ in seen.has}
    has = tuple((name, value) for name, value in told["headers"] if name in names)
    assert has == seen.has, f"{has} instead of {seen.has}"
    assert not {name for name, _ in told["headers"]} & set(seen.lacks)


def refusal(wire: Wire) -> Response:
    """A refusal, whole and readable, behind which the connection ends in an orderly way."""
    response = wire.recv_response()
    assert response.status >= 400, response
    assert response.version == "1.1"
    assert response.framing == "length"
    assert response.header("connection") == b"close"
    assert response.header("date")
    assert response.body
    wire.recv_eof()
    return response


def probe(wire: Wire) -> None:
    """The next request is the next one: no answer too many, no byte left over."""
    wire.send(get(b"Connection: close", line=b"GET /probe HTTP/1.1"))
    check(final(wire), Seen("/probe"))
    wire.recv_eof()


def paths(server: Master) -> list[str]:
    """What the application was asked for since this was asked for the last time."""
    with Wire(server.connect()) as wire:
        found: list[str] = wire.request("GET", "/paths").json()
        return [path for path in found if path != "/paths"]
