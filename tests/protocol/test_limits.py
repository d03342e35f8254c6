"""protocol/limits.py: the numbers, and what is derived from them."""

from __future__ import annotations

import dataclasses

import pytest
from gunicorn import config
from gunicorn.http import message

from gunicorn_asgi.protocol.limits import DrainSchedule, Limits

__all__: list[str] = []


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("request_line", config.LimitRequestLine),
        ("request_fields", config.LimitRequestFields),
        ("request_field_size", config.LimitRequestFieldSize),
        ("connections", config.WorkerConnections),
        ("keep_alive", config.Keepalive),
    ],
)
def test_a_limit_of_gunicorns_has_gunicorns_default(
    name: str, setting: type[config.Setting]
) -> None:
    """limit_request_line, limit_request_fields, limit_request_field_size, ..."""
    assert getattr(Limits(), name) == setting.default


def test_limits_are_frozen() -> None:
    """They are shared by all connections of a worker."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().request_line = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        DrainSchedule.quick().stop = 1.0  # type: ignore[misc]


def test_the_largest_legal_head_fits_into_the_head_size() -> None:
    """One full line, all fields full, their ends and the empty line: not one byte more."""
    limits = Limits(request_line=40, request_fields=3, request_field_size=20)
    line = b"GET /".ljust(31, b"x") + b" HTTP/1.1"
    field = b"X-Y: ".ljust(20, b"x")
    head = b"\r\n".join([line, field, field, field, b"", b""])
    assert (len(line), len(field)) == (40, 20)
    assert limits.head_size == len(head)


@pytest.mark.parametrize(
    ("none", "taken"),
    [
        ({"request_line": 0}, {"request_line": 8190}),
        ({"request_field_size": 0}, {"request_field_size": 64 * 1024}),
        ({"request_line": 0, "request_field_size": 0}, {"request_line": 8190}),
    ],
    ids=["line", "field", "both"],
)
def test_a_part_without_limit_still_makes_a_head_with_one(
    none: dict[str, int], taken: dict[str, int]
) -> None:
    """limit_request_line, limit_request_field_size: 0 is no limit, but a head is never endless."""
    limits = Limits(request_fields=3, **none)
    assert limits.head_size == Limits(**{"request_fields": 3, **none, **taken}).head_size
    assert 0 < limits.head_size < 3 * 64 * 1024 + 8190 + 64


def test_a_line_without_limit_counts_as_gunicorns_longest() -> None:
    """gunicorn/http/message.py: its limit_request_line goes up to there."""
    without, one_byte = Limits(request_line=0).head_size, Limits(request_line=1).head_size
    assert without - one_byte == message.MAX_REQUEST_LINE - 1


@pytest.mark.parametrize("timeout", [0.0, 0.1, 1.0, 3.0, 30.0, 3600.0])
def test_a_drain_is_in_order_and_over_before_sigkill(timeout: float) -> None:
    """graceful_timeout: the arbiter kills at its end, and the application's shutdown is before."""
    schedule = DrainSchedule.graceful(timeout)
    assert 0 <= schedule.tell <= schedule.cancel <= schedule.stop <= schedule.leave <= timeout
    if timeout:
        assert schedule.tell < schedule.cancel < schedule.stop < schedule.leave < timeout
        # Running requests get the larger part; a shutdown gets a share that cannot be eaten.
        assert schedule.tell >= timeout / 2
        assert schedule.leave - schedule.stop >= timeout / 10


def test_a_long_drain_gives_half_a_second_away_and_no_more() -> None:
    """graceful_timeout: the reserve before SIGKILL does not grow with it."""
    assert DrainSchedule.graceful(30.0).leave == 29.5
    assert DrainSchedule.graceful(1.0).leave == pytest.approx(0.9)


def test_a_quick_stop_ends_everything_at_once_within_two_seconds() -> None:
    """INT and QUIT: the arbiter waits 2 s when it is asked a second time."""
    schedule = DrainSchedule.quick()
    assert schedule.tell == schedule.cancel == 0
    assert 0 < schedule.stop < schedule.leave < 2
