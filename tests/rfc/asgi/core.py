"""ASGI 3.0: applications, scopes, messages and errors, whatever the protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from gunicorn_asgi.aio.compat import single_callable
from gunicorn_asgi.aio.lifespan import Lifespan
from kit.fakes import FakeApp, FakeLog
from kit.message import chunked
from kit.rig import Receive, Rig, Scope, Send, body, read_all, request, respond, start, turns, until
from kit.ws import close_frame, opened, text_frame, waiting
from rfc.asgi.rule import END, START, Rules, allowed, answer, asked, refuses

__all__ = ["RULES"]

RULES = Rules("core")

TWO = request() + request(path="/2")


# -- applications and scopes -----------------------------------------------------------------------


@RULES("Applications")
async def one_call_for_each_request() -> None:
    """An HTTP scope lasts for one request, also where two come over one connection."""
    app = FakeApp()
    client = Rig(app).connect()
    client.send(TWO)
    await client.response(2)
    assert [scope["path"] for scope in app.scopes] == ["/", "/2"]


@RULES("Applications")
async def one_call_for_each_websocket() -> None:
    """A WebSocket scope lasts as long as its connection, however many messages it has."""
    rig, client, app = await opened(text_frame("a") + text_frame("b"))
    for text in "ab":
        assert (await app.receive())["text"] == text
    assert len(rig.state.tasks) == 1
    assert not client.ended


@RULES("Legacy Applications")
async def two_callables_are_served_as_well() -> None:
    """An application of ASGI 2 takes the scope first, and what it returns takes the channels."""

    class Legacy:
        def __init__(self, scope: Scope) -> None:
            self.scope = scope

        async def __call__(self, receive: Receive, send: Send) -> None:
            await respond(send, self.scope["path"].encode())

    client = Rig(single_callable(Legacy)).connect()
    client.get("/old")
    assert (await client.response()).body == b"/old"


@RULES("Connection Scope", "http scope: type", "http scope: asgi")
async def a_scope_is_a_dict_with_type_and_asgi() -> None:
    """So that an application can tell the protocol before anything else."""
    _, _, app = await asked()
    assert type(app.scope) is dict
    assert app.scope["type"] == "http"
    assert type(app.scope["asgi"]) is dict


@RULES("Connection Scope")
async def the_application_hears_nothing_of_a_connection_without_a_request() -> None:
    """Calling it is the answer to a request, not to an open connection."""
    app = FakeApp()
    client = Rig(app).connect()
    client.send(request()[:-2])
    await turns()
    assert app.scopes == []


@RULES("Middleware", "http scope: state", "http scope: headers", "http scope: extensions")
async def nothing_that_can_be_changed_is_shared_between_scopes() -> None:
    """Middleware should copy a scope before it changes it; one that does not harms only itself."""
    spoiled: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert "spoiled" not in scope["state"]
        assert "spoiled" not in scope["asgi"]
        assert "spoiled" not in scope["extensions"]
        assert not any("spoiled" in each for each in scope["extensions"].values())
        assert (b"spoiled", b"") not in scope["headers"]
        for each in (scope, *(scope[key] for key in ("state", "asgi", "extensions"))):
            each["spoiled"] = True
        for each in scope["extensions"].values():
            if isinstance(each, dict):
                each["spoiled"] = True
        scope["headers"].append((b"spoiled", b""))
        del scope["extensions"]["spoiled"]
        spoiled.append(scope)
        await respond(send)

    rig = Rig(app)
    rig.state.lifespan_state = {"pool": []}
    client = rig.connect()
    client.send(TWO)
    await client.response(2)
    other = rig.connect()
    other.get()
    assert (await other.response()).status == 200
    assert rig.complaints == []
    assert len(spoiled) == 3


# -- messages --------------------------------------------------------------------------------------


@RULES("Events")
async def scopes_and_messages_hold_only_what_may_be_serialized() -> None:
    """Bytes, text, 64-bit integers, finite floats, lists, dicts with text as keys, bool, None."""
    app = FakeApp()
    client = Rig(app).connect()
    client.send(request("POST", "/a%20b?c=d", {"X": "y"}, b"body"))
    await client.response()
    _, peer, script = await opened(text_frame("a") + close_frame(1000, "bye"))
    messages = [await script.receive() for _ in range(2)]
    peer.leave()
    for each in (*app.scopes, *app.received, script.scope, *messages):
        assert allowed(each), each


@RULES("Events")
async def every_message_has_a_type_in_the_name_space_of_its_protocol() -> None:
    """``http.*`` for http, ``websocket.*`` for websocket."""
    _, client, app = await asked(request("POST", "/", body=b"ab"))
    assert (await app.receive())["type"].startswith("http.")
    client.leave()
    assert (await app.receive())["type"].startswith("http.")
    _, client, app = await waiting()
    client.leave()
    assert [(await app.receive())["type"].partition(".")[0] for _ in range(2)] == ["websocket"] * 2


@RULES("Events", "http.response.start: headers")
async def lists_tuples_and_other_iterables_are_the_same() -> None:
    """A message that went over a network has lists where tuples were."""
    pair = (b"x-kit", b"1")
    for headers in ([pair], [list(pair)], (pair,), iter([pair]), [iter(pair)], {pair: 0}):
        result = await answer(
            {"type": "http.response.start", "status": 200, "headers": headers}, END
        )
        assert result.response.header("x-kit") == b"1", headers


@RULES("Extra Keys", "http.response.start: type", "http.response.body: type")
async def unknown_keys_of_a_message_are_ignored() -> None:
    """So that a specification can grow: by http, websocket and lifespan alike."""
    new = {"new": object(), "version": 9}
    result = await answer({**start(), **new}, {**body(b"a"), **new})
    assert (result.response.status, result.response.body) == (200, b"a")
    assert result.rig.complaints == []
    _, client, app = await waiting()
    await app.send({"type": "websocket.accept", **new})
    await app.send({"type": "websocket.send", "text": "a", **new})
    await turns()
    assert client.received.endswith(b"\x81\x01a")

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete", **new})
        await receive()

    running = Lifespan(lifespan, FakeLog())
    await running.startup()
    assert running.state.name == "UP"
    running.cancel()


NONSENSE: tuple[Any, ...] = (
    *(None, 1, "http.response.start", [], b"", {}, {"status": 200}, {"type": None}),
    *({"type": "http.response"}, {"type": "websocket.send", "text": "a"}, {"type": "http.request"}),
    {"type": b"http.response.start", "status": 200},
)


@RULES("Error Handling")
async def a_message_that_is_none_raises_out_of_send() -> None:
    """No dict, no type, an unknown type or one of another protocol: at once, not afterwards."""
    _, client, app = await asked()
    await refuses(app.send, *NONSENSE)
    await app.respond(b"all the same")
    assert (await client.response()).body == b"all the same"


@RULES("Error Handling")
async def a_message_that_is_none_raises_out_of_the_websockets_send() -> None:
    """As out of that of a request; the connection lives on."""
    _, client, app = await opened()
    await refuses(app.send, *NONSENSE[:-4], {"type": "websocket.receive", "text": "a"}, START)
    await app.send({"type": "websocket.send", "text": "a"})
    await turns()
    assert client.received.endswith(b"\x81\x01a")


@RULES("Error Handling")
async def a_refused_message_has_no_effect() -> None:
    """What raises is not written, and not half written either."""
    _, client, app = await asked()
    await refuses(app.send, start(headers=[(b"x-good", b"1"), (b"x-bad", b"a\r\nb: c")]))
    await app.send(start(201, [(b"x-kit", b"1")]))
    await refuses(app.send, {"type": "http.response.body", "body": "text"}, start())
    await app.send(body(b"ok"))
    response = await client.response()
    assert (response.status, response.body) == (201, b"ok")
    assert response.header("x-good") is None


# -- errors ----------------------------------------------------------------------------------------


@RULES("Error Handling")
async def an_exception_of_the_application_is_a_500_and_the_end_of_its_connection() -> None:
    """The server must end the call and the connection; it logs as it likes."""
    result = await answer(start(200, [(b"x-kit", b"1")]), {"type": "nonsense"}, raw=TWO)
    assert [each.status for each in result.responses] == [500]
    assert not result.response.keeps_alive
    assert result.response.header("x-kit") is None
    result.client.eof()
    await until(lambda: result.client.ended)
    assert len(result.rig.complaints) == 1


@RULES("Error Handling")
async def an_exception_in_the_middle_of_a_response_breaks_it_off() -> None:
    """What is sent already must not look complete: the connection ends instead."""
    result = await answer(START, body(b"half", more=True), {"type": "nonsense"}, raw=TWO)
    await turns()
    assert not result.client.received.endswith(b"0\r\n\r\n")
    await until(lambda: result.client.ended)
    await turns()
    assert result.client.received.count(b"HTTP/1.1") == 1


@RULES("Error Handling")
async def a_message_behind_the_end_is_no_error_in_general() -> None:
    """Unless a protocol says otherwise, which HTTP and WebSocket do for a lost connection."""
    result = await answer(START, END, END, START)
    assert result.response.status == 200
    assert result.rig.complaints == []


@RULES("Error Handling")
async def what_send_raises_for_a_lost_client_is_not_logged_as_an_error() -> None:
    """An application may let it propagate."""
    raised: list[BaseException] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send(body(b"x", more=True))
                await asyncio.sleep(0)
        except BaseException as exc:
            raised.append(exc)
            raise

    rig = Rig(app)
    client = rig.connect()
    client.get()
    await until(lambda: client.received)
    client.leave()
    await until(lambda: not rig.state.tasks)
    assert isinstance(raised[0], OSError)
    assert rig.complaints == []


# -- send and receive ------------------------------------------------------------------------------


@RULES("Applications", "http.response.body: body")
async def send_returns_when_the_data_is_on_its_way() -> None:
    """It needs nothing of the application any more: a turn of the loop, and it is written."""
    _, client, app = await asked()
    await app.send(START)
    await app.send(body(b"data", more=True))
    await asyncio.sleep(0)
    await turns()
    assert client.received.endswith(b"4\r\ndata\r\n")


@RULES("Applications")
async def send_waits_while_the_client_does_not_read() -> None:
    """The place to apply back-pressure."""
    _, client, app = await asked()
    client.transport.stall()
    await app.send(START)
    waiting = asyncio.ensure_future(app.send(body(b"x" * 200_000, more=True)))
    await turns()
    assert not waiting.done()
    client.transport.catch_up()
    await waiting


@RULES("Applications", "http.request: body", "http.request: more_body")
async def receive_waits_until_there_is_something() -> None:
    """It is a coroutine that yields the next event, and nobody polls it."""
    _, client, app = await asked(request("POST", "/", {"Transfer-Encoding": "chunked"}))
    waiting = asyncio.ensure_future(read_all(app.receive))
    await turns()
    assert not waiting.done()
    client.send(chunked(b"a", b"b"))
    assert await waiting == b"ab"


@RULES("Applications")
async def receive_and_send_do_not_wait_for_each_other() -> None:
    """One task may stream a response while another one reads the request."""
    _, client, app = await asked(request("POST", "/", {"Content-Length": "2"}))
    reading = asyncio.ensure_future(read_all(app.receive))
    await app.send(START)
    for piece in (b"a", b"b"):
        await app.send(body(piece, more=True))
        client.send(piece)
    assert await reading == b"ab"
    await app.send(END)
    assert (await client.response()).body == b"ab"


@RULES("Extra Coroutines")
async def what_an_application_has_started_is_its_own() -> None:
    """A task that outlives the call is left alone, and what it sends late does no harm."""
    late: list[asyncio.Task[None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def more() -> None:
            await asyncio.sleep(0)
            await send(body(b"late"))

        await respond(send, b"in time")
        late.append(asyncio.ensure_future(more()))

    client = Rig(app).connect()
    client.send(TWO)
    await client.response(2)
    await asyncio.gather(*late)
    await turns()
    assert [each.body for each in client.responses()] == [b"in time"] * 2


@RULES("Protocol Specifications", "lifespan scope: type")
async def an_application_that_does_not_know_a_scope_raises() -> None:
    """And the server takes that for an answer: it is served without lifespan."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError(scope["type"])

    log = FakeLog()
    lifespan = Lifespan(app, log)
    await lifespan.startup()
    assert lifespan.state.name == "UNSUPPORTED"
    assert log.lines("warning", "error") == []


@RULES("Strings and Unicode")
async def text_is_str_and_bytes_are_bytes() -> None:
    """Keys and the parts of a URL are text, fields and bodies are bytes; never a str subclass."""
    app = FakeApp()
    client = Rig(app).connect()
    client.send(request("POST", "/p?q", {"A": "b"}, b"c"))
    await client.response()
    scope, message = app.scopes[0], app.received[0]
    for key in ("type", "http_version", "method", "scheme", "path", "root_path"):
        assert type(scope[key]) is str, key
    for value in (scope["raw_path"], scope["query_string"], *scope["headers"][0], message["body"]):
        assert type(value) is bytes, value
