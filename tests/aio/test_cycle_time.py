"""aio/cycle.py: asgi_request_timeout, an application in place of the other, and request ids."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gunicorn_asgi.aio.state import Policy, ServerState
from gunicorn_asgi.protocol.errors import ClientDisconnected
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from kit.message import WireError
from kit.rig import (
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

# -- asgi_request_timeout --------------------------------------------------------------------------


@pytest.mark.parametrize("done", ["nothing", "started", "hinted"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@both_loops
async def test_request_that_takes_too_long_gets_504_and_is_cancelled(
    version: str, done: str
) -> None:
    """RFC 9110 15.6.5; as long as nothing of the response has left, it can be another one."""
    rig, client, app = await scripted(request(version=version))
    if done == "started":
        await app.send(start(200, [(b"x-mine", b"1")]))
    elif done == "hinted":
        await app.send({"type": "http.response.early_hint", "links": [b"</a>"]})
    client.http.answer_expired()
    await until(lambda: not rig.state.tasks)
    response = client.responses()[-1]
    assert (response.status, response.version) == (504, version)
    assert (response.keeps_alive, response.header("x-mine")) == (False, None)
    assert [record.status for record in rig.records] == [504]
    assert rig.complaints == [f"Cancelled at the end of asgi_request_timeout: {rig.named()}"]
    assert not app.over.is_set()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@both_loops
async def test_response_that_takes_too_long_is_cut_off(version: str) -> None:
    """RFC 9112 8: it must not look like a whole one."""
    rig, client, app = await scripted(request(version=version) + request("GET", "/next"))
    await app.send(start())
    await app.send(body(b"begun", True))
    client.http.answer_expired()
    await until(lambda: client.ended and not rig.state.tasks)
    if version == "1.0":
        assert client.transport.aborted
    else:
        with pytest.raises(WireError):
            client.responses()
    assert client.received.count(b"HTTP/1.") == 1
    assert [(record.status, record.sent) for record in rig.records] == [(200, 5)]
    assert rig.complaints == [f"Cancelled at the end of asgi_request_timeout: {rig.named()}"]


@both_loops
async def test_complete_response_is_not_too_late() -> None:
    """Background work may go on: the client has its answer."""
    rig, client, app = await scripted(request())
    await app.respond()
    client.http.answer_expired()
    await turns()
    assert app.task is not None
    assert not app.task.done()
    assert (await client.response()).keeps_alive
    assert rig.complaints == []


@both_loops
async def test_client_that_left_before_is_told_nothing() -> None:
    """And the log neither."""
    rig, client, _ = await scripted(request("POST", headers={"Content-Length": "5"}))
    client.http._reading = None
    client.http._current.lose()  # type: ignore[union-attr]
    client.http.answer_expired()
    await turns()
    assert client.received == b""
    assert [record.status for record in rig.records] == [499]
    assert rig.complaints == []


@both_loops
async def test_application_that_does_not_let_itself_be_cancelled_learns_that_nobody_listens() -> (
    None
):
    """Whatever it sends then is too late; what it raises then is its own fault."""
    raised: list[type[BaseException]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
            assert await receive() == {"type": "http.disconnect"}
            try:
                await respond(send)
            except ClientDisconnected as exc:
                raised.append(type(exc))
        raise ValueError("after all")

    rig = Rig(app)
    client = rig.connect()
    client.get()
    await turns()
    client.http.answer_expired()
    await until(lambda: not rig.state.tasks)
    assert raised == [ClientDisconnected]
    assert [each.status for each in client.responses()] == [504]
    assert rig.log.lines("error") == [f"The application raised ValueError: {rig.named()}"]


@both_loops
async def test_limit_of_one_request_is_not_that_of_the_next() -> None:
    """Limits.request: each has the whole time, from its turn on."""
    rig, client, app = await scripted(request() + request("GET", "/next"), request=10.0)
    rig.clock.advance(9)
    await app.respond()
    await until(lambda: app.scope["path"] == "/next")
    rig.clock.advance(9)
    await turns()
    await app.respond()
    await client.response(2)
    assert [each.status for each in client.responses()] == [200, 200]
    assert rig.complaints == []


# -- another application in its place --------------------------------------------------------------


@both_loops
async def test_other_application_answers_in_its_place() -> None:
    """Shedding: the application is not asked, hooks and records are as always."""
    rig = Rig(hello)
    announced: list[str] = []
    rig.state.on_request = lambda head, scope: announced.append(scope["path"])

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"other", 503)

    rig.state.sheds = True
    client = rig.connect()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gunicorn_asgi.aio.http1.overloaded_app", other)
        patch.setattr(ServerState, "overloaded", lambda state: True)
        client.get("/a")
        response = await client.response()
    assert (response.status, response.body, response.keeps_alive) == (503, b"other", True)
    rig.state.sheds = False
    client.get("/b")
    assert (await client.response(2)).body == b"/b"
    assert announced == ["/a", "/b"]
    assert [record.status for record in rig.records] == [503, 200]


# -- request ids -----------------------------------------------------------------------------------


def with_ids(field: bytes = b"x-request-id") -> Policy:
    """Send ids in responses, in that field."""
    return Policy(request_id_response=field)


def id_of(scope: Scope) -> bytes:
    """The id that the application is told."""
    told: str = scope["extensions"]["gunicorn_asgi.request"]["id"]
    return told.encode()


@both_loops
async def test_id_is_in_the_response_if_wanted() -> None:
    """Settings asgi_request_id_response; to be quoted by whoever complains."""
    ids: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ids.append(id_of(scope))
        await hello(scope, receive, send)

    rig = Rig(app, policy=with_ids())
    client = rig.connect()
    client.send(request() * 2)
    await client.response(2)
    assert [each.header("x-request-id") for each in client.responses()] == ids
    assert ids[0] != ids[1]
    assert [dict(record.headers)[b"x-request-id"] for record in rig.records] == ids


@pytest.mark.parametrize("name", [b"x-request-id", b"X-Request-ID"])
@both_loops
async def test_id_of_the_application_wins(name: bytes) -> None:
    """Once, and as it says."""
    headers = [(name, b"mine")]
    client = Rig(
        lambda scope, receive, send: respond(send, headers=headers), policy=with_ids()
    ).connect()
    client.get()
    assert (await client.response()).header("x-request-id") == b"mine"


@pytest.mark.parametrize("headers", [[(5, b"a")], [("x-request-id", b"a")], [(None, None)]])
@both_loops
async def test_wrong_headers_are_wrong_with_an_id_too(headers: Any) -> None:  # noqa: ANN401 - any
    """And the 500 carries it: this is the response that will be asked about."""
    rig = Rig(lambda scope, receive, send: respond(send, headers=headers), policy=with_ids())
    client = rig.connect()
    client.get()
    response = await client.response()
    assert response.status == 500
    assert response.header("x-request-id") == rig.records[0].head.request_id.encode()


@pytest.mark.parametrize(
    "policy", [None, with_ids(b""), Policy(ForwardedPolicy(request_id_field=b""))]
)
@both_loops
async def test_id_is_not_in_the_response_unless_wanted(policy: Policy | None) -> None:
    """Off by default; and without ids there is nothing to send."""
    client = Rig(policy=policy).connect()
    client.get()
    assert (await client.response()).header("x-request-id") is None


@both_loops
async def test_request_without_id_is_named_without() -> None:
    """asgi_request_id_field: nothing; and no field in the response, whatever else is set."""
    policy = Policy(ForwardedPolicy(request_id_field=b""), request_id_response=b"x-request-id")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError

    rig = Rig(app, policy=policy)
    client = rig.connect()
    client.get()
    assert (await client.response()).header("x-request-id") is None
    assert rig.log.lines("error") == ["The application raised ValueError: GET '/'"]
