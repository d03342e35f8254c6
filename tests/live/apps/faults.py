"""One path for each way in which an application can be wrong; ``/ok`` is right."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Fault = Callable[[Receive, Send], Coroutine[Any, Any, None]]

KEPT: set[asyncio.Task[None]] = set()
SEEN: dict[str, int] = {}


class Odd(BaseException):
    """Neither an Exception nor one of the exits that Python knows."""


def start(*headers: tuple[object, object], status: object = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: object, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def sends(*messages: Message) -> Fault:
    """An application that sends these messages, right or wrong, and returns."""

    async def fault(receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return fault


def raises(error: BaseException | type[BaseException], *messages: Message) -> Fault:
    """An application that sends these messages and then raises."""

    async def fault(receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise error

    return fault


async def exits_in_background(receive: Receive, send: Send) -> None:
    async def background() -> None:
        sys.exit(7)

    task = asyncio.get_running_loop().create_task(background())
    KEPT.add(task)
    task.add_done_callback(KEPT.discard)
    await asyncio.sleep(0.001)
    await sends(start(), body(b"whole"))(receive, send)


async def never_answers(receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def waits_on_after_disconnect(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    await asyncio.Event().wait()


async def reads_on_after_disconnect(receive: Receive, send: Send) -> None:
    while True:
        await receive()


async def sends_on_after_disconnect(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    try:
        while True:
            await send(start())
    except OSError as error:
        name = type(error).__name__
        SEEN[name] = SEEN.get(name, 0) + 1
        raise


async def swallows_its_mistake(receive: Receive, send: Send) -> None:
    try:
        await send(start((b"x y", b"1"), status=201))
    except RuntimeError:
        await sends(start((b"x-second", b"try")), body(b"whole"))(receive, send)


LENGTH_10 = (b"content-length", b"10")
LENGTH_4 = (b"content-length", b"4")

# Nothing has left the worker: a 500.
BEFORE: dict[str, Fault] = {
    "raises before start": raises(ValueError("secret")),
    "raises between start and body": raises(ValueError("secret"), start()),
    "header name with a space": sends(start((b"x y", b"1")), body(b"")),
    "empty header name": sends(start((b"", b"1")), body(b"")),
    "header name with CR LF": sends(start((b"x\r\nset-cookie", b"1")), body(b"")),
    "header value with CR LF": sends(start((b"x", b"1\r\nset-cookie: a=b")), body(b"")),
    "header value with LF": sends(start((b"x", b"1\nset-cookie: a=b")), body(b"")),
    "header value with NUL": sends(start((b"x", b"1\0")), body(b"")),
    "header name of str": sends(start(("x", b"1")), body(b"")),
    "header value of str": sends(start((b"x", "1")), body(b"")),
    "header without value": sends({**start(), "headers": [(b"x",)]}, body(b"")),
    "headers None": sends({**start(), "headers": [None]}, body(b"")),
    "status of str": sends(start(status="200"), body(b"")),
    "status None": sends(start(status=None), body(b"")),
    "status 99": sends(start(status=99), body(b"")),
    "status 101": sends(start(status=101), body(b"")),
    "status 1000": sends(start(status=1000), body(b"")),
    "no status": sends({"type": "http.response.start"}, body(b"")),
    "two starts": sends(start(), start(), body(b"")),
    "body before start": sends(body(b"whole")),
    "body of str": sends(start(), body("whole")),
    "unknown message type": sends({"type": "http.response.nonsense"}),
    "message without type": sends({"status": 200}),
    "message of another protocol": sends({"type": "websocket.accept"}),
    "content-length too long": sends(start(LENGTH_10), body(b"four")),
    "content-length too short": sends(start(LENGTH_4), body(b"far too long")),
    "content-length no number": sends(start((b"content-length", b"ten")), body(b"")),
    "content-length negative": sends(start((b"content-length", b"-1")), body(b"")),
    "content-length empty": sends(start((b"content-length", b"")), body(b"")),
    "two content-lengths": sends(start(LENGTH_4, LENGTH_10), body(b"four")),
    "SystemExit": raises(SystemExit(3)),
    "KeyboardInterrupt": raises(KeyboardInterrupt),
    "CancelledError": raises(asyncio.CancelledError),
    "GeneratorExit": raises(GeneratorExit),
    "StopAsyncIteration": raises(StopAsyncIteration),
    "a BaseException of its own": raises(Odd("secret")),
    "an OSError of its own": raises(ConnectionResetError("secret")),
    "SystemExit after start": raises(SystemExit(3), start()),
    "returns without a message": sends(),
    "returns after start": sends(start()),
}

# Part of the body is out, "part" in each case: the response is cut, visibly.
AMID: dict[str, Fault] = {
    "raises amid chunks": raises(ValueError("secret"), start(), body(b"part", True)),
    "raises amid a length": raises(ValueError("secret"), start(LENGTH_10), body(b"part", True)),
    "SystemExit amid chunks": raises(SystemExit(3), start(), body(b"part", True)),
    "CancelledError amid chunks": raises(asyncio.CancelledError, start(), body(b"part", True)),
    "GeneratorExit amid chunks": raises(GeneratorExit, start(), body(b"part", True)),
    "second start amid chunks": sends(start(), body(b"part", True), start(status=404)),
    "unknown type amid chunks": sends(start(), body(b"part", True), {"type": "nonsense"}),
    "body of str amid chunks": sends(start(), body(b"part", True), body("more")),
    "returns amid chunks": sends(start(), body(b"part", True)),
    "returns amid a length": sends(start(LENGTH_10), body(b"part", True)),
    "ends before its length": sends(start(LENGTH_10), body(b"part", True), body(b"")),
    "overruns its length": sends(start(LENGTH_10), body(b"part", True), body(b"far too long")),
}

# The response is complete, "whole" in each case, and the fault hurts nobody.
AFTER: dict[str, Fault] = {
    "raises after the response": raises(ValueError("secret"), start(), body(b"whole")),
    "SystemExit after the response": raises(SystemExit(3), start(), body(b"whole")),
    "GeneratorExit after the response": raises(GeneratorExit, start(), body(b"whole")),
    "start after the response": sends(start(), body(b"whole"), start(status=404)),
    "body after the response": sends(start(), body(b"whole"), body(b"more")),
    "transfer-encoding of its own": sends(
        start((b"transfer-encoding", b"chunked")), body(b"whole")
    ),
    "transfer-encoding and streaming": sends(
        start((b"transfer-encoding", b"gzip, chunked")), body(b"who", True), body(b"le")
    ),
    "one content-length twice": sends(
        start((b"content-length", b"5"), (b"content-length", b"5")), body(b"whole")
    ),
    "mistake swallowed": swallows_its_mistake,
}

# There never is a response: it is the client that leaves.
NEVER: dict[str, Fault] = {
    "never answers": never_answers,
    "waits on after disconnect": waits_on_after_disconnect,
    "reads on after disconnect": reads_on_after_disconnect,
    "sends on after disconnect": sends_on_after_disconnect,
}

# Not the fault of one request: it is the whole process that is asked to exit.
EXITS: dict[str, Fault] = {"sys.exit in a background task": exits_in_background}

FAULTS: dict[str, Fault] = {
    name.replace(" ", "_"): fault
    for table in (BEFORE, AMID, AFTER, NEVER, EXITS)
    for name, fault in table.items()
}


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    name = scope["path"].lstrip("/")
    if name == "ok":
        await sends(start(), body(b"ok " + scope["query_string"]))(receive, send)
    elif name == "tasks":
        count = b"%d" % len(asyncio.all_tasks())
        await sends(start(), body(count))(receive, send)
    elif name == "held":
        await asyncio.sleep(0.3)
        await sends(start(), body(b"held"))(receive, send)
    elif name == "seen":
        await sends(start(), body(repr(SEEN).encode()))(receive, send)
    else:
        await FAULTS[name](receive, send)
