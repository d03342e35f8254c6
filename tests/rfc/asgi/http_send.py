"""HTTP & WebSocket message format 2.5: what an HTTP application sends."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest

from kit.fakes import FakeApp
from kit.message import WireError
from kit.rig import Message, Receive, Rig, Scope, Send, body, request, respond, start, turns, until
from rfc.asgi.rule import END, START, Rules, answer, asked, refuses

__all__ = ["RULES"]

RULES = Rules("http")
HEAD, BODY = "Response Start", "Response Body"

# RFC 9110 and 9112, which the document leaves all of this to.
FRAMING = "RFC 9112 section 6"

FINAL = body(b"data")
HTTP10 = request(version="1.0")


# -- http.response.start ---------------------------------------------------------------------------


@RULES(HEAD, "http.response.start: type")
async def nothing_is_sent_before_the_first_body_message() -> None:
    """So that what fails in between is still a 500."""
    _, client, app = await asked()
    await app.send(START)
    await turns()
    assert client.received == b""
    await app.send(body(b"", more=True))
    await turns()
    assert client.received.startswith(b"HTTP/1.1 200 OK\r\n")


@RULES(HEAD, "http.response.start: status")
async def status_is_an_integer_and_required() -> None:
    """Frameworks hand on members of http.HTTPStatus, which are integers too."""
    _, _, app = await asked()
    wrong: tuple[object, ...] = (None, "200", 200.0, b"200", True, 0, 99, 1000, -200, [200])
    await refuses(app.send, {"type": "http.response.start"})
    await refuses(app.send, *({**START, "status": each} for each in wrong))
    for status in (200, 299, 404, HTTPStatus.IM_A_TEAPOT, 599, 999):
        result = await answer(start(status), FINAL)
        assert result.response.status == status


@RULES(HEAD, "http.response.start: status")
async def an_interim_status_is_no_final_one() -> None:
    """RFC 9110 section 15.2: nobody could tell what comes behind a 101."""
    _, _, app = await asked()
    await refuses(app.send, *(start(status) for status in (100, 101, 102, 103, 199)))


@RULES(HEAD, "http.response.start: headers")
async def headers_are_written_in_their_order_with_duplicates() -> None:
    """As they were sent; Set-Cookie must not be joined."""
    headers = [(b"set-cookie", b"a=1"), (b"x-kit", b""), (b"set-cookie", b"b=2")]
    response = (await answer(start(200, headers), FINAL)).response
    assert [pair for pair in response.headers if pair in headers] == headers


@RULES(HEAD, "http.response.start: headers")
async def headers_are_optional() -> None:
    """An empty list by default."""
    result = await answer({"type": "http.response.start", "status": 200}, FINAL)
    assert (result.response.status, result.response.body) == (200, b"data")


@RULES(HEAD, "http.response.start: headers")
async def headers_are_pairs_of_bytes() -> None:
    """Anything else is an error of the application, and it is told."""
    _, _, app = await asked()
    for headers in (
        *([("a", "b")], [(b"a", "b")], [("a", b"b")], [(b"a", 1)], [(b"a", None)]),
        *([(b"a",)], [(b"a", b"b", b"c")], [b"a"], [None], 1, None, "ab", b"ab"),
    ):
        await refuses(app.send, {"type": "http.response.start", "status": 200, "headers": headers})


@RULES(HEAD, "http.response.start: headers")
async def headers_of_a_response_have_no_pseudo_fields() -> None:
    """Nor any other name that is no token (RFC 9110 section 5.1)."""
    _, _, app = await asked()
    for name in (b":status", b"", b"a b", b"a\r\nb", b"a:", b"caf\xc3\xa9", b"a\0"):
        await refuses(app.send, start(headers=[(name, b"1")]))


@RULES(HEAD, "http.response.start: headers")
async def headers_cannot_split_the_response() -> None:
    """RFC 9110 section 5.5: no CR, LF, NUL or another control character in a value."""
    _, _, app = await asked()
    for value in (b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"\x1b[31m", b"\x7f", b"\r\n", b"a\r\n"):
        await refuses(app.send, start(headers=[(b"a", value)]))


@RULES(HEAD, "http.response.start: headers")
async def transfer_encoding_of_the_application_is_ignored() -> None:
    """Chunked or not is the server's alone to decide."""
    for value in (b"chunked", b"gzip", b"identity", b"gzip, chunked"):
        result = await answer(start(headers=[(b"transfer-encoding", value)]), FINAL)
        assert result.response.header("transfer-encoding") is None
        assert (result.response.framing, result.response.body) == ("length", b"data")


@RULES(HEAD, "http.response.start: headers")
async def content_length_is_one_number() -> None:
    """Two that differ, or none that is one, are an error of the application."""
    _, _, app = await asked()
    for values in (
        (b"1", b"2"),
        (b"a",),
        (b"+1",),
        (b"-1",),
        (b"1, 1",),
        (b"",),
        (b" 1",),
        (b"0x1",),
    ):
        await refuses(app.send, start(headers=[(b"content-length", each) for each in values]))
    result = await answer(start(headers=[(b"content-length", b"4")] * 2), FINAL)
    assert result.response.header("content-length") == b"4"


@RULES(HEAD, "http.response.start: type")
async def a_second_start_raises() -> None:
    """Before the body as well as behind its beginning."""
    _, _, app = await asked()
    await app.send(START)
    await refuses(app.send, START)
    await app.send(body(b"a", more=True))
    await refuses(app.send, START)


@RULES(HEAD, "http.response.start: type")
async def a_start_without_a_body_message_is_no_response() -> None:
    """At least one has to follow: the client gets a 500."""
    result = await answer(start(204))
    assert result.response.status == 500
    assert len(result.rig.complaints) == 1


@RULES(HEAD, "http.response.start: trailers")
async def trailers_are_false_by_default() -> None:
    """The response is complete with the last of its body."""
    result = await answer(START, FINAL)
    assert result.response.framing == "length"
    assert result.client.rig.records[0].status == 200


# -- http.response.body ----------------------------------------------------------------------------


@RULES(BODY, "http.response.body: type")
async def a_body_before_the_start_raises() -> None:
    """There is nothing that could be sent."""
    _, _, app = await asked()
    await refuses(app.send, FINAL, END)


@RULES(BODY, "http.response.body: body", "http.response.body: more_body")
async def both_keys_of_a_body_are_optional() -> None:
    """Empty, and the last, by default."""
    result = await answer(START, {"type": "http.response.body"})
    assert (result.response.body, result.response.keeps_alive) == (b"", True)


@RULES(BODY, "http.response.body: body")
async def a_body_is_bytes() -> None:
    """Text is not encoded for the application; other buffers of bytes are taken."""
    _, _, app = await asked()
    await app.send(START)
    for wrong in ("text", None, 1, ["a"], [b"a"]):
        await refuses(app.send, {"type": "http.response.body", "body": wrong})
    for data in (bytearray(b"data"), memoryview(b"data")):
        result = await answer(START, {"type": "http.response.body", "body": data})
        assert result.response.body == b"data"


@RULES(BODY, "http.response.body: body", "http.response.body: more_body")
async def bodies_are_put_together() -> None:
    """In their order, empty ones too, which must not look like the end."""
    pieces = (b"a", b"", b"bc", b"")
    messages = [body(each, more=True) for each in pieces]
    result = await answer(START, *messages, FINAL)
    assert (result.response.framing, result.response.body) == ("chunked", b"abcdata")


@RULES(BODY, "http.response.body: more_body")
async def behind_the_last_body_everything_is_ignored() -> None:
    """ "Any further messages on the channel will be ignored": it does not raise."""
    result = await answer(
        START, FINAL, FINAL, START, {"type": "http.response.body", "body": "text"}
    )
    assert [each.body for each in result.responses] == [b"data"]
    assert result.rig.complaints == []


@RULES(BODY, "http.response.body: more_body")
async def a_connection_that_is_kept_serves_the_next_request() -> None:
    """The end of a response is not that of its connection (RFC 9112 section 9.3)."""
    app = FakeApp()
    client = Rig(app).connect()
    for number in (1, 2):
        client.get()
        await client.response(number)
    assert len(app.scopes) == 2


# -- framing, which is left to HTTP ----------------------------------------------------------------


@RULES(FRAMING, "http.response.body: body")
async def a_response_without_content_has_no_body_bytes() -> None:
    """RFC 9110 section 6.4.1: HEAD, 204 and 304; what is sent is dropped, not written."""
    for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)):
        result = await answer(start(status), FINAL, raw=request(method))
        assert [each.body for each in result.client.responses(method)] == [b""], method
        result.client.get()
        await until(lambda: len(result.rig.records) == 2)  # noqa: B023 - it is over within the turn
        assert [each.body for each in result.client.responses(method)][:1] == [b""], method


@RULES(FRAMING, "http.response.start: headers")
async def content_length_stays_where_it_tells_of_another_response() -> None:
    """RFC 9110 section 8.6: kept for HEAD and 304, not sent with 204."""
    headers = [(b"content-length", b"99")]
    for method, status, told in (("HEAD", 200, b"99"), ("GET", 304, b"99"), ("GET", 204, None)):
        result = await answer(start(status, headers), END, raw=request(method))
        (response,) = result.client.responses(method)
        assert response.header("content-length") == told


@RULES(FRAMING, "http.response.body: body")
async def more_than_content_length_raises() -> None:
    """And nothing of it is written: it would be read as the next response."""
    _, client, app = await asked()
    await app.send(start(headers=[(b"content-length", b"3")]))
    await refuses(app.send, body(b"abcd"), body(b"abcd", more=True))
    await app.send(body(b"ab", more=True))
    await refuses(app.send, body(b"cd", more=True))
    await app.send(body(b"c"))
    assert (await client.response()).body == b"abc"


@RULES(FRAMING, "http.response.body: body")
async def less_than_content_length_is_not_complete() -> None:
    """It raises, and if nothing mends it the connection ends."""
    _, _, app = await asked()
    await app.send(start(headers=[(b"content-length", b"5")]))
    await refuses(app.send, END, FINAL)
    result = await answer(start(headers=[(b"content-length", b"5")]), body(b"a", more=True), FINAL)
    assert result.response.body == b"adata"

    async def short(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(headers=[(b"content-length", b"5")]))
        await send(body(b"a", more=True))

    client = Rig(short).connect()
    client.get()
    await until(lambda: client.ended)
    with pytest.raises(WireError):
        client.responses()


@RULES(FRAMING, "http.response.body: more_body", "http scope: http_version")
async def a_stream_is_chunked_in_1_1_and_ends_the_connection_in_1_0() -> None:
    """RFC 9112 section 6.1: no Transfer-Encoding to whoever does not know it."""
    messages: tuple[Message, ...] = (START, body(b"a", more=True), FINAL)
    assert (await answer(*messages)).response.framing == "chunked"
    result = await answer(*messages, raw=HTTP10)
    assert (result.response.framing, result.response.body) == ("close", b"adata")
    await until(lambda: result.client.ended)


@RULES(FRAMING, "http.response.start: headers")
async def connection_close_of_the_application_is_obeyed() -> None:
    """RFC 9112 section 9.6; other options of the connection are the server's."""
    result = await answer(start(headers=[(b"connection", b"close")]), FINAL)
    assert not result.response.keeps_alive
    result = await answer(start(headers=[(b"connection", b"keep-alive")]), FINAL, raw=HTTP10)
    assert not result.response.keeps_alive


# -- the end of the client -------------------------------------------------------------------------

GONE = "Disconnected Client"


@RULES(GONE, "http.response.start: type", "http.response.body: type")
async def send_to_a_client_that_has_left_raises_an_os_error() -> None:
    """Every message of the response, before and behind its start (since 2.4)."""
    for sent in ([], [START], [START, body(b"a", more=True)]):
        _, client, app = await asked()
        for message in sent:
            await app.send(message)
        client.leave()
        for message in (START, body(b"b", more=True), END):
            if message is START or sent:
                with pytest.raises(OSError, match="left"):
                    await app.send(message)


@RULES(GONE, "http.response.body: type")
async def send_that_waits_for_a_client_that_leaves_ends() -> None:
    """With the same error, as soon as it is known."""
    _, client, app = await asked()
    client.transport.stall()
    await app.send(START)
    waiting = asyncio.ensure_future(app.send(body(b"x" * 1_000_000)))
    await turns()
    assert not waiting.done()
    client.leave()
    with pytest.raises(OSError, match="left"):
        await waiting


@RULES(GONE)
async def a_response_that_is_complete_is_not_lost_with_its_client() -> None:
    """What an application sends behind it is ignored, as it would be with the client there."""
    rig, client, app = await asked()
    await app.respond()
    await client.response()
    client.leave()
    await app.send(FINAL)
    assert [record.status for record in rig.records] == [200]


@RULES(GONE)
async def an_exception_that_was_made_of_the_os_error_is_no_error_either() -> None:
    """Frameworks wrap it; the log is for what somebody has to look at."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        try:
            await respond(send)
        except OSError as exc:
            raise RuntimeError("wrapped") from exc

    rig = Rig(app)
    client = rig.connect()
    client.get()
    await until(lambda: rig.state.tasks)
    await turns()
    client.leave()
    await until(lambda: not rig.state.tasks)
    assert rig.complaints == []
