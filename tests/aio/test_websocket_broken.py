"""aio/websocket.py: a client that breaks a rule or a limit (RFC 6455 section 7.1.7)."""

from __future__ import annotations

import pytest

from gunicorn_asgi.protocol.errors import ClientDisconnected
from kit.rig import both_loops, until
from kit.wire import websocket_frame
from kit.ws import Frame, arrived, disconnect, half_closed, opened, text_frame

__all__: list[str] = []


@pytest.mark.parametrize("data", [text_frame("\ud7ff" * 40), websocket_frame(2, b"x" * 101)])
@both_loops
async def test_too_large_message_is_closed_with_1009(data: bytes) -> None:
    """RFC 6455 section 7.4.1; websocket_max_message_size."""
    rig, client, app = await opened(websocket_message=100)
    client.send(data)
    assert [frame.code for frame in await arrived(client)] == [1009]
    assert (await app.receive())["code"] == 1009
    await half_closed(client)
    assert rig.complaints == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (websocket_frame(1, b"\xff"), 1007),
        (websocket_frame(3, b"reserved"), 1002),
        (websocket_frame(1, b"unmasked", mask=False), 1002),
        (websocket_frame(0, b"continues nothing"), 1002),
    ],
    ids=["not UTF-8", "reserved opcode", "unmasked", "continuation of nothing"],
)
@both_loops
async def test_broken_frame_is_closed_with_its_code(data: bytes, code: int) -> None:
    """RFC 6455 section 7.1.7: fail the connection."""
    rig, client, app = await opened(data)
    assert [frame.code for frame in await arrived(client)] == [code]
    assert (await app.receive())["code"] == code
    with pytest.raises(ClientDisconnected):
        await app.send({"type": "websocket.send", "text": "late"})
    await half_closed(client)
    assert [record.status for record in rig.records] == [101, code]


@pytest.mark.parametrize("how", ["receives", "returns"])
@both_loops
async def test_what_came_before_a_broken_frame_is_answered_first(how: str) -> None:
    """The application may answer it; the code of the fault comes then, and FIN behind it."""
    _, client, app = await opened()
    client.send(text_frame("one") + text_frame("two") + websocket_frame(3, b"") + b"noise")
    client.send(text_frame("behind it"))
    for text in ("one", "two"):
        assert (await app.receive())["text"] == text
        await app.send({"type": "websocket.send", "text": text.upper()})
    assert await arrived(client) == [Frame(1, b"ONE"), Frame(1, b"TWO")]
    if how == "receives":
        assert await app.receive() == disconnect(1002, "unknown opcode 3")
    else:
        app.over.set()
    (*_, last) = await arrived(client)
    assert last.code == 1002
    await half_closed(client)


@both_loops
async def test_application_that_closes_before_it_hears_of_a_broken_frame_has_its_say() -> None:
    """One Close frame; and it is not waited for a Close frame that nobody could read."""
    _, client, app = await opened(text_frame("one") + websocket_frame(3, b""))
    await app.send({"type": "websocket.close", "code": 4000})
    assert [frame.code for frame in await arrived(client)] == [4000]
    assert await app.receive() == disconnect(4000)
    await half_closed(client)


@both_loops
async def test_broken_frame_behind_our_close_is_the_end() -> None:
    """There is no second Close frame, and the client's can no longer be read."""
    _, client, app = await opened()
    await app.send({"type": "websocket.close"})
    client.send(text_frame("discarded") + websocket_frame(3, b""))
    assert [frame.code for frame in await arrived(client)] == [1000]
    await half_closed(client)


@both_loops
async def test_connection_that_is_lost_before_it_fails_is_1006() -> None:
    """What came before is delivered all the same."""
    _, client, app = await opened(text_frame("one") + websocket_frame(3, b""))
    client.eof()
    await until(lambda: client.ended)
    assert (await app.receive())["text"] == "one"
    assert await app.receive() == disconnect(1006)
