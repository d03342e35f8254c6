"""aio/deadlines.py: one coarse timer for all connections; time is a number that we set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from gunicorn_asgi.aio.deadlines import Deadlines
from kit.fakes import FakeClock

__all__: list[str] = []

# What the module promises: late by at most this, in seconds.
TICK = 0.25


class Something:
    """Expires, and remembers when."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.deadline = 0.0
        self.expired: list[float] = []

    def expire(self) -> None:
        """Remember the time."""
        self.expired.append(self.clock.now)


class Setup:
    """A Deadlines on a clock, with a set of somethings."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.all: set[Something] = set()
        self.deadlines = Deadlines(cast("asyncio.AbstractEventLoop", self.clock), self.all)

    def add(self, seconds: float | None = None) -> Something:
        """Add one, with its clock running if ``seconds`` are given."""
        something = Something(self.clock)
        self.all.add(something)
        self.deadlines.wake()
        if seconds is not None:
            self.deadlines.arm(something, seconds)
        return something


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.25, 0.3, 2.0, 29.99])
def test_deadline_is_late_by_at_most_a_tick_and_never_early(seconds: float) -> None:
    """The promise of the module's head."""
    setup = Setup()
    something = setup.add(seconds)
    due = setup.clock.now + seconds
    setup.clock.advance(seconds + TICK)
    (when,) = something.expired
    assert due <= when <= due + TICK


def test_deadline_expires_once() -> None:
    """An expired clock stands at 0: none."""
    setup = Setup()
    something = setup.add(1.0)
    setup.clock.advance(60)
    assert len(something.expired) == 1
    assert something.deadline == 0.0


def test_deadline_of_zero_never_expires() -> None:
    """0 is no clock at all."""
    setup = Setup()
    something = setup.add()
    setup.clock.advance(3600)
    assert something.expired == []


def test_arming_again_replaces() -> None:
    """A connection has one clock."""
    setup = Setup()
    something = setup.add(1.0)
    setup.clock.advance(0.9)
    setup.deadlines.arm(something, 5.0)
    due = setup.clock.now + 5.0
    setup.clock.advance(4.9)
    assert something.expired == []
    setup.clock.advance(1.0)
    (when,) = something.expired
    assert when >= due


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.9, 2.1, 5.0])
@pytest.mark.parametrize("before", [0.3, 1.6, 2.4, 3.0])
def test_deadline_that_comes_nearer_is_noticed(before: float, seconds: float) -> None:
    """Although not all connections are looked at each tick."""
    setup = Setup()
    something = setup.add(60.0)
    setup.clock.advance(before)
    setup.deadlines.arm(something, seconds)
    due = setup.clock.now + seconds
    setup.clock.advance(seconds + TICK)
    (when,) = something.expired
    assert due <= when <= due + TICK


def test_all_are_looked_at_seldom() -> None:
    """Ten thousand idle connections cost time once in a while, not at each tick."""
    looks = 0

    class Watched(set[Something]):
        def __iter__(self) -> Iterator[Something]:
            nonlocal looks
            looks += len(self) > 1
            return super().__iter__()

    setup = Setup()
    setup.all = Watched()
    setup.deadlines = Deadlines(cast("asyncio.AbstractEventLoop", setup.clock), setup.all)
    later = [setup.add(60.0) for _ in range(10)]
    setup.clock.advance(50.0)
    # Twice each time: once for their deadlines, and at each tick for whether there is any.
    assert 25 <= looks - 50.0 / TICK <= 30
    setup.clock.advance(10.0 + TICK)
    assert [len(each.expired) for each in later] == [1] * 10


def test_nobody_is_kept_who_is_gone() -> None:
    """Not even the last one."""
    setup = Setup()
    setup.add(0.5)
    setup.clock.advance(TICK)
    assert len(setup.deadlines.soon) == 1
    setup.all.clear()
    setup.clock.advance(TICK)
    assert setup.deadlines.soon == set()


def test_one_timer_serves_all() -> None:
    """However many connections: one timer, not one for each."""
    setup = Setup()
    for number in range(100):
        setup.add(float(number))
    assert setup.clock.pending == 1
    setup.clock.advance(50)
    assert setup.clock.pending == 1


def test_no_timer_runs_without_connections() -> None:
    """An idle worker has nothing to wake up for; the next connection starts the timer again."""
    setup = Setup()
    first = setup.add(1.0)
    setup.all.discard(first)
    setup.clock.advance(TICK)
    assert setup.clock.pending == 0
    second = setup.add(1.0)
    setup.clock.advance(1.0 + TICK)
    assert first.expired == []
    assert len(second.expired) == 1


def test_expiring_may_remove_connections() -> None:
    """Closing a connection takes it, or another, out of the set that is being swept."""
    setup = Setup()

    class Closing(Something):
        def expire(self) -> None:
            super().expire()
            setup.all.clear()

    for _ in range(3):
        closing = Closing(setup.clock)
        setup.all.add(closing)
        setup.deadlines.arm(closing, 1.0)
    setup.deadlines.wake()
    setup.clock.advance(10)
    assert setup.clock.pending == 0


def test_hundreds_that_expire_together_let_others_in_between() -> None:
    """An attack ends all at once, and whoever is served meanwhile must not wait for all of it."""
    setup = Setup()
    others: list[int] = []

    class Counting(Something):
        def expire(self) -> None:
            super().expire()
            setup.clock.call_soon(lambda: others.append(len(done())))

    def done() -> list[Something]:
        return [each for each in everyone if each.expired]

    everyone = [Counting(setup.clock) for _ in range(500)]
    for each in everyone:
        setup.all.add(each)
        setup.deadlines.arm(each, 1.0)
    setup.deadlines.wake()
    setup.clock.advance(1.0 + TICK)
    assert [len(each.expired) for each in everyone] == [1] * 500
    assert others[0] <= 20


@pytest.mark.parametrize("what", ["removed", "given more time"])
def test_whoever_need_not_expire_any_more_does_not(what: str) -> None:
    """Somebody before it in the same sweep may have seen to that."""
    setup = Setup()

    class First(Something):
        def expire(self) -> None:
            super().expire()
            for each in list(setup.all):
                if each is self or each.expired:
                    continue
                if what == "removed":
                    setup.all.discard(each)
                else:
                    setup.deadlines.arm(each, 10.0)

    for _ in range(50):
        first = First(setup.clock)
        setup.all.add(first)
        setup.deadlines.arm(first, 1.0)
    everyone = list(setup.all)
    setup.deadlines.wake()
    setup.clock.advance(5.0)
    assert sum(len(each.expired) for each in everyone) == 1


def test_lag_is_that_of_the_last_sweep() -> None:
    """And nobody's, once there is nobody to sweep."""
    setup = Setup()
    something = setup.add()
    setup.clock.now += TICK + 1.5
    setup.clock.advance(0)
    assert setup.deadlines.lag == 1.5
    setup.clock.advance(TICK)
    assert setup.deadlines.lag == 0.0
    setup.clock.now += TICK + 1.5
    setup.all.discard(something)
    setup.clock.advance(0)
    assert setup.deadlines.lag == 0.0
