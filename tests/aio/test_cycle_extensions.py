"""aio/response.py: trailers and early hints (ASGI extensions)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from gunicorn_asgi.protocol.errors import ClientDisconnected, LocalProtocolError
from kit.message import Response, WireError
from kit.rig import (
    Message,
    Receive,
    Rig,
    Scope,
    Send,
    body,
    both_loops,
    hello,
    request,
    respond,
    scripted,
    start,
    turns,
    until,
)

__all__: list[str] = []

TE = {"TE": "trailers"}
SUM = [(b"x-sum", b"1")]


def announcing(*headers: tuple[bytes, bytes]) -> Message:
    """Build a start that announces trailers."""
    return {**start(headers=headers), "trailers": True}


def trailers(headers: object = SUM, more: bool = False) -> Message:
    """Build ``http.response.trailers``."""
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


def hints(*links: bytes) -> Message:
    """Build ``http.response.early_hint``."""
    return {"type": "http.response.early_hint", "links": links}


# -- trailers --------------------------------------------------------------------------------------


@both_loops
async def test_response_lasts_until_the_last_of_its_trailers() -> None:
    """The announcement makes the server wait, and the next request with it."""
    rig, client, app = await scripted(request(headers=TE) + request("GET", "/next", TE))
    await app.send(announcing())
    await app.send(body(b"one", True))
    await app.send(body(b"two"))
    await turns()
    assert client.received.endswith(b"3\r\ntwo\r\n0\r\n")
    assert rig.records == []
    await app.send(trailers(more=True))
    await turns()
    assert app.scope["path"] == "/"
    await app.send(trailers([(b"x-more", b"2")]))
    response = await client.response()
    assert (response.body, response.trailers) == (b"onetwo", [(b"x-sum", b"1"), (b"x-more", b"2")])
    await until(lambda: app.scope["path"] == "/next")
    assert [record.sent for record in rig.records] == [6]


@both_loops
async def test_whole_body_in_one_message_is_chunked_for_its_trailers() -> None:
    """RFC 9110 6.5: content-length would leave no place for them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(announcing())
        await send(body(b"body"))
        await send(trailers())
        await send(trailers())  # behind the end: ignored

    client = Rig(app).connect()
    client.send(request(headers=TE) * 2)
    second = await client.response(2)
    assert (second.body, second.trailers, second.keeps_alive) == (b"body", SUM, True)


@pytest.mark.parametrize("data", [b"", b"x" * 600_000], ids=["empty", "sliced"])
@both_loops
async def test_body_of_any_size_is_followed_by_its_trailers(data: bytes) -> None:
    """The last slice ends the body, not the response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(announcing())
        await send(body(data))
        await send(trailers())

    client = Rig(app).connect()
    client.send(request(headers=TE))
    response = await client.response()
    assert (response.body, response.trailers) == (data, SUM)


DROPPED: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "not accepted": (request(), []),
    "accepted otherwise": (request(headers={"TE": "gzip"}), []),
    "of known length": (request(headers=TE), [(b"content-length", b"4")]),
    "HTTP/1.0": (request(headers={**TE, "Connection": "keep-alive"}, version="1.0"), []),
    "HEAD": (request("HEAD", headers=TE), []),
}


@pytest.mark.parametrize("case", DROPPED)
@both_loops
async def test_trailers_that_cannot_be_sent_are_waited_for_and_dropped(case: str) -> None:
    """The application need not know; the response is whole, and the connection goes on."""
    asked, headers = DROPPED[case]
    rig, client, app = await scripted(asked)
    await app.send(announcing(*headers))
    await app.send(body(b"body"))
    await turns()
    assert rig.records == []
    await app.send(trailers())
    assert [record.status for record in rig.records] == [200]
    await turns()
    (response,) = client.responses(case)
    assert (response.body, response.trailers) == (b"" if case == "HEAD" else b"body", [])
    assert response.keeps_alive
    assert not client.ended


@both_loops
async def test_streamed_body_of_http_1_0_ends_behind_the_dropped_trailers() -> None:
    """Its end is the end of the connection: so of the response."""
    _, client, app = await scripted(request(headers=TE, version="1.0"))
    await app.send(announcing())
    await app.send(body(b"one", True))
    await app.send(body(b"two"))
    await turns()
    assert not client.ended
    await app.send(trailers())
    await until(lambda: client.ended)
    assert client.responses()[0].body == b"onetwo"


WRONG: list[tuple[str, Message]] = [
    ("unannounced", trailers()),
    ("announced", trailers()),
    ("begun", trailers()),
    ("due", body(b"more")),
    ("due", start()),
    ("due", {"type": "http.response.pathsend", "path": "/dev/null"}),
    ("due", {"type": "http.response.zerocopysend", "file": None}),
    ("due", {"type": "http.nonsense"}),
    ("due", trailers(None)),
    ("due", trailers([(b"a",)])),
    ("due", trailers([("a", "b")])),
    ("due", trailers([(b"a", b"b\r\n\r\nHTTP/1.1 200 OK")])),
    ("due", trailers([(b"content-length", b"0")])),
    ("due", trailers([(b"Set-Cookie", b"a=b")])),
]


@pytest.mark.parametrize(("when", "message"), WRONG, ids=repr)
@both_loops
async def test_wrong_message_about_trailers_is_raised_out_of_send(
    when: str, message: Message
) -> None:
    """And changes nothing: who goes on rightly ends rightly."""
    _, client, app = await scripted(request(headers=TE))
    await app.send(start() if when == "unannounced" else announcing())
    if when in ("begun", "due"):
        await app.send(body(b"body", when == "begun"))
    with pytest.raises(LocalProtocolError):
        await app.send(message)
    if when != "due":
        await app.send(body(b""))
    if when != "unannounced":
        await app.send(trailers())
    response = await client.response()
    assert response.trailers == ([] if when == "unannounced" else SUM)
    assert response.keeps_alive


@both_loops
async def test_application_that_owes_its_trailers_cuts_the_response_off() -> None:
    """RFC 9112 8: without the empty line at the end, visibly incomplete."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(announcing())
        await send(body(b"body"))

    rig = Rig(app)
    client = rig.connect()
    client.send(request(headers=TE) + request("GET", "/next"))
    await until(lambda: client.ended)
    with pytest.raises(WireError):
        client.responses()
    assert client.received.endswith(b"0\r\n")
    assert rig.log.lines("error") == [
        f"The application returned without completing the response: {rig.named()}"
    ]


@both_loops
async def test_trailers_without_a_start_are_an_error() -> None:
    """Nothing was sent: 500."""
    client = Rig(lambda scope, receive, send: send(trailers())).connect()
    client.get()
    assert (await client.response()).status == 500


# -- early hints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("started", [False, True])
@both_loops
async def test_early_hints_leave_at_once_and_as_often_as_wanted(started: bool) -> None:
    """RFC 8297: before the final response is known; each link has a line of its own."""
    _, client, app = await scripted(request())
    if started:
        await app.send(start())
    await app.send(hints(b"</a.css>; rel=preload; as=style", b"</b.js>"))
    await turns()
    (first,) = client.responses()
    assert (first.status, first.reason) == (103, b"Early Hints")
    assert first.headers == [
        (b"link", b"</a.css>; rel=preload; as=style"),
        (b"link", b"</b.js>"),
    ]
    await app.send(hints(b"</c>"))
    await (app.send(body(b"ok")) if started else app.respond())
    last = await client.response(3)
    assert [each.status for each in client.responses()] == [103, 103, 200]
    assert (last.body, last.keeps_alive) == (b"ok", True)


@pytest.mark.parametrize("links", [[], iter([]), ()])
@both_loops
async def test_no_links_are_no_hint(links: Iterable[bytes]) -> None:
    """Not an empty 103."""
    _, client, app = await scripted(request())
    await app.send({"type": "http.response.early_hint", "links": links})
    await app.respond()
    assert (await client.response()).status == 200


@both_loops
async def test_http_1_0_gets_no_hint() -> None:
    """RFC 9110 15.2: "MUST NOT send a 1xx response to an HTTP/1.0 client"; checked all the same."""
    _, client, app = await scripted(request(version="1.0"))
    await app.send(hints(b"</a>"))
    with pytest.raises(LocalProtocolError):
        await app.send(hints(b"a\r\nb: c"))
    await app.respond()
    assert (await client.response()).status == 200


@both_loops
async def test_hint_that_comes_too_late_is_ignored() -> None:
    """A 103 in the middle of a body would be a part of it."""
    _, client, app = await scripted(request(headers=TE))
    await app.send(announcing())
    for message in (body(b"one", True), body(b"two"), trailers()):
        await app.send(message)
        await app.send(hints(b"</a>"))
    response = await client.response()
    assert (response.body, response.trailers) == (b"onetwo", SUM)
    assert b"103" not in client.received


BAD_LINKS: list[Any] = [
    {},
    {"links": None},
    {"links": 5},
    {"links": "</text>"},
    {"links": b"</bytes>"},
    {"links": ["</text>"]},
    {"links": [b"</a>\r\nset-cookie: split=1"]},
    {"links": [b"</fine>", b"</a>\0"]},
]


@pytest.mark.parametrize("message", BAD_LINKS, ids=repr)
@both_loops
async def test_wrong_hint_is_raised_out_of_send(message: Message) -> None:
    """CVE-2020-5249: response splitting; nothing of it leaves."""
    _, client, app = await scripted(request())
    with pytest.raises(LocalProtocolError):
        await app.send({"type": "http.response.early_hint", **message})
    await app.respond()
    assert (await client.response()).status == 200
    assert b"split" not in client.received


@both_loops
async def test_hint_does_not_take_the_place_of_the_100() -> None:
    """RFC 9110 10.1.1: a client that waits for a 100 still gets one."""
    headers = {"Expect": "100-continue", "Content-Length": "3"}
    _, client, app = await scripted(request("PUT", headers=headers))
    await app.send(hints(b"</a>"))
    reading = asyncio.ensure_future(app.receive())
    await turns()
    client.send(b"abc")
    assert (await reading)["body"] == b"abc"
    await app.respond()
    await client.response(3)
    assert [each.status for each in client.responses()] == [103, 100, 200]


@both_loops
async def test_hinted_request_that_fails_gets_500() -> None:
    """An interim response is not the response: an error can still be told."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(hints(b"</a>"))
        raise ValueError

    client = Rig(app).connect()
    client.get()
    await client.response(2)
    assert [each.status for each in client.responses()] == [103, 500]


@both_loops
async def test_hints_of_pipelined_requests_stay_with_their_responses() -> None:
    """RFC 9112 9.3.2: in the order of the requests."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(hints(scope["raw_path"]))
        await hello(scope, receive, send)

    client = Rig(app).connect()
    client.send(request("GET", "/1") + request("GET", "/2"))
    await client.response(4)

    def told(response: Response) -> bytes:
        return response.body or response.header("link") or b""

    assert [told(each) for each in client.responses()] == [b"/1", b"/1", b"/2", b"/2"]


# -- the client leaves -----------------------------------------------------------------------------


@pytest.mark.parametrize("message", [trailers(), hints(b"</a>")], ids=["trailers", "hint"])
@pytest.mark.parametrize("how", ["leave", "eof"])
@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_extension_after_the_client_has_left_raises_an_oserror(
    begun: bool, how: str, message: Message
) -> None:
    """HTTP message format 2.4: for every type of message, each time."""
    _, client, app = await scripted(request(headers=TE))
    if begun:
        await app.send(announcing())
        await app.send(body(b"body"))
        await turns()
    before = client.received
    getattr(client, how)()
    for _ in range(2):
        with pytest.raises(ClientDisconnected):
            await app.send(message)
    await turns()
    assert client.received == before
    assert client.transport.dropped == []


@both_loops
async def test_body_in_the_place_of_trailers_after_the_client_has_left_is_no_mistake() -> None:
    """Whoever is late with everything learns first that nobody listens."""
    _, client, app = await scripted(request(headers=TE))
    await app.send(announcing())
    await app.send(body(b"body"))
    client.leave()
    with pytest.raises(ClientDisconnected):
        await respond(app.send)
