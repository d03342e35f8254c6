"""HTTP & WebSocket message format 2.5: the scope of an HTTP request, and its receive()."""

from __future__ import annotations

import asyncio

import pytest

from gunicorn_asgi.aio.state import Policy
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.peer import Networks
from kit.fakes import FakeApp
from kit.message import chunked
from kit.rig import Message, Rig, Scope, read_all, request, turns, until
from rfc.asgi.rule import START, Rules, asked, refuses

__all__ = ["RULES"]

RULES = Rules("http")
SCOPE = "Connection Scope"

TRUSTING = Policy(ForwardedPolicy(peers=Networks.parse(["192.0.2.1"])))


async def scope_of(raw: bytes, root_path: str = "", **connection: object) -> Scope:
    """The scope that an application gets for that request."""
    app = FakeApp()
    client = Rig(app, root_path=root_path).connect(**connection)  # type: ignore[arg-type]
    client.send(raw)
    await until(lambda: app.scopes, "the application")
    return app.scopes[0]


# -- the scope -------------------------------------------------------------------------------------


@RULES(SCOPE, "http scope: type")
async def type_is_http() -> None:
    """For a request; a WebSocket has another."""
    assert (await scope_of(request()))["type"] == "http"


@RULES("Version History", "http scope: asgi.version", "http scope: asgi.spec_version")
async def versions_are_those_that_are_kept() -> None:
    """ASGI 3.0, and 2.5 of this document: 2.4 asks for OSError, 2.5 for a reason of a close."""
    scope = await scope_of(request())
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}


@RULES(SCOPE, "http scope: http_version")
async def http_version_is_one_of_the_list() -> None:
    """ "1.0" or "1.1", as text; "2" is not spoken here."""
    for version in ("1.0", "1.1"):
        assert (await scope_of(request(version=version)))["http_version"] == version


@RULES(SCOPE, "http scope: method")
async def method_is_text_in_capitals() -> None:
    """Methods are case-sensitive, so one in small letters is refused and not raised to capitals."""
    for method in ("GET", "POST", "OPTIONS", "PROPFIND", "M-SEARCH"):
        assert (await scope_of(request(method)))["method"] == method
    client = Rig().connect()
    client.send(request("get"))
    assert [each.status for each in client.responses()] == [501]


@RULES(SCOPE, "http scope: scheme")
async def scheme_is_http_or_https_and_never_empty() -> None:
    """By what the connection is, or by what a trusted proxy says of it."""
    assert (await scope_of(request()))["scheme"] == "http"
    app = FakeApp()
    client = Rig(app, policy=TRUSTING).connect()
    client.get("/", ("X-Forwarded-Proto", "https"))
    await client.response()
    assert app.scopes[0]["scheme"] == "https"


@RULES(SCOPE, "http scope: path")
async def path_is_decoded_twice() -> None:
    """Without the query; percent escapes first, then UTF-8. %2F is a slash here."""
    for target, path in (
        ("/a%20b", "/a b"),
        ("/caf%C3%A9", "/caf\xe9"),
        ("/a%2Fb", "/a/b"),
        ("/a%25b?c", "/a%b"),
        ("/a+b", "/a+b"),
        ("/?/x", "/"),
        ("/a//b/../c;d=e", "/a//b/../c;d=e"),
    ):
        assert (await scope_of(request(path=target)))["path"] == path


@RULES(SCOPE, "http scope: path", "http scope: raw_path")
async def path_that_is_no_utf_8_is_still_text() -> None:
    """Undefined there; U+FFFD stands for what is none, and raw_path has it as it was."""
    scope = await scope_of(request(path="/%ff%fe"))
    assert (scope["path"], scope["raw_path"]) == ("/\ufffd\ufffd", b"/%ff%fe")


@RULES(SCOPE, "http scope: path", "http scope: raw_path")
async def path_of_the_absolute_form_is_the_path() -> None:
    """RFC 9112 section 3.2.2: its authority is the Host, whatever the field says."""
    scope = await scope_of(request(path="http://example.org/p?q"))
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/p", b"/p", b"q")
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"example.org"]


@RULES(SCOPE, "http scope: path")
async def path_of_the_asterisk_form_is_the_asterisk() -> None:
    """RFC 9112 section 3.2.4, as everywhere."""
    assert (await scope_of(request("OPTIONS", "*")))["path"] == "*"


@RULES(SCOPE, "http scope: raw_path")
async def raw_path_is_as_it_came_without_the_query() -> None:
    """Bytes, which the server does not decode."""
    for target, raw in ((b"/a%20b?c=%20", b"/a%20b"), (b"/%C3%a9", b"/%C3%a9"), (b"/", b"/")):
        assert (await scope_of(request(path=target)))["raw_path"] == raw


@RULES(SCOPE, "http scope: query_string")
async def query_string_is_what_follows_the_first_question_mark() -> None:
    """Still percent-encoded; always there, empty if there is none."""
    for target, query in (
        (b"/", b""),
        (b"/?", b""),
        (b"/?a=%20b&c", b"a=%20b&c"),
        (b"/?a?b", b"a?b"),
        (b"/%3Fa", b""),
    ):
        assert (await scope_of(request(path=target)))["query_string"] == query


@RULES(SCOPE, "http scope: root_path")
async def root_path_is_empty_unless_it_is_set() -> None:
    """The same as SCRIPT_NAME."""
    assert (await scope_of(request()))["root_path"] == ""
    assert (await scope_of(request(), "/mount"))["root_path"] == "/mount"


@RULES("WSGI Compatibility", "http scope: root_path", "http scope: path")
async def path_includes_root_path() -> None:
    """PATH_INFO is what is left of path without it; a proxy may have stripped it or not."""
    for target in ("/mount/a", "/a"):
        scope = await scope_of(request(path=target), "/mount")
        assert scope["path"] == "/mount/a"
        assert scope["raw_path"] == target.encode()


@RULES(SCOPE, "http scope: headers")
async def headers_keep_order_and_duplicates() -> None:
    """Pairs of bytes; several fields of one name stay several, in their order."""
    fields = [("X-B", "1"), ("X-A", "2"), ("x-b", "3"), ("X-B", "1")]
    scope = await scope_of(request(headers=fields))
    assert [tuple(pair) for pair in scope["headers"]] == [
        (b"host", b"kit"),
        *[(b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"3"), (b"x-b", b"1")],
    ]


@RULES(SCOPE, "http scope: headers")
async def names_of_headers_are_in_small_letters() -> None:
    """Values are left as they are, without the white space around them."""
    scope = await scope_of(request(headers=[("X-MiXeD", "  MiXeD\t ")]))
    assert (b"x-mixed", b"MiXeD") in scope["headers"]


@RULES(SCOPE, "http scope: headers")
async def headers_have_no_pseudo_fields() -> None:
    """``:authority`` and its like are of HTTP/2; here a name cannot begin with a colon."""
    client = Rig().connect()
    client.send(request(headers=[(":path", "/")]))
    assert [each.status for each in client.responses()] == [400]


@RULES(SCOPE, "http scope: client")
async def client_is_address_and_port_or_none() -> None:
    """Text and a number; unknown on a unix socket."""
    host, port = (await scope_of(request()))["client"]
    assert (host, type(host), port, type(port)) == ("192.0.2.1", str, 50000, int)
    scope = await scope_of(request(), unix="/run/kit.sock", peername="", sockname=None)
    assert scope["client"] is None


@RULES(SCOPE, "http scope: server")
async def server_is_address_and_port_or_path_and_none() -> None:
    """The latter since 2.2, on a unix socket."""
    host, port = (await scope_of(request()))["server"]
    assert (host, type(host), port, type(port)) == ("192.0.2.2", str, 80, int)
    scope = await scope_of(request(), unix="/run/kit.sock", peername="", sockname=None)
    assert tuple(scope["server"]) == ("/run/kit.sock", None)


@RULES(SCOPE, "http scope: state")
async def state_is_a_shallow_copy_of_what_lifespan_left() -> None:
    """What is in it is shared, it itself is not."""
    pool: list[int] = []
    app = FakeApp()
    rig = Rig(app)
    rig.state.lifespan_state = {"pool": pool}
    for _ in range(2):
        client = rig.connect()
        client.get()
        await client.response()
    first, second = (scope["state"] for scope in app.scopes)
    assert first == second == {"pool": []}
    assert first is not second
    assert first is not rig.state.lifespan_state
    assert first["pool"] is second["pool"] is pool


@RULES(SCOPE, "http scope: state")
async def state_is_absent_without_lifespan() -> None:
    """That is how an application learns that there is none."""
    assert "state" not in await scope_of(request())


@RULES("Extensions", "http scope: extensions")
async def extensions_are_dicts_by_their_names() -> None:
    """Those that are there have a dict each; tls only on TLS."""
    extensions = (await scope_of(request()))["extensions"]
    assert all(type(each) is dict for each in extensions.values())
    assert "tls" not in extensions


@RULES(SCOPE, "http scope: headers", "http scope: client")
async def what_anybody_could_have_written_is_only_a_header() -> None:
    """Forwarded fields count for nothing in the scope unless their sender is trusted."""
    fields = [("X-Forwarded-For", "203.0.113.1"), ("X-Forwarded-Proto", "https")]
    scope = await scope_of(request(headers=fields))
    assert (tuple(scope["client"]), scope["scheme"]) == (("192.0.2.1", 50000), "http")
    assert (b"x-forwarded-for", b"203.0.113.1") in scope["headers"]


# -- receive ---------------------------------------------------------------------------------------

REQUEST = "Request"


@RULES(REQUEST, "http.request: type", "http.request: body", "http.request: more_body")
async def a_request_without_a_body_is_one_empty_message() -> None:
    """It comes all the same: the request is complete."""
    _, _, app = await asked()
    message = {"type": "http.request", "body": b"", "more_body": False}
    assert await app.receive() == message


@RULES(REQUEST, "http.request: body", "http.request: more_body")
async def a_body_is_streamed_as_it_comes() -> None:
    """Several messages, of which only the last has no more_body."""
    _, client, app = await asked(request("POST", "/", {"Content-Length": "4"}))
    found: list[Message] = []
    for piece in (b"a", b"bc", b"d"):
        client.send(piece)
        found.append(await app.receive())
    assert [each["body"] for each in found] == [b"a", b"bc", b"d"]
    assert [each["more_body"] for each in found] == [True, True, False]


@RULES(REQUEST, "http.request: body")
async def chunks_are_taken_apart() -> None:
    """And trailers of a request are nothing of its body, nor of its headers."""
    raw = request("POST", "/", {"Transfer-Encoding": "chunked"})
    _, _, app = await asked(raw + chunked(b"ab", b"c")[:-2] + b"X-Late: 1\r\n\r\n")
    assert await read_all(app.receive) == b"abc"
    assert b"x-late" not in dict(app.scope["headers"])


@RULES(REQUEST, "http.request: more_body")
async def a_body_that_was_broken_off_is_never_complete() -> None:
    """By length, chunked, or malformed: what follows is http.disconnect."""
    length = request("POST", "/", {"Content-Length": "4"}) + b"ab"
    chunks = request("POST", "/", {"Transfer-Encoding": "chunked"}) + b"2\r\nab\r\n"
    for raw, ending in ((length, b""), (chunks, b""), (chunks, b"bad\r\n\r\n"), (chunks, b"0\r\n")):
        _, client, app = await asked(raw)
        reading = asyncio.ensure_future(read_all(app.receive))
        await turns()
        client.send(ending)
        client.eof()
        assert await reading is None, (raw, ending)


@RULES(REQUEST, "http.request: body")
async def a_100_is_sent_when_the_body_is_awaited() -> None:
    """RFC 9110 section 10.1.1: not before, not twice, and never behind a final status."""
    fields = {"Expect": "100-continue", "Content-Length": "2"}
    _, client, app = await asked(request("POST", "/", fields))
    await turns()
    assert client.received == b""
    reading = asyncio.ensure_future(read_all(app.receive))
    await turns()
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"ab")
    assert await reading == b"ab"
    _, client, app = await asked(request("POST", "/", fields))
    await app.respond()
    await app.receive()
    assert b" 100 " not in client.received


@RULES("Disconnect", "http.disconnect: type")
async def disconnect_comes_behind_the_response() -> None:
    """Whoever calls receive() then learns that it is over; there are no other keys."""
    _, _, app = await asked()
    await app.receive()
    await app.respond()
    for _ in range(3):
        assert await app.receive() == {"type": "http.disconnect"}


@RULES("Disconnect", "http.disconnect: type")
async def disconnect_comes_when_the_client_has_left() -> None:
    """Also to an application that already waits for it, as a long poll does."""
    _, client, app = await asked()
    await app.receive()
    waiting = asyncio.ensure_future(app.receive())
    await turns()
    assert not waiting.done()
    client.leave()
    assert await waiting == {"type": "http.disconnect"}


@RULES("Disconnect", "http.request: body")
async def a_request_that_came_in_whole_is_read_before_disconnect() -> None:
    """The client has left, but what it sent is there."""
    _, client, app = await asked(request("POST", "/", body=b"all"))
    client.leave()
    assert await read_all(app.receive) == b"all"
    assert (await app.receive())["type"] == "http.disconnect"


@RULES("Disconnected Client")
async def send_raises_behind_disconnect() -> None:
    """Once http.disconnect was received, the next send() raises an OSError (since 2.4)."""
    for messages in ((START,), (START, {"type": "http.response.body", "body": b"a"})):
        _, client, app = await asked()
        for message in messages[:-1]:
            await app.send(message)
        client.leave()
        await app.receive()
        assert (await app.receive())["type"] == "http.disconnect"
        with pytest.raises(OSError, match="left"):
            await app.send(messages[-1])


@RULES("Disconnected Client")
async def a_message_that_is_none_is_one_all_the_same() -> None:
    """The client is gone, and the application wrong: it is told the latter where it can be."""
    _, client, app = await asked()
    client.leave()
    await refuses(app.send, {"type": "nonsense"}, None)
