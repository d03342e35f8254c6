"""HTTP & WebSocket message format 2.5: WebSocket connections."""

from __future__ import annotations

import asyncio

import pytest

from kit.fakes import FakeApp
from kit.rig import Client, Receive, Rig, Scope, Script, Send, body, request, start, turns, until
from kit.wire import websocket_frame
from kit.ws import Frame, close_frame, frames, half_closed, handshake, text_frame
from rfc.asgi.rule import Rules, asked, refuses

__all__ = ["RULES"]

RULES = Rules("websocket")
SCOPE = "Connection Scope"

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}


async def waiting(early: bytes = b"", **fields: str) -> tuple[Rig, Client, Script]:
    """An application that has not answered the handshake yet."""
    return await asked(
        handshake(headers={k.replace("_", "-"): v for k, v in fields.items()}) + early
    )


async def opened() -> tuple[Rig, Client, Script]:
    """An application that has accepted."""
    rig, client, app = await waiting()
    assert await app.receive() == {"type": "websocket.connect"}
    await app.send(ACCEPT)
    return rig, client, app


async def scope_of(path: str = "/ws", root_path: str = "", **fields: str) -> Scope:
    """The scope of a handshake."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    _, _, app = await asked(handshake(path, headers), root_path=root_path)
    return app.scope


# -- the scope -------------------------------------------------------------------------------------


@RULES(SCOPE, "websocket scope: type", "websocket scope: scheme")
async def type_and_scheme_are_those_of_a_websocket() -> None:
    """Not of the HTTP request that asked for it; there is no method."""
    scope = await scope_of()
    assert (scope["type"], scope["scheme"]) == ("websocket", "ws")
    assert "method" not in scope


@RULES(
    "Version History",
    *("websocket scope: asgi", "websocket scope: asgi.version"),
    "websocket scope: asgi.spec_version",
)
async def versions_are_those_that_are_kept() -> None:
    """OSError out of send() since 2.4, a reason in websocket.disconnect since 2.5."""
    assert (await scope_of())["asgi"] == {"version": "3.0", "spec_version": "2.5"}


@RULES(
    SCOPE,
    *("websocket scope: http_version", "websocket scope: path", "websocket scope: raw_path"),
    *("websocket scope: query_string", "websocket scope: root_path"),
)
async def what_the_handshake_says_is_as_for_http() -> None:
    """Version, path, raw path, query string and root path, in the same forms."""
    scope = await scope_of("/a%20b?c=%20d", "/mount")
    assert scope["http_version"] == "1.1"
    assert (scope["path"], scope["raw_path"]) == ("/mount/a b", b"/a%20b")
    assert (scope["query_string"], scope["root_path"]) == (b"c=%20d", "/mount")


@RULES(SCOPE, "websocket scope: headers")
async def headers_are_those_of_the_handshake() -> None:
    """In small letters, in their order, duplicates kept."""
    raw = handshake(headers=[("X-A", "1"), ("x-a", "2"), ("Cookie", "c=d")])
    _, _, app = await asked(raw)
    assert [pair for pair in app.scope["headers"] if pair[0] in (b"x-a", b"cookie")] == [
        *[(b"x-a", b"1"), (b"x-a", b"2"), (b"cookie", b"c=d")],
    ]
    assert (b"upgrade", b"websocket") in app.scope["headers"]


@RULES(SCOPE, "websocket scope: client", "websocket scope: server")
async def client_and_server_are_as_for_http() -> None:
    """Address and port, None or (path, None) on a unix socket."""
    scope = await scope_of()
    assert tuple(scope["client"]) == ("192.0.2.1", 50000)
    assert tuple(scope["server"]) == ("192.0.2.2", 80)
    app = FakeApp(CLOSE, reads=False)
    client = Rig(app).connect(unix="/run/kit.sock", peername="", sockname=None)
    client.send(handshake())
    await until(lambda: app.scopes)
    assert app.scopes[0]["client"] is None
    assert tuple(app.scopes[0]["server"]) == ("/run/kit.sock", None)


@RULES(SCOPE, "websocket scope: subprotocols")
async def subprotocols_are_those_that_the_client_offers() -> None:
    """A list of text in its order, empty without any."""
    assert (await scope_of())["subprotocols"] == []
    scope = await scope_of(Sec_WebSocket_Protocol="chat, superchat")
    assert scope["subprotocols"] == ["chat", "superchat"]


@RULES(SCOPE, "websocket scope: state")
async def state_is_a_shallow_copy_as_for_http() -> None:
    """And absent without lifespan."""
    assert "state" not in await scope_of()
    app = FakeApp(CLOSE, reads=False)
    rig = Rig(app)
    state = rig.state.lifespan_state = {"pool": []}
    rig.connect().send(handshake())
    await until(lambda: app.scopes)
    assert app.scopes[0]["state"] == state
    assert app.scopes[0]["state"] is not state
    assert app.scopes[0]["state"]["pool"] is state["pool"]


@RULES("Extensions", "websocket scope: extensions")
async def extensions_are_those_of_a_websocket() -> None:
    """None of http.response.*, which cannot be sent here."""
    extensions = (await scope_of())["extensions"]
    assert "websocket.http.response" in extensions
    assert not [name for name in extensions if name.startswith("http.response.")]


# -- the handshake ---------------------------------------------------------------------------------


@RULES("Connect", "websocket.connect: type")
async def connect_comes_first_and_alone() -> None:
    """It has no other keys, and the handshake waits for an answer to it."""
    _, client, app = await waiting()
    assert await app.receive() == {"type": "websocket.connect"}
    await turns()
    assert client.received == b""
    assert not client.ended


@RULES("Connect", "websocket.connect: type")
async def messages_wait_for_accept() -> None:
    """What the client has sent early is received behind it, and not lost."""
    _, _, app = await waiting(text_frame("early"))
    await app.receive()
    receiving = asyncio.ensure_future(app.receive())
    await turns()
    assert not receiving.done()
    await app.send(ACCEPT)
    assert (await receiving)["text"] == "early"


@RULES("Accept", "websocket.accept: type")
async def accept_is_a_101() -> None:
    """RFC 6455 section 4.2.2."""
    _, client, _ = await opened()
    await turns()
    (response,) = client.responses()
    assert response.status == 101
    assert response.header("sec-websocket-protocol") is None


@RULES("Accept", "websocket.accept: subprotocol")
async def subprotocol_is_one_of_those_offered_or_none() -> None:
    """Another one would be refused by the client, after it had been accepted."""
    _, client, app = await waiting(Sec_WebSocket_Protocol="chat, superchat")
    await refuses(app.send, *({**ACCEPT, "subprotocol": each} for each in ("other", 1, b"chat")))
    await app.send({**ACCEPT, "subprotocol": "superchat"})
    await turns()
    assert client.responses()[0].header("sec-websocket-protocol") == b"superchat"
    _, client, app = await waiting(Sec_WebSocket_Protocol="chat")
    await app.send({**ACCEPT, "subprotocol": None})
    await turns()
    assert client.responses()[0].header("sec-websocket-protocol") is None


@RULES("Accept", "websocket.accept: headers")
async def accept_may_have_headers() -> None:
    """Since 2.1; an empty list by default, checked as those of a response are."""
    _, client, app = await waiting()
    for pair in ((b"a", b"b\r\nc: d"), ("a", b"b"), (b"a", "b"), (b":path", b"/"), (b"a b", b"")):
        await refuses(app.send, {**ACCEPT, "headers": [pair]})
    await app.send({**ACCEPT, "headers": [(b"set-cookie", b"a=b"), [b"x-kit", b"1"]]})
    await turns()
    (response,) = client.responses()
    assert (response.header("set-cookie"), response.header("x-kit")) == (b"a=b", b"1")


@RULES("Accept", "websocket.accept: headers", "websocket.accept: subprotocol")
async def headers_of_accept_do_not_name_the_subprotocol() -> None:
    """It has its own key; both would be two answers."""
    _, _, app = await waiting(Sec_WebSocket_Protocol="chat")
    await refuses(app.send, {**ACCEPT, "headers": [(b"sec-websocket-protocol", b"chat")]})


@RULES("Accept", "websocket.accept: type")
async def a_second_accept_raises() -> None:
    """There is one handshake."""
    _, _, app = await opened()
    await refuses(app.send, ACCEPT)


@RULES("Connect", "websocket.close: type")
async def close_before_accept_is_a_403() -> None:
    """Code and reason cannot be told then; the application gets websocket.disconnect."""
    for message in (CLOSE, {**CLOSE, "code": 4000, "reason": "no"}):
        _, client, app = await waiting()
        await app.receive()
        await app.send(message)
        await turns()
        assert [each.status for each in client.responses()] == [403]
        assert (await app.receive())["type"] == "websocket.disconnect"
        await half_closed(client)


@RULES(SCOPE, "websocket.connect: type")
async def an_application_that_dies_before_accept_leaves_no_handshake_open() -> None:
    """It raises, or returns: the client gets a 500."""
    for fault in (None, ValueError("oops")):

        async def app(
            scope: Scope, receive: Receive, send: Send, fault: Exception | None = fault
        ) -> None:
            await receive()
            if fault:
                raise fault

        client = Rig(app).connect()
        client.send(handshake())
        await half_closed(client)
        await turns()
        assert [each.status for each in client.responses()] == [500]


# -- messages --------------------------------------------------------------------------------------


@RULES("Receive", "websocket.receive: type", "websocket.receive: text", "websocket.receive: bytes")
async def a_message_of_the_client_is_text_or_bytes() -> None:
    """Exactly one of the keys is not None, be it empty."""
    _, client, app = await opened()
    for opcode, data in ((1, b"caf\xc3\xa9"), (2, b"\xff\0"), (1, b""), (2, b"")):
        client.send(websocket_frame(opcode, data))
        message = await app.receive()
        text, binary = message.get("text"), message.get("bytes")
        assert message["type"] == "websocket.receive"
        assert (text, binary) == ((data.decode(), None) if opcode == 1 else (None, data))


@RULES("Receive", "websocket.receive: text", "websocket.receive: bytes")
async def fragments_are_one_message() -> None:
    """RFC 6455 section 5.4; a control frame may come in between."""
    _, client, app = await opened()
    client.send(websocket_frame(1, b"a", fin=False))
    client.send(websocket_frame(9, b"ping"))
    client.send(websocket_frame(0, b"b"))
    assert (await app.receive())["text"] == "ab"


@RULES("WebSocket", "websocket.receive: type")
async def pings_are_answered_by_the_server() -> None:
    """RFC 6455 section 5.5.2; the application sees neither ping nor pong."""
    _, client, app = await opened()
    client.send(websocket_frame(9, b"still there?") + websocket_frame(10, b"") + text_frame("a"))
    assert (await app.receive())["text"] == "a"
    await turns()
    assert frames(client) == [Frame(10, b"still there?")]


@RULES("Send", "websocket.send: type", "websocket.send: text", "websocket.send: bytes")
async def a_message_of_the_application_is_text_or_bytes() -> None:
    """A key may be there and None; an empty message is one."""
    _, client, app = await opened()
    for extra in (
        *({"text": "caf\xe9"}, {"text": "a", "bytes": None}, {"text": ""}),
        *({"bytes": b"\xff"}, {"bytes": b"b", "text": None}, {"bytes": b""}),
    ):
        await app.send({"type": "websocket.send", **extra})
    told = [(1, "caf\xe9".encode()), (1, b"a"), (1, b""), (2, b"\xff"), (2, b"b"), (2, b"")]
    await turns()
    assert frames(client) == [Frame(*each) for each in told]


@RULES("Send", "websocket.send: text", "websocket.send: bytes")
async def a_message_that_is_neither_or_both_raises() -> None:
    """Exactly one of text and bytes, and of that type."""
    _, client, app = await opened()
    for extra in (
        *({}, {"text": None}, {"text": None, "bytes": None}, {"text": "a", "bytes": b"a"}),
        *({"text": b"a"}, {"bytes": "a"}, {"text": 1}, {"bytes": [1]}, {"text": "", "bytes": b""}),
    ):
        await refuses(app.send, {"type": "websocket.send", **extra})
    await turns()
    assert frames(client) == []


@RULES("Send", "websocket.send: type")
async def send_before_accept_raises() -> None:
    """There is no WebSocket yet."""
    _, _, app = await waiting()
    await refuses(app.send, {"type": "websocket.send", "text": "a"})


@RULES(SCOPE)
async def messages_of_http_are_none_of_a_websocket() -> None:
    """The type of a message matches that of the scope."""
    _, _, app = await opened()
    await refuses(app.send, start(), body())


# -- the end ---------------------------------------------------------------------------------------

END = "Disconnect"


@RULES(END, "websocket.disconnect: type", "websocket.disconnect: code")
async def disconnect_has_the_code_of_the_client() -> None:
    """1005 where its Close frame has none, 1006 where there was no frame."""
    for ending, code in ((close_frame(3001), 3001), (close_frame(None), 1005), (None, 1006)):
        _, client, app = await opened()
        if ending is None:
            client.leave()
        else:
            client.send(ending)
        message = await app.receive()
        assert (message["type"], message["code"]) == ("websocket.disconnect", code)
        assert type(message["code"]) is int


@RULES(END, "websocket.disconnect: reason")
async def disconnect_has_the_reason_of_the_client() -> None:
    """Since 2.5; text, and empty without one."""
    for reason in ("", "bye", "caf\xe9"):
        _, client, app = await opened()
        client.send(close_frame(1000, reason))
        assert (await app.receive())["reason"] == reason


@RULES(END, "websocket.disconnect: code")
async def disconnect_also_comes_when_the_server_or_the_application_has_closed() -> None:
    """With the code that was sent then."""
    rig, _, app = await opened()
    rig.drain(1001)
    assert (await app.receive())["code"] == 1001
    _, _, app = await opened()
    await app.send({**CLOSE, "code": 3002, "reason": "done"})
    message = await app.receive()
    assert (message["code"], message["reason"]) == (3002, "done")


@RULES(END, "websocket.disconnect: type")
async def disconnect_comes_behind_what_was_sent_before() -> None:
    """Messages are not overtaken."""
    _, client, app = await opened()
    client.send(text_frame("last words") + close_frame())
    assert (await app.receive())["text"] == "last words"
    assert (await app.receive())["type"] == "websocket.disconnect"


@RULES(END, "websocket.disconnect: type")
async def disconnect_comes_even_before_accept() -> None:
    """To an application that is still at it."""
    _, client, app = await waiting()
    await app.receive()
    client.leave()
    assert (await app.receive())["code"] == 1006


@RULES("Close", "websocket.close: type", "websocket.close: code", "websocket.close: reason")
async def close_has_a_code_and_a_reason() -> None:
    """1000 and none by default; the reason may also be None (since 2.3)."""
    for extra, frame in (
        ({}, (1000, "")),
        ({"code": 3000}, (3000, "")),
        ({"reason": None}, (1000, "")),
        ({"code": 4999, "reason": "caf\xe9"}, (4999, "caf\xe9")),
    ):
        _, client, app = await opened()
        await app.send({**CLOSE, **extra})
        await turns()
        (sent,) = frames(client)
        assert (sent.code, sent.payload[2:].decode()) == frame


@RULES("Close", "websocket.close: code", "websocket.close: reason")
async def a_close_that_cannot_be_sent_raises() -> None:
    """Codes that stand for something else than a frame (RFC 6455 section 7.4), wrong types."""
    _, client, app = await opened()
    for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, "1000", 1000.0, None):
        await refuses(app.send, {**CLOSE, "code": code})
    await refuses(app.send, {**CLOSE, "reason": b"bytes"}, {**CLOSE, "reason": 1})
    await turns()
    assert frames(client) == []


@RULES(SCOPE, "websocket.close: type")
async def an_application_that_is_over_closes_its_socket() -> None:
    """1000 if it returns, 1011 if it raises: a Close frame, not a bare end."""
    for fault, code in ((None, 1000), (ValueError("oops"), 1011)):

        async def app(
            scope: Scope, receive: Receive, send: Send, fault: Exception | None = fault
        ) -> None:
            await receive()
            await send(ACCEPT)
            if fault:
                raise fault

        client = Rig(app).connect()
        client.send(handshake())
        await until(lambda client=client: b" 101 " in client.received)  # type: ignore[misc]
        await until(lambda client=client: frames(client))  # type: ignore[misc]
        await turns()
        assert [each.code for each in frames(client)] == [code]


@RULES("Disconnected Client", "websocket.send: type", "websocket.close: type")
async def send_on_a_socket_that_is_closed_raises_an_os_error() -> None:
    """By the client, by the application itself, or by the loss of the connection (since 2.4)."""
    for ending in ("close", "lost", "own"):
        rig, client, app = await opened()
        if ending == "close":
            client.send(close_frame())
        elif ending == "lost":
            client.leave()
        else:
            await app.send(CLOSE)
        for message in ({"type": "websocket.send", "text": "a"}, CLOSE):
            with pytest.raises(OSError, match="closed"):
                await app.send(message)
        app.over.set()
        await until(lambda rig=rig: not rig.state.tasks)  # type: ignore[misc]
        assert rig.complaints == []


@RULES("Disconnected Client")
async def an_application_may_let_that_error_propagate() -> None:
    """It is not logged as one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.send", "text": "too late"})

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    await until(lambda: client.received)
    client.leave()
    await until(lambda: not rig.state.tasks)
    assert rig.complaints == []


@RULES("Connection Scope", "websocket scope: type")
async def a_request_that_is_no_handshake_has_no_websocket_scope() -> None:
    """The Upgrade field alone makes none; and what RFC 6455 refuses never comes so far."""
    _, _, app = await asked(request(headers={"Upgrade": "websocket"}))
    assert app.scope["type"] == "http"
    client = Rig().connect()
    client.send(handshake(Sec_WebSocket_Version="8"))
    await turns()
    assert [each.status for each in client.responses()] == [426]
