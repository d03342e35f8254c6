"""What the connections tell the access log: bytes both ways, the first byte, the pieces."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from kit.rig import Rig, body, both_loops, request, scripted, start, turns, until, zerocopy
from kit.ws import half_closed, handshake, opened, text_frame, waiting

if TYPE_CHECKING:
    from gunicorn_asgi.protocol.accesslog import AccessRecord

__all__: list[str] = []

CHUNKED = {"Transfer-Encoding": "chunked"}
DENIAL = "websocket.http.response."


def told(record: AccessRecord) -> tuple[int, int, int, float | None, float]:
    """Bytes in, bytes out, pieces, first byte, duration."""
    first, duration = record.first_byte, round(record.duration, 6)
    rounded = None if first is None else round(first, 6)
    return record.received, record.sent, record.pieces, rounded, duration


@both_loops
async def test_a_response_that_is_sent_whole_begins_when_it_ends() -> None:
    """The clock is asked once."""
    rig, _, app = await scripted(request("POST", "/", body=b"12345"))
    rig.clock.advance(0.5)
    await app.respond(b"okay")
    assert [told(each) for each in rig.records] == [(5, 4, 0, 0.5, 0.5)]


@both_loops
async def test_a_stream_has_its_first_byte_and_its_pieces() -> None:
    """As server-sent events are sent; bytes without their framing."""
    rig, _, app = await scripted(request())
    await app.send(start())
    rig.clock.advance(1.0)
    for _ in range(3):
        await app.send(body(b"data", more=True))
        rig.clock.advance(1.0)
    await app.send(body())
    assert [told(each) for each in rig.records] == [(0, 12, 3, 1.0, 4.0)]


@both_loops
async def test_a_large_body_is_one_message() -> None:
    """It goes out in slices, the first of which has the head."""
    rig, _, app = await scripted(request())
    rig.clock.advance(0.25)
    await app.respond(bytes(300_000))
    assert [told(each) for each in rig.records] == [(0, 300_000, 0, 0.25, 0.25)]


@both_loops
async def test_a_response_with_trailers_begins_with_its_head() -> None:
    """However late these come."""
    rig, client, app = await scripted(request(headers={"TE": "trailers", "Connection": "TE"}))
    await app.send({**start(), "trailers": True})
    await app.send(body(b"body"))
    rig.clock.advance(2.0)
    await app.send({"type": "http.response.trailers", "headers": [(b"a", b"b")]})
    await client.response()
    assert [told(each) for each in rig.records] == [(0, 4, 0, 0.0, 2.0)]


@both_loops
async def test_a_file_counts_as_a_piece_if_more_follows() -> None:
    """zerocopysend."""
    rig, _, app = await scripted(request())
    with tempfile.TemporaryFile() as file:
        file.write(b"filelast")
        file.flush()
        await app.send(start())
        rig.clock.advance(1.0)
        await app.send(zerocopy(file, offset=0, count=4, more_body=True))
        rig.clock.advance(1.0)
        await app.send(zerocopy(file, offset=4, count=4))
    assert [told(each) for each in rig.records] == [(0, 8, 1, 1.0, 2.0)]


@both_loops
async def test_what_came_in_is_counted_until_the_response_is_over() -> None:
    """An application need not read; what the client sends behind the answer is not counted."""
    rig, client, app = await scripted(request("POST", "/", CHUNKED) + b"4\r\nping\r\n")
    await app.respond()
    client.send(b"4\r\npong\r\n0\r\n\r\n")
    await turns()
    assert [each.received for each in rig.records] == [4]


@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_who_left_before_the_head_got_no_first_byte(begun: bool) -> None:
    """499, with what was sent by then."""
    rig, client, app = await scripted(request())
    rig.clock.advance(1.0)
    if begun:
        await app.send(start())
        await app.send(body(b"data", more=True))
        rig.clock.advance(1.0)
    client.leave()
    (record,) = rig.records
    assert record.status == 499
    assert told(record) == ((0, 4, 1, 1.0, 2.0) if begun else (0, 0, 0, None, 1.0))


@both_loops
async def test_an_error_page_of_ours_is_a_first_byte() -> None:
    """500 for an application that ends without an answer."""
    rig, client, app = await scripted(request())
    rig.clock.advance(1.0)
    app.over.set()
    assert (await client.response()).status == 500
    assert [told(each)[3] for each in rig.records] == [1.0]


@both_loops
async def test_without_an_access_log_no_clock_is_asked_for_the_first_byte() -> None:
    """Nor for each piece; once for the Date field."""
    rig, client, app = await scripted(request())
    rig.state.on_complete = None
    asked = 0

    def clock() -> float:
        nonlocal asked
        asked += 1
        return rig.clock.time()

    rig.state.clock = clock
    await app.send(start())
    for _ in range(3):
        await app.send(body(b"data", more=True))
    assert asked == 1
    await app.send(body())
    assert (await client.response()).body == b"data" * 3


# -- WebSockets ------------------------------------------------------------------------------------


@both_loops
async def test_a_websocket_begins_with_the_answer_to_its_handshake() -> None:
    """In both of its records."""
    rig, client, app = await waiting()
    rig.clock.advance(0.5)
    await app.send({"type": "websocket.accept"})
    rig.clock.advance(9.5)
    await app.send({"type": "websocket.send", "text": "hello"})
    client.send(text_frame("three"))
    await turns()
    client.leave()
    await until(lambda: len(rig.records) == 2)
    opening, end = rig.records
    assert told(opening) == (0, 0, 0, 0.5, 0.5)
    assert told(end) == (0, 7, 0, 0.5, 10.0)
    assert end.figures is not None
    assert (end.figures.received, end.figures.sent, end.figures.bytes_received) == (1, 1, 11)


@both_loops
async def test_a_denial_begins_with_its_first_piece() -> None:
    """websocket.http.response: streamed or whole."""
    rig, client, app = await waiting()
    await app.send({"type": DENIAL + "start", "status": 403, "headers": []})
    rig.clock.advance(1.0)
    await app.send({"type": DENIAL + "body", "body": b"no", "more_body": True})
    rig.clock.advance(1.0)
    await app.send({"type": DENIAL + "body", "body": b"!"})
    await half_closed(client)
    assert [told(each) for each in rig.records] == [(0, 3, 0, 1.0, 2.0)]


@both_loops
async def test_a_refused_handshake_is_answered_at_once() -> None:
    """And one that nobody has answered is not."""
    rig = Rig()
    client = rig.connect()
    client.send(handshake(Sec_WebSocket_Version="12"))
    await half_closed(client)
    assert [(each.status, each.first_byte) for each in rig.records] == [(426, 0.0)]
    rig, client, _ = await waiting()
    client.leave()
    await until(lambda: rig.records)
    assert [(each.status, each.first_byte) for each in rig.records] == [(499, None)]


@both_loops
async def test_a_websocket_without_an_access_log_asks_no_clock() -> None:
    """Denials included."""
    rig, client, app = await waiting()
    rig.state.on_complete = None
    await app.send({"type": DENIAL + "start", "status": 403, "headers": []})
    await app.send({"type": DENIAL + "body", "body": b"no"})
    await half_closed(client)
    rig, client, _ = await opened()
    assert [each.status for each in rig.records] == [101]
