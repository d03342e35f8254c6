"""worker/openrequests.py: the requests that a worker is busy with, seen from outside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from boards import new_board, new_worker, owner
from gunicorn_asgi.aio.state import Progress
from gunicorn_asgi.worker.openrequests import ENTRIES, OpenEntry
from gunicorn_asgi.worker.scoreboard import Cell

if TYPE_CHECKING:
    from gunicorn_asgi.worker.scoreboard import Slot

__all__: list[str] = []


@pytest.fixture
def slot() -> Slot:
    """Of a worker that is busy with nothing."""
    return new_worker(new_board())


def test_a_request_is_shown_while_it_is_open(slot: Slot) -> None:
    """With everything that names it, and its beginning."""
    table, before = slot.open_requests(), time.monotonic()
    place = table.begin(owner("/a?b=c", "POST", "id-1", ("192.0.2.1", 1234)))
    (entry,) = slot.read_requests()
    assert before <= entry.received <= time.monotonic()
    assert entry == OpenEntry(
        entry.received, Progress.WAITING, "POST", "/a?b=c", "id-1", "192.0.2.1:1234"
    )
    table.note(place, Progress.RESPONDING)
    assert [entry.progress for entry in slot.read_requests()] == [Progress.RESPONDING]
    table.end(place)
    assert slot.read_requests() == []


def test_the_oldest_comes_first_whatever_place_it_has(slot: Slot) -> None:
    """Places are taken again."""
    table = slot.open_requests()
    places = [table.begin(owner(f"/{number}")) for number in range(3)]
    table.end(places[0])
    table.begin(owner("/3"))
    assert [entry.target for entry in slot.read_requests()] == ["/1", "/2", "/3"]


def test_what_has_no_place_is_not_shown_and_takes_nobodys(slot: Slot) -> None:
    """Thousands may be open."""
    table = slot.open_requests()
    places = [table.begin(owner(f"/{number}")) for number in range(ENTRIES)]
    assert len(set(places)) == ENTRIES
    assert table.begin(owner("/too-many")) == 0
    table.note(0, Progress.RESPONDING)
    table.end(0)
    assert len(slot.read_requests()) == ENTRIES
    for place in places:
        table.end(place)
    assert slot.read_requests() == []
    assert table.begin(owner("/again")) in places


@pytest.mark.parametrize(
    ("client", "text"),
    [
        (("192.0.2.1", 80), "192.0.2.1:80"),
        (("2001:db8::1", 443), "[2001:db8::1]:443"),
        (("192.0.2.1", 0), "192.0.2.1:0"),
        (None, ""),
    ],
    ids=["ipv4", "ipv6", "no port", "unix"],
)
def test_a_client_is_named_as_in_a_url(
    slot: Slot, client: tuple[str, int] | None, text: str
) -> None:
    """A forwarded one has no port; one on a unix socket has no name."""
    slot.open_requests().begin(owner(client=client))
    assert [entry.client for entry in slot.read_requests()] == [text]


def test_what_is_long_is_cut_and_odd_bytes_harm_nobody(slot: Slot) -> None:
    """A target has up to 8 kB, and bytes that are no text."""
    table = slot.open_requests()
    table.begin(owner("/\xff\xfe" + "x" * 9000, "PUT", "i" * 128))
    table.begin(owner("/next"))
    cut, following = slot.read_requests()
    assert cut.target == "/\xff\xfe" + "x" * 217
    assert (cut.method, cut.request_id) == ("PUT", "i" * 64)
    assert following.target == "/next"


def test_nobody_looks_at_lines_that_were_never_used(slot: Slot) -> None:
    """The kernel spends a page on every look, in each of 256 slots."""
    table = slot.open_requests()
    for _ in range(3):
        table.end(table.begin(owner()))
    assert slot.get(Cell.LINES) == 1
    places = [table.begin(owner()) for _ in range(5)]
    assert slot.get(Cell.LINES) == 5
    for place in places:
        table.end(place)
    assert slot.get(Cell.LINES) == 5
