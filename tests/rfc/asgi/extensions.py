"""The common extensions, and what is not offered."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from kit.fakes import FakeApp
from kit.loopback import Serving, serving
from kit.message import Response
from kit.rig import Message, Receive, Rig, Scope, Send, body, parse_responses, request, start, until
from kit.ws import half_closed, handshake
from rfc.asgi.names import NOT_OFFERED
from rfc.asgi.rule import END, START, Rules, answer, asked, refuses

__all__ = ["RULES"]

RULES = Rules("extensions")

DATA = bytes(range(256)) * 40
OFFERED = (
    *("http.response.early_hint", "http.response.pathsend"),
    *("http.response.trailers", "http.response.zerocopysend"),
)


@contextmanager
def file_of(data: bytes = DATA) -> Iterator[IO[bytes]]:
    """An open file that holds ``data``; its name is its path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        with open(path, "rb") as file:
            yield file


@RULES("Extensions", *(f"{name} extension" for name in OFFERED))
async def each_is_announced_in_the_scope() -> None:
    """With a dict; that is how an application learns that it may send its messages."""
    app = FakeApp()
    client = Rig(app).connect()
    client.get()
    await client.response()
    for name in OFFERED:
        assert app.scopes[0]["extensions"][name] == {}


@RULES(
    "HTTP/2 Server Push; Debug",
    *(f"{name}: {key}" for name, keys in NOT_OFFERED.items() for key in keys),
    *(f"{name} extension" for name in NOT_OFFERED),
)
async def what_is_not_offered_is_not_taken() -> None:
    """Push is of HTTP/2, debug not for servers: neither announced nor understood."""
    _, _, app = await asked()
    assert not set(NOT_OFFERED) & set(app.scope["extensions"])
    await refuses(app.send, {"type": "http.response.debug", "info": {}})
    await app.send(START)
    await refuses(app.send, {"type": "http.response.push", "path": "/", "headers": []})


# -- websocket.http.response -----------------------------------------------------------------------

DENIAL = "Websocket Denial Response"


def denial(status: object = 401, **extra: object) -> Message:
    """Build the first of its messages."""
    return {"type": "websocket.http.response.start", "status": status, **extra}


def denial_body(data: object = b"", more: bool = False) -> Message:
    """Build the second of its messages."""
    return {"type": "websocket.http.response.body", "body": data, "more_body": more}


@RULES(DENIAL, "websocket.http.response extension")
async def a_denial_is_announced_in_the_scope_of_a_websocket() -> None:
    """And not in that of a request."""
    _, _, app = await asked(handshake())
    assert app.scope["extensions"]["websocket.http.response"] == {}
    _, _, app = await asked()
    assert "websocket.http.response" not in app.scope["extensions"]


@RULES(
    DENIAL,
    *(f"websocket.http.response.start: {key}" for key in ("type", "status", "headers")),
    *(f"websocket.http.response.body: {key}" for key in ("type", "body", "more_body")),
)
async def a_denial_is_an_http_response_and_the_end_of_the_connection() -> None:
    """Messages of the same structure as those of HTTP; headers and both keys are optional."""
    for messages, told in (
        ((denial(401, headers=[(b"x-kit", b"1")]), denial_body(b"no")), (401, b"no", b"1")),
        ((denial(200), denial_body(b"a", more=True), denial_body(b"b")), (200, b"ab", None)),
        ((denial(404), {"type": "websocket.http.response.body"}), (404, b"", None)),
    ):
        _, client, app = await asked(handshake())
        await app.receive()
        for message in messages:
            await app.send(message)
        (response,) = client.responses()
        assert (response.status, response.body, response.header("x-kit")) == told
        assert not response.keeps_alive
        await half_closed(client)


@RULES(DENIAL, "websocket.http.response.start: status", "websocket.http.response.body: body")
async def a_denial_is_checked_as_a_response_is() -> None:
    """A status, pairs of bytes without line ends, a body of bytes, in this order."""
    _, _, app = await asked(handshake())
    await refuses(app.send, denial_body(b"early"), denial("401"), denial(101))
    await refuses(app.send, {"type": "websocket.http.response.start"})
    await refuses(app.send, denial(headers=[(b"a", b"b\r\nc: d")]), denial(headers=[("a", "b")]))
    await app.send(denial())
    await refuses(app.send, denial(), denial_body("text"))


@RULES(DENIAL, "websocket.http.response.start: type")
async def no_other_message_of_a_websocket_follows_a_denial() -> None:
    """It will not be one any more."""
    _, client, app = await asked(handshake())
    await app.send(denial())
    others = ({"type": "websocket.accept"}, {"type": "websocket.send", "text": "a"})
    await refuses(app.send, *others, {"type": "websocket.close"})
    await app.send(denial_body())
    assert [each.status for each in client.responses()] == [401]


@RULES(DENIAL, "websocket.http.response.body: type")
async def a_denial_comes_too_late_behind_accept() -> None:
    """It answers the handshake, which is answered by then."""
    _, _, app = await asked(handshake())
    await app.send({"type": "websocket.accept"})
    await refuses(app.send, denial(), denial_body())


# -- http.response.early_hint ----------------------------------------------------------------------

HINTS = "Early Hints"


def hint(*links: object) -> Message:
    """Build one."""
    return {"type": "http.response.early_hint", "links": list(links)}


@RULES(HINTS, "http.response.early_hint: type", "http.response.early_hint: links")
async def hints_are_103_with_links() -> None:
    """Any number of times before the response, behind its start as well as before it."""
    for before in (True, False):
        first = [hint(b"</a>; rel=preload", b"</b>")] if before else [START]
        second = (
            [START, hint(b"</c>")]
            if before
            else [hint(b"</a>; rel=preload", b"</b>"), hint(b"</c>")]
        )
        result = await answer(*first, *second, body(b"data"))
        assert [each.status for each in result.responses] == [103, 103, 200]
        links = [each.all("link") for each in result.responses]
        assert links == [[b"</a>; rel=preload", b"</b>"], [b"</c>"], []]
        assert result.response.body == b"data"


@RULES(HINTS, "http.response.early_hint: links")
async def links_are_an_iterable_of_bytes() -> None:
    """Whatever cannot be a field's value raises."""
    _, client, app = await asked()
    await refuses(app.send, {"type": "http.response.early_hint"}, hint("</a>"), hint(None))
    await refuses(app.send, {"type": "http.response.early_hint", "links": None})
    await refuses(app.send, hint(b"</a>\r\nSet-Cookie: a=b"), hint(b"\n"), hint(b"a\0"))
    await app.send({"type": "http.response.early_hint", "links": iter((b"</a>",))})
    await asyncio.sleep(0)
    assert client.received == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"


@RULES(HINTS, "http.response.early_hint: type")
async def a_hint_that_comes_too_late_is_ignored() -> None:
    """The server may ignore it, and it must not get into the body."""
    result = await answer(START, body(b"a", more=True), hint(b"</a>"), body(b"b"), hint(b"</b>"))
    assert [each.status for each in result.responses] == [200]
    assert result.response.body == b"ab"
    assert result.rig.complaints == []


@RULES(HINTS, "http.response.early_hint: type")
async def a_client_of_http_1_0_gets_no_hints() -> None:
    """RFC 9110 section 15.2: no 1xx to whoever does not know them."""
    result = await answer(hint(b"</a>"), START, END, raw=request(version="1.0"))
    assert [each.status for each in result.responses] == [200]


# -- http.response.trailers ------------------------------------------------------------------------

TRAILERS = "HTTP Trailers"
WILLING = request(headers={"TE": "trailers", "Connection": "TE"})


def announced(*headers: tuple[bytes, bytes]) -> Message:
    """Build a start with trailers."""
    return {**start(headers=headers), "trailers": True}


def trailers(*headers: Any, more: bool = False) -> Message:
    """Build trailers."""
    return {"type": "http.response.trailers", "headers": list(headers), "more_trailers": more}


@RULES(
    TRAILERS,
    *("http.response.start: trailers", "http.response.trailers: type"),
    "http.response.trailers: headers",
)
async def trailers_follow_the_last_of_the_body() -> None:
    """In a chunked body, to a client that takes them; the Trailer field is the application's."""
    first = announced((b"trailer", b"x-sum"))
    for pieces in (
        [body(b"data")],
        [body(b"da", more=True), body(b"ta")],
        [body(b"data", True), END],
    ):
        result = await answer(
            first, *pieces, trailers((b"x-sum", b"1"), [b"x-b", b"2"]), raw=WILLING
        )
        assert result.client.received.endswith(b"\r\n0\r\nx-sum: 1\r\nx-b: 2\r\n\r\n")
        assert result.client.received.count(b"trailer: x-sum\r\n") == 1
        assert b"\r\ntransfer-encoding: chunked\r\n" in result.client.received
        assert result.rig.complaints == []


@RULES(TRAILERS, "http.response.start: trailers", "http.response.trailers: headers")
async def trailers_are_only_sent_to_who_asked_for_them() -> None:
    """``TE: trailers``, and HTTP/1.1; the application sends them all the same."""
    for raw in (
        request(),
        request(headers={"TE": "gzip"}),
        request(headers={"TE": "trailers"}, version="1.0"),
    ):
        messages = (announced(), body(b"data"), trailers((b"x-sum", b"1")))
        result = await answer(*messages, raw=raw)
        assert b"x-sum" not in result.client.received
        assert (result.response.body, result.rig.complaints) == (b"data", [])


@RULES(TRAILERS, "http.response.trailers: more_trailers")
async def trailers_may_come_in_several_messages() -> None:
    """The response is complete with the one that has no more_trailers, the default."""
    _, client, app = await asked(WILLING)
    await app.send(announced())
    await app.send(body(b"data"))
    await app.send(trailers((b"x-a", b"1"), more=True))
    await asyncio.sleep(0)
    assert not client.received.endswith(b"\r\n\r\n")
    await app.send({"type": "http.response.trailers", "headers": [(b"x-b", b"2")]})
    await app.send(trailers((b"x-c", b"3")))
    await asyncio.sleep(0)
    assert client.received.endswith(b"0\r\nx-a: 1\r\nx-b: 2\r\n\r\n")
    assert (await app.receive())["type"] == "http.disconnect"


@RULES(TRAILERS, "http.response.trailers: type")
async def trailers_at_the_wrong_time_raise() -> None:
    """Not announced, before the last of the body; and behind it nothing but trailers is due."""
    _, _, app = await asked(WILLING)
    await refuses(app.send, trailers())
    await app.send(START)
    await refuses(app.send, trailers())
    _, _, app = await asked(WILLING)
    await app.send(announced())
    await refuses(app.send, trailers())
    await app.send(body(b"a", more=True))
    await refuses(app.send, trailers())
    await app.send(body(b"b"))
    await refuses(app.send, body(b"c"), START, {"type": "http.response.pathsend", "path": "/"})


@RULES(TRAILERS, "http.response.trailers: headers")
async def trailers_are_checked_as_headers_are() -> None:
    """And what frames, routes or authenticates is none (RFC 9110 section 6.5.1)."""
    _, _, app = await asked(WILLING)
    await app.send(announced())
    await app.send(END)
    for pair in (
        *((b"a", b"b\r\nc: d"), (b"a b", b""), ("a", b"b"), (b"a", "b"), (b":status", b"200")),
        *((b"content-length", b"1"), (b"transfer-encoding", b"chunked"), (b"host", b"a")),
        *((b"Set-Cookie", b"a=b"), (b"content-type", b"text/html"), (b"authorization", b"a")),
    ):
        await refuses(app.send, trailers(pair))


@RULES(TRAILERS, "http.response.start: trailers")
async def trailers_that_are_owed_leave_the_response_incomplete() -> None:
    """An application that returns without them has not finished."""
    result = await answer(announced(), body(b"data"), raw=WILLING)
    assert not result.client.received.endswith(b"\r\n\r\n")
    await until(lambda: result.client.ended)
    assert len(result.rig.complaints) == 1


# -- http.response.pathsend ------------------------------------------------------------------------

PATHS = "Path Send"


async def fetched(*messages: Message, raw: bytes = request(), path: Path | None = None) -> Response:
    """Over a real socket, where sendfile(2) works."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with serving(app, path=path) as served:
        return await _fetch(served, raw)


async def _fetch(served: Serving, raw: bytes) -> Response:
    peer = await served.connect()
    peer.send(raw)
    await until(lambda: not served.state.tasks and peer.received)
    await until(lambda: _complete(peer.received))
    assert served.log.lines("warning", "error") == []
    return parse_responses(peer.received)[-1]


def _complete(data: bytes) -> bool:
    try:
        return bool(parse_responses(data))
    except AssertionError:
        return False


@RULES(PATHS, "http.response.pathsend: type", "http.response.pathsend: path")
async def a_path_is_sent_as_the_whole_body() -> None:
    """Over TCP and unix sockets; its type and length are the application's to tell, or not."""
    with file_of() as file:
        message = {"type": "http.response.pathsend", "path": file.name}
        for length in ([], [(b"content-length", b"%d" % len(DATA))]):
            response = await fetched(start(headers=length), message)
            assert (response.body, response.framing) == (DATA, "length")
            assert response.header("content-type") is None
        response = await fetched(START, message, path=Path(file.name + ".sock"))
        assert response.body == DATA


@RULES(PATHS, "http.response.pathsend: path")
async def a_path_is_absolute_and_text() -> None:
    """And that of a file that can be read; never an OSError, which would mean the client."""
    _, client, app = await asked()
    await app.send(START)
    for path in (None, "file", "", b"/etc/hostname", 1, "/no such file", "/", "/dev/null", "/a\0b"):
        await refuses(app.send, {"type": "http.response.pathsend", "path": path})
    await refuses(app.send, {"type": "http.response.pathsend"})
    await app.send(END)
    assert (await client.response()).status == 200


@RULES(PATHS, "http.response.pathsend: type")
async def a_path_comes_once_behind_the_start_and_is_not_mixed_with_a_body() -> None:
    """It is all of the body; what follows is ignored as behind any other end."""
    with file_of(b"file") as file:
        message = {"type": "http.response.pathsend", "path": file.name}
        _, _, app = await asked()
        await refuses(app.send, message)
        await app.send(START)
        await app.send(body(b"a", more=True))
        await refuses(app.send, message)
        response = await fetched(START, message, message, body(b"more"))
        assert response.body == b"file"


# -- http.response.zerocopysend --------------------------------------------------------------------

FILES = "Zero Copy Send"


def stretch(file: object, more: object = False, **numbers: object) -> Message:
    """Build one."""
    return {"type": "http.response.zerocopysend", "file": file, "more_body": more, **numbers}


@RULES(
    FILES,
    *("http.response.zerocopysend: type", "http.response.zerocopysend: file"),
    "http.response.zerocopysend: more_body",
)
async def a_file_is_sent_in_the_place_of_a_body() -> None:
    """Any object with a descriptor; more_body is False by default."""
    with file_of() as file:
        message = {"type": "http.response.zerocopysend", "file": file}
        response = await fetched(START, message, body(b"ignored"))
        assert (response.body, response.framing) == (DATA, "length")
        assert not file.closed
        os.fstat(file.fileno())
        response = await fetched(START, stretch(file.raw, offset=0))  # type: ignore[attr-defined]
        assert response.body == DATA


@RULES(FILES, "http.response.zerocopysend: offset", "http.response.zerocopysend: count")
async def offset_and_count_are_optional() -> None:
    """Without the one from the file's position, without the other to its end."""
    with file_of() as file:
        for numbers, data in (
            ({"offset": 1000}, DATA[1000:]),
            ({"count": 1000}, DATA[:1000]),
            ({"offset": 100, "count": 50}, DATA[100:150]),
            ({"offset": len(DATA)}, b""),
            ({"offset": 5, "count": 0}, b""),
        ):
            file.seek(0)
            assert (await fetched(START, stretch(file, **numbers))).body == data
        file.seek(0)
        assert file.read(7) == DATA[:7]  # which makes Python read ahead
        assert (await fetched(START, stretch(file))).body == DATA[7:]


@RULES(FILES, "http.response.zerocopysend: type", "http.response.zerocopysend: more_body")
async def files_may_repeat_and_be_mixed_with_bodies() -> None:
    """Like any other pieces of a body."""
    with file_of() as file:
        parts = (
            stretch(file, True, offset=0, count=5),
            body(b"-", more=True),
            stretch(file, True, offset=5, count=5),
        )
        response = await fetched(START, *parts, stretch(file, offset=10))
        assert (response.body, response.framing) == (DATA[:5] + b"-" + DATA[5:], "chunked")


@RULES(FILES, "http.response.zerocopysend: file", "http.response.zerocopysend: offset")
async def what_is_no_file_raises() -> None:
    """No descriptor, none of a regular file, no numbers, or more than the file holds."""
    pipe, write = os.pipe()
    _, client, app = await asked()
    try:
        with file_of(b"file") as file, os.fdopen(pipe, "rb") as reader:
            await refuses(app.send, stretch(file))
            await app.send(START)
            await refuses(app.send, *(stretch(each) for each in (None, 1, "/path", reader)))
            for numbers in (
                {"offset": -1},
                {"count": -1},
                {"count": 5},
                {"offset": "1"},
                {"count": 1.0},
                {"offset": 3, "count": 2},
            ):
                await refuses(app.send, stretch(file, **numbers))
        await refuses(app.send, {"type": "http.response.zerocopysend"}, stretch(file))
    finally:
        os.close(write)
    await app.send(END)
    assert (await client.response()).body == b""


@RULES(FILES, "http.response.zerocopysend: file")
async def a_file_is_not_sent_where_there_is_no_body() -> None:
    """HEAD: its length is told, and the next response follows."""
    with file_of() as file:
        messages = (START, stretch(file, offset=0))
        result = await answer(*messages, raw=request("HEAD"))
        (response,) = result.client.responses("HEAD")
        assert (response.header("content-length"), response.body) == (b"%d" % len(DATA), b"")


@RULES(FILES, "http.response.zerocopysend: type", "http.response.pathsend: type")
async def files_for_a_client_that_has_left_raise_an_os_error() -> None:
    """As any other piece of a body does."""
    with file_of() as file:
        for message in (stretch(file), {"type": "http.response.pathsend", "path": file.name}):
            _, client, app = await asked()
            await app.send(START)
            client.leave()
            with pytest.raises(OSError, match="left"):
                await app.send(message)
