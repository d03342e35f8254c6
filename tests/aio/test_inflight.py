"""aio/inflight.py: whose code a loop runs, asked by another thread while the loop stands still."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType, SimpleNamespace
from typing import Any, ClassVar, TypeVar, cast

from gunicorn_asgi.aio import inflight
from gunicorn_asgi.aio.inflight import TaskView, owner_of, requests, tasks, whose
from gunicorn_asgi.aio.state import Owner
from gunicorn_asgi.protocol.head import RequestHead
from kit.rig import Receive, Rig, Scope, Send, both_loops, respond, until
from kit.ws import handshake

__all__: list[str] = []

T = TypeVar("T")


def rig_of(app: Callable[[Scope, Receive, Send], Any]) -> Rig:
    """A rig whose loop is the real one: tasks are known by it."""
    rig = Rig(app)
    rig.state.loop = asyncio.get_running_loop()
    return rig


def from_outside(look: Callable[[], T]) -> T:
    """Ask in another thread, for which this one waits."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(look).result(10)


def frames_of_the_loop(ident: int) -> list[FrameType]:
    frames: list[FrameType] = []
    frame: FrameType | None = sys._current_frames()[ident]
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def stuck(rig: Rig) -> Owner | None:
    """Whose code it is that calls this."""
    ident = threading.get_ident()
    return from_outside(lambda: owner_of(rig.state, frames_of_the_loop(ident)))


# -- a request in words ----------------------------------------------------------------------------


@both_loops
async def test_a_request_is_named_by_its_line_its_id_and_its_age() -> None:
    """And whether anybody waits for it any more."""
    words: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        rig.clock.advance(3.14)
        words.extend(requests(rig.state, 9))
        await respond(send)
        words.extend(requests(rig.state, 9))

    rig = rig_of(app)
    rig.connect().get("/a?b=c%22")
    await until(lambda: len(words) == 2)
    name = rig.named("GET '/a?b=c%22'")
    assert words == [f"{name}, 3.1 s old", f"{name}, 3.1 s old, after its response"]


@both_loops
async def test_a_websocket_is_named_as_one() -> None:
    owners: list[Owner | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        owners.append(stuck(rig))

    rig = rig_of(app)
    rig.connect().send(handshake("/chat"))
    await until(lambda: owners)
    assert owners[0] is not None
    head = owners[0].head
    expected = f"WebSocket GET '/chat' (request {head.request_id}), 2.0 s old"
    assert whose(owners[0], head.received + 2) == expected


def test_what_could_forge_a_line_is_escaped() -> None:
    """Or drive a terminal: bytes above ASCII are C1 controls in Latin-1."""
    head = RequestHead("GET", b"/\x9b31m\n", "1.1", [], keep_alive=True)
    owner = cast("Owner", SimpleNamespace(head=head))
    assert whose(owner, head.received) == r"GET '/\x9b31m\n', 0.0 s old"


@both_loops
async def test_the_oldest_requests_come_first_and_of_many_only_so_many() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()

    rig = rig_of(app)
    for number in range(5):
        rig.clock.advance(1)
        rig.connect().get(f"/{number}")
    await until(lambda: len(rig.state.tasks) == 5)
    words = requests(rig.state, 2)
    assert [text.split("'")[1] for text in words[:2]] == ["/0", "/1"]
    assert words[2:] == ["and 3 more"]
    assert len(requests(rig.state, 5)) == 5
    gate.set()


# -- whose code ------------------------------------------------------------------------------------


@both_loops
async def test_the_task_that_runs_tells_whose_code_it_is() -> None:
    """Of two requests at the same time, too."""
    seen: dict[str, Owner | None] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/idle":
            seen[scope["path"]] = stuck(rig)
        else:
            await asyncio.Event().wait()

    rig = rig_of(app)
    for path in ("/idle", "/a", "/b"):
        rig.connect().get(path)
    await until(lambda: len(seen) == 2)
    targets = {path: owner.head.target.decode() for path, owner in seen.items() if owner}
    assert targets == {"/a": "/a", "/b": "/b"}


class Framework:
    """Passes the scope on in the ways of frameworks, each in a task of its own."""

    def __init__(self, rig: Rig, how: str) -> None:
        self.rig = rig
        self.how = how

    async def serve(self, given: Scope) -> Owner | None:
        """Run ``look`` in another task."""
        copy = {**given, "root_path": "/mounted"}
        found: Owner | None = await asyncio.ensure_future(getattr(self, self.how)(copy))
        return found

    async def by_scope(self, scope: Scope) -> Owner | None:
        """Starlette's routes."""
        return stuck(self.rig)

    async def by_request(self, inner: Scope) -> Owner | None:
        """Starlette's endpoints."""
        request = SimpleNamespace(scope=inner)
        found = stuck(self.rig)
        del request
        return found

    async def by_self(self, inner: Scope) -> Owner | None:
        """Starlette's HTTPEndpoint."""
        return Endpoint(inner, self.rig).get()

    async def by_nothing(self, inner: Scope) -> Owner | None:
        """A task that says nothing of it."""
        return stuck(self.rig)


class Endpoint:
    """Keeps its scope."""

    def __init__(self, scope: Scope, rig: Rig) -> None:
        self.scope = scope
        self.rig = rig

    def get(self) -> Owner | None:
        """Answer."""
        return stuck(self.rig)


@both_loops
async def test_a_task_that_the_application_has_started_is_known_by_its_scope() -> None:
    """By the list of headers, which copies of a scope share; not by what is in it."""
    found: dict[str, Owner | None] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        how = scope["path"].strip("/")
        if how == "idle":
            await asyncio.Event().wait()
        found[how] = await Framework(rig, how).serve(scope)

    rig = rig_of(app)
    for how in ("idle", "by_scope", "by_request", "by_self", "by_nothing"):
        rig.connect().get(f"/{how}")
    await until(lambda: len(found) == 4)
    targets = {how: owner and owner.head.target.decode() for how, owner in found.items()}
    assert targets == {
        "by_scope": "/by_scope",
        "by_request": "/by_request",
        "by_self": "/by_self",
        "by_nothing": None,
    }


@both_loops
async def test_a_callback_of_the_loop_is_no_request() -> None:
    found: list[Owner | None] = []
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()

    rig = rig_of(app)
    rig.connect().get()
    asyncio.get_running_loop().call_soon(lambda: found.append(stuck(rig)))
    await until(lambda: found)
    assert found == [None]
    assert rig.state.tasks
    gate.set()


class Lazy:
    """Whatever it is asked, it runs code of the application."""

    asked: ClassVar[list[str]] = []

    def __getattribute__(self, name: str) -> object:
        """Remember."""
        Lazy.asked.append(name)
        return object.__getattribute__(self, name)

    @property
    def scope(self) -> dict[str, object]:
        """A property, which is not looked at."""
        raise AssertionError("asked for its scope")

    @property
    def __class__(self) -> type:
        """What isinstance() asks."""
        Lazy.asked.append("__class__")
        return dict

    @__class__.setter
    def __class__(self, _: type) -> None:
        raise AssertionError


@both_loops
async def test_no_code_of_the_application_is_run() -> None:
    """A lazy object would be evaluated, and in the wrong thread."""
    done: list[Owner | None] = []

    async def child() -> None:
        request = Lazy()
        Lazy.asked.clear()
        done.append(stuck(rig))
        assert Lazy.asked == []
        del request

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.ensure_future(child())
        await respond(send)

    rig = rig_of(app)
    client = rig.connect()
    client.get()
    await until(lambda: done)
    assert (await client.response()).status == 200
    assert done == [None]


# -- tasks -----------------------------------------------------------------------------------------


async def deep(level: int) -> None:
    """Await from far down."""
    if level:
        await deep(level - 1)
    else:
        await asyncio.Event().wait()


@both_loops
async def test_every_task_is_told_with_the_lines_where_it_waits() -> None:
    """Not only the outermost, as Task.get_stack does; those of requests first."""
    gate = asyncio.Event()

    async def inner() -> None:
        await gate.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await inner()

    rig = rig_of(app)
    other = asyncio.get_running_loop().create_task(deep(40), name="a daemon of the application's")
    rig.connect().get("/x")
    await until(lambda: len(rig.state.tasks) == 1)
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    views = from_outside(lambda: tasks(loop, rig.state))
    assert views[0].request.startswith("GET '/x' (request ")
    assert [line.function for line in views[0].lines][-3:] == ["app", "inner", "wait"]
    assert views[0].lines[-2].file == __file__
    by_name = {view.name: view for view in views}
    lines = by_name["a daemon of the application's"].lines
    assert [line.function for line in lines] == ["deep"] * 11 + ["wait"]
    assert len(lines) == inflight._DEPTH
    own = asyncio.current_task()
    assert own is not None
    assert [view.name for view in views if view.running] == [own.get_name()]
    gate.set()
    other.cancel()


@both_loops
async def test_there_may_be_tasks_before_there_is_a_state() -> None:
    """While the lifespan starts."""
    loop = asyncio.get_running_loop()
    views: list[TaskView] = tasks(loop, None)
    assert {view.request for view in views} == {""}
    assert any(view.running for view in views)
