"""Every case of tests/rfc/cases, to the byte, against a real worker on either loop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from rfc.run import SMUGGLED, SOURCE, TOPICS, paths, play, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.master import Master

__all__: list[str] = []

pytestmark = [pytest.mark.live, pytest.mark.slow]

CASES = {f"{topic}: {case.slug}": case for topic in TOPICS for case in TOPICS[topic]}


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker for all; nothing that a client sends is an error of ours."""
    with worker(request.param) as master:
        yield master
        assert not re.search(r"\[ERROR\]|Traceback", master.log()), master.log()[-4000:]


@pytest.mark.parametrize("name", CASES)
def test_case(server: Master, name: str) -> None:
    """The bytes alone: nothing is refused later than it could be."""
    play(server, CASES[name])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.statuses])
def test_what_follows_a_refused_request_is_not_believed(server: Master, name: str) -> None:
    """RFC 9112 11.2: smuggling lives on what comes behind; the application never sees it."""
    play(server, CASES[name], SMUGGLED)
    assert "/smuggled" not in paths(server)


def test_every_case_has_its_source_and_a_name_of_its_own() -> None:
    cases = [case for topic in TOPICS.values() for case in topic]
    assert len(cases) >= 300
    assert len({case.slug for case in cases}) == len(cases)
    assert not [case.name for case in cases if not SOURCE.search(case.source)]
