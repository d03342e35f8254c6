"""What applications send, to the byte, from a real worker on either loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.wire import Response, Wire, WireError, request
from rfc.answer import Answer
from rfc.case import get
from rfc.cases import messages, responses
from rfc.run import SOURCE, probe, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.master import Master

__all__: list[str] = []

pytestmark = [pytest.mark.live, pytest.mark.slow]

CASES = (*responses.CASES, *messages.CASES)
ANSWERS = {case.slug: case for case in CASES}


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker for all."""
    with worker(request.param) as master:
        yield master


@pytest.mark.parametrize("name", ANSWERS)
def test_answer(server: Master, name: str) -> None:
    case = ANSWERS[name]
    with Wire(server.connect()) as wire:
        wire.send(request(*case.request))
        if case.cut:
            with pytest.raises(WireError, match="instead of"):
                read(wire, case)
            return
        response = read(wire, case)
        check(response, case)
        if case.keeps:
            probe(wire)
        else:
            wire.recv_eof()


def read(wire: Wire, case: Answer) -> Response:
    """The final response, and as many hints as there have to be before it."""
    hints = 0
    while True:
        response = wire.recv_response(head=case.method == "HEAD")
        if response.status >= 200:
            assert hints == case.hints
            return response
        assert response.status == 103
        assert response.header("link")
        hints += 1


def check(response: Response, case: Answer) -> None:
    assert (response.status, response.body) == (case.status, case.body)
    assert response.keeps_alive is case.keeps
    if case.framing is not None:
        assert response.framing == case.framing
    told = {name: response.header(name) for name, _ in case.has}
    assert told == {name: value.encode("latin-1") for name, value in case.has}
    assert not [name for name in case.lacks if response.all(name)]
    trailers = [(name.decode(), value.decode()) for name, value in response.trailers]
    assert trailers == list(case.trailers)
    assert response.header("date")


def test_100_comes_when_the_application_reads(server: Master) -> None:
    """RFC 9110 10.1.1; uvicorn #88."""
    with Wire(server.connect()) as wire:
        wire.send(get(b"Expect: 100-continue", b"Content-Length: 5", line=b"POST / HTTP/1.1"))
        assert wire.recv_response().status == 100
        wire.send(b"12345")
        assert wire.recv_response().json()["body"] == "12345"
        probe(wire)


def test_every_case_has_its_source_and_a_name_of_its_own() -> None:
    assert len(ANSWERS) == len(CASES)
    assert not [case.name for case in CASES if not SOURCE.search(case.source)]
