"""aio/websocket.py: handshake, messages and their flow (ASGI WebSocket message format 2.5)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from kit.message import WireError
from kit.rig import (
    Message,
    Receive,
    Rig,
    Scope,
    Send,
    both_loops,
    parse_responses,
    request,
    turns,
    until,
)
from kit.wire import websocket_frame
from kit.ws import ACCEPT, Frame, arrived, half_closed, handshake, opened, text_frame, waiting

__all__: list[str] = []

ACCEPTING = {"type": "websocket.accept"}
DENIAL = "websocket.http.response."


# -- the handshake ---------------------------------------------------------------------------------


@both_loops
async def test_scope_is_that_of_a_websocket() -> None:
    """WebSocket, "Connection Scope"; the fields of the request as they came."""
    rig, _, app = await waiting()
    scope = app.scope
    assert (scope["type"], scope["scheme"], scope["path"]) == ("websocket", "ws", "/ws")
    assert scope["subprotocols"] == ["chat", "superchat"]
    request_id = scope["extensions"].pop("gunicorn_asgi.request")["id"]
    assert len(request_id) == 32
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert scope["asgi"]["spec_version"] == "2.5"
    assert (b"upgrade", b"websocket") in scope["headers"]
    assert rig.counted == 1


@both_loops
async def test_handshake_waits_for_the_application() -> None:
    """WebSocket, "Connect": the server must wait for accept or close."""
    _, client, app = await waiting()
    assert await app.receive() == {"type": "websocket.connect"}
    await turns(200)
    assert client.received == b""


@pytest.mark.parametrize("received", [False, True], ids=["unread", "read"])
@both_loops
async def test_accept_with_subprotocol_and_headers(received: bool) -> None:
    """RFC 6455 section 4.2.2; who accepts without having received connect may do so."""
    rig, client, app = await waiting()
    if received:
        await app.receive()
    headers = [(b"x-a", b"b"), (b"set-cookie", b"c=d")]
    await app.send({**ACCEPTING, "subprotocol": "superchat", "headers": headers})
    await turns(3)
    (response,) = parse_responses(client.received)
    assert response.status == 101
    assert response.header("sec-websocket-accept") == ACCEPT
    assert response.header("sec-websocket-protocol") == b"superchat"
    assert (response.header("x-a"), response.header("set-cookie")) == (b"b", b"c=d")
    assert [(record.status, record.headers) for record in rig.records] == [(101, headers)]


@pytest.mark.parametrize(
    ("replaced", "status"),
    [
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Version": None}, 400),
        ({"Sec_WebSocket_Key": None}, 400),
    ],
)
@both_loops
async def test_wrong_handshake_is_answered_and_logged(
    replaced: dict[str, Any], status: int
) -> None:
    """RFC 6455 section 4.2.1 and 4.4: the application never sees it."""
    rig = Rig()
    client = rig.connect()
    client.send(handshake(**replaced) + b"what follows")
    await half_closed(client)
    (response,) = client.responses()
    assert response.status == status
    if status == 426:
        assert response.header("sec-websocket-version") == b"13"
        assert response.header("upgrade") == b"websocket"
    assert not rig.state.tasks
    assert [record.status for record in rig.records] == [status]
    (line,) = rig.complaints
    assert line.startswith(f"Refused a WebSocket handshake with {status}: ")


@both_loops
async def test_handshake_by_post_is_not_allowed() -> None:
    """RFC 6455 section 4.1: "The method of the request MUST be GET"; RFC 9110 section 15.5.6."""
    client = Rig().connect()
    client.send(handshake().replace(b"GET", b"POST", 1))
    await half_closed(client)
    (response,) = client.responses()
    assert (response.status, response.header("allow")) == (405, b"GET")


@both_loops
async def test_handshake_for_an_unknown_form_of_target_is_refused() -> None:
    """RFC 9112 section 3.2."""
    client = Rig().connect()
    client.send(handshake("ftp://host/"))
    await half_closed(client)
    assert [response.status for response in client.responses()] == [400]


@both_loops
async def test_data_behind_a_refused_handshake_is_ignored() -> None:
    """It is neither HTTP nor WebSocket, and read only so that closing does not reset."""
    rig = Rig()
    client = rig.connect()
    client.send(handshake(Sec_WebSocket_Key=None))
    protocol = client.transport.protocol
    assert isinstance(protocol, asyncio.Protocol)
    protocol.data_received(text_frame("late"))
    await half_closed(client)
    assert len(client.responses()) == 1
    assert len(rig.records) == 1


# -- before accept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [{}, {"code": 4000, "reason": "no"}, {"reason": [{"a": "list"}]}])
@both_loops
async def test_close_before_accept_is_403(extra: Message) -> None:
    """WebSocket, "Close": the handshake is refused by HTTP; FastAPI's reason may be a list."""
    rig, client, app = await waiting()
    await app.receive()
    await app.send({"type": "websocket.close", **extra})
    assert [response.status for response in client.responses()] == [403]
    assert (await app.receive())["type"] == "websocket.disconnect"
    await half_closed(client)
    assert [record.status for record in rig.records] == [403]


@pytest.mark.parametrize("pieces", [[b"no"], [b"n", b"", b"o"], [b""]])
@both_loops
async def test_denial_response_is_the_applications_own(pieces: list[bytes]) -> None:
    """Extension websocket.http.response: status, fields and body as for HTTP; then the end."""
    rig, client, app = await waiting()
    headers = [(b"x-a", b"b")]
    await app.send({"type": DENIAL + "start", "status": 401, "headers": headers})
    assert client.received == b""
    for number, piece in enumerate(pieces, 1):
        more = number < len(pieces)
        await app.send({"type": DENIAL + "body", "body": piece, "more_body": more})
    (response,) = client.responses()
    assert (response.status, response.header("x-a")) == (401, b"b")
    assert response.body == b"".join(pieces)
    assert not response.keeps_alive
    assert (await app.receive())["type"] == "websocket.connect"
    assert (await app.receive())["type"] == "websocket.disconnect"
    await half_closed(client)
    (record,) = rig.records
    assert (record.status, record.sent) == (401, len(response.body))


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("fault", [None, ValueError("oops")])
@both_loops
async def test_denial_that_is_not_finished_is_500_or_cut_off(
    fault: Exception | None, begun: bool
) -> None:
    """As for HTTP: nothing that looks complete and is not."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": DENIAL + "start", "status": 401})
        if begun:
            await send({"type": DENIAL + "body", "body": b"", "more_body": True})
        if fault:
            raise fault

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    if begun:
        await until(lambda: client.ended)
        with pytest.raises(WireError):
            client.responses()
    else:
        await half_closed(client)
        assert [response.status for response in client.responses()] == [500]
    assert len(rig.records) == 1


@pytest.mark.parametrize("fault", [None, ValueError("oops"), SystemExit(), KeyboardInterrupt()])
@both_loops
async def test_application_that_ends_before_accept_is_500(fault: BaseException | None) -> None:
    """The handshake must not hang."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if fault is not None:
            raise fault

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    await half_closed(client)
    assert [response.status for response in client.responses()] == [500]
    assert [exc for _, _, exc in rig.log.records] == [exc for exc in [fault] if exc]


@both_loops
async def test_hook_that_raises_is_500() -> None:
    """pre_request runs before the application, and is asked for handshakes, too."""
    rig = Rig()
    heads: list[object] = []

    def on_request(head: object, scope: Scope) -> None:
        heads.append(head)
        raise LookupError("hook")

    rig.state.on_request = on_request
    rig.state.on_complete = None
    client = rig.connect()
    client.send(handshake())
    await half_closed(client)
    assert [response.status for response in client.responses()] == [500]
    assert len(heads) == 1


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (text_frame("téxt"), {"text": "téxt"}),
        (text_frame(""), {"text": ""}),
        (websocket_frame(2, b"\0\xff"), {"bytes": b"\0\xff"}),
        (websocket_frame(2, b""), {"bytes": b""}),
        (websocket_frame(1, b"t", fin=False) + websocket_frame(0, b"wo"), {"text": "two"}),
    ],
    ids=["text", "empty text", "bytes", "empty bytes", "fragments"],
)
@both_loops
async def test_message_is_received_whole(data: bytes, message: Message) -> None:
    """WebSocket, "Receive": exactly one of bytes and text; fragments are put together."""
    _, _, app = await opened(data)
    assert await app.receive() == {"type": "websocket.receive", **message}


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ({"text": "téxt"}, Frame(1, "téxt".encode())),
        ({"text": ""}, Frame(1, b"")),
        ({"text": "a", "bytes": None}, Frame(1, b"a")),
        ({"bytes": b"\0\xff"}, Frame(2, b"\0\xff")),
        ({"bytes": b"", "text": None}, Frame(2, b"")),
        ({"bytes": b"x" * 100_000}, Frame(2, b"x" * 100_000)),
    ],
    ids=lambda value: repr(value)[:30],
)
@both_loops
async def test_message_is_sent_as_one_frame(message: Message, frame: Frame) -> None:
    """WebSocket, "Send"; an empty message is a message."""
    _, client, app = await opened()
    await app.send({"type": "websocket.send", **message})
    assert await arrived(client) == [frame]


@both_loops
async def test_message_of_another_type_of_bytes_or_text_is_sent() -> None:
    """Whatever holds bytes, and what is derived from str."""
    _, client, app = await opened()
    markup = type("Markup", (str,), {})("a")
    for message in (
        {"bytes": bytearray(b"a")},
        {"bytes": memoryview(b"abc")[1:]},
        {"text": markup},
    ):
        await app.send({"type": "websocket.send", **message})
    assert await arrived(client) == [Frame(2, b"a"), Frame(2, b"bc"), Frame(1, b"a")]


@both_loops
async def test_ping_is_answered_by_the_server() -> None:
    """RFC 6455 section 5.5.2; the application does not see it."""
    _, client, app = await opened(websocket_frame(9, b"ping") + text_frame("next"))
    assert await arrived(client) == [Frame(10, b"ping")]
    assert (await app.receive())["text"] == "next"


@both_loops
async def test_waiting_application_gets_a_message_as_it_arrives() -> None:
    """receive() wakes."""
    _, client, app = await opened()
    task = asyncio.ensure_future(app.receive())
    await turns()
    assert not task.done()
    client.send(text_frame("now"))
    assert (await task)["text"] == "now"


@both_loops
async def test_two_tasks_may_wait_in_receive() -> None:
    """A handler and its listener: each message goes to one, the end to both."""
    _, client, app = await opened()
    both = [asyncio.ensure_future(app.receive()) for _ in range(2)]
    await turns()
    client.send(text_frame("one"))
    await turns()
    assert [task.done() for task in both].count(True) == 1
    client.leave()
    kinds = sorted([(await task)["type"] for task in both])
    assert kinds == ["websocket.disconnect", "websocket.receive"]


@both_loops
async def test_receive_that_is_cancelled_takes_nothing_with_it() -> None:
    """asyncio.wait_for() around it, say."""
    _, client, app = await opened()
    given_up = asyncio.ensure_future(app.receive())
    await turns()
    given_up.cancel()
    client.send(text_frame("kept"))
    await turns()
    assert given_up.cancelled()
    assert (await app.receive())["text"] == "kept"


@both_loops
async def test_client_that_sends_much_before_it_is_accepted_has_to_wait() -> None:
    """Limits.read_buffer; nothing of it is lost."""
    _, client, app = await waiting(read_buffer=2000)
    client.transport.chunk = 500
    client.send(b"".join(text_frame(f"{number:0100}") for number in range(100)))
    assert 2000 < 10_600 - len(client.transport.inbound) < 3000
    await app.receive()
    await app.send(ACCEPTING)
    for number in range(100):
        assert (await app.receive())["text"] == f"{number:0100}"
    assert client.transport.inbound == b""


@both_loops
async def test_frames_behind_the_handshake_are_not_lost() -> None:
    """An impatient client sends before it has got the 101."""
    _, client, app = await waiting(text_frame("early"))
    client.send(text_frame("later"))
    assert await app.receive() == {"type": "websocket.connect"}
    await app.send(ACCEPTING)
    assert [(await app.receive())["text"] for _ in range(2)] == ["early", "later"]


@pytest.mark.parametrize(
    ("filling", "count"),
    [("", 600), ("x" * 1000, 120), ("x" * 70_000, 4)],
    ids=["small", "1 kB", "each too large"],
)
@both_loops
async def test_application_that_does_not_read_stops_the_socket(filling: str, count: int) -> None:
    """A queue bounded by bytes; on again as it is read, each message once and in order."""
    _, client, app = await opened()
    client.transport.chunk = len(text_frame("0000" + filling))
    client.send(b"".join(text_frame(f"{number:04}{filling}") for number in range(count)))
    held_back = len(client.transport.inbound)
    assert held_back >= count // 2 * client.transport.chunk
    await turns()
    assert len(client.transport.inbound) == held_back
    for number in range(count):
        assert (await app.receive())["text"] == f"{number:04}{filling}"
        await turns(2)
    assert client.transport.inbound == b""


@both_loops
async def test_slow_reader_pauses_send() -> None:
    """Core, send(): back-pressure; the end of the connection ends the waiting."""
    sent = 0
    _, client, app = await opened()
    client.transport.stall()

    async def stream() -> None:
        nonlocal sent
        for _ in range(20):
            await app.send({"type": "websocket.send", "bytes": b"x" * 50_000})
            sent += 1

    task = asyncio.ensure_future(stream())
    await turns()
    assert sent <= 1
    client.transport.catch_up()
    await until(lambda: sent == 20)
    client.transport.stall()
    task = asyncio.ensure_future(stream())
    await turns()
    assert not task.done()
    client.leave()
    with pytest.raises(OSError, match="closed"):
        await task


# -- wrong messages --------------------------------------------------------------------------------

ODD_BY_STATE: dict[str, list[Message]] = {
    "handshake": [
        {},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.send", "text": "early"},
        {"type": DENIAL + "body"},
        {"type": DENIAL + "start"},
        {"type": DENIAL + "start", "status": 200, "headers": [(b"a",)]},
        {"type": DENIAL + "start", "status": 200, "headers": [(b"a", b"\r\n")]},
        {**ACCEPTING, "headers": [(b"a", b"b\r\nc: d")]},
        {**ACCEPTING, "headers": [(b"a",)]},
        {**ACCEPTING, "headers": [("a", "b")]},
        {**ACCEPTING, "headers": [(b"sec-websocket-protocol", b"chat")]},
        {**ACCEPTING, "subprotocol": "unheard-of"},
        {**ACCEPTING, "subprotocol": b"chat"},
    ],
    "open": [
        {},
        {"type": "websocket.nonsense"},
        ACCEPTING,
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": None, "bytes": None},
        {"type": "websocket.send", "text": b"bytes"},
        {"type": "websocket.send", "bytes": "text"},
        {"type": "websocket.send", "bytes": 5},
        {"type": "websocket.close", "code": 1005},
        {"type": "websocket.close", "code": 1006},
        {"type": "websocket.close", "code": 999},
        {"type": "websocket.close", "code": 5000},
        {"type": "websocket.close", "code": "1000"},
        {"type": "websocket.close", "code": None},
        {"type": "websocket.close", "reason": b"bytes"},
        {"type": DENIAL + "start", "status": 200},
        {"type": DENIAL + "body"},
    ],
    "denial": [
        ACCEPTING,
        {"type": "websocket.close"},
        {"type": "websocket.send", "text": "late"},
        {"type": DENIAL + "start", "status": 200},
        {"type": DENIAL + "body", "body": "text"},
    ],
}
ODD = [(state, message) for state, messages in ODD_BY_STATE.items() for message in messages]


@pytest.mark.parametrize(("state", "message"), ODD, ids=[f"{s} {m}" for s, m in ODD])
@both_loops
async def test_wrong_message_is_raised_out_of_send_and_changes_nothing(
    state: str, message: Message
) -> None:
    """Core, "Error Handling": at once, and who goes on rightly ends rightly."""
    _, client, app = await (opened() if state == "open" else waiting())
    if state == "denial":
        await app.send({"type": DENIAL + "start", "status": 418})
    before = client.received
    with pytest.raises(LocalProtocolError):
        await app.send(message)
    assert client.received == before
    if state == "handshake":
        await app.send(ACCEPTING)
        await turns(3)
        assert client.responses()[0].status == 101
    elif state == "open":
        await app.send({"type": "websocket.send", "text": "still open"})
        assert await arrived(client) == [Frame(1, b"still open")]
    else:
        await app.send({"type": DENIAL + "body", "body": b"teapot"})
        assert (client.responses()[0].status, client.responses()[0].body) == (418, b"teapot")


@both_loops
async def test_request_over_plain_http_is_no_websocket() -> None:
    """Without Upgrade it is a GET like any other."""
    client = Rig().connect()
    client.send(request("GET", "/ws", {"Sec-WebSocket-Version": "13"}))
    with contextlib.suppress(WireError):
        await client.response()
    assert client.responses()[0].status == 200
