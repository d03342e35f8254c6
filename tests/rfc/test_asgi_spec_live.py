"""The rules of the ASGI specification that need a real server; see test_asgi_spec.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rfc.asgi.live import LISTS, Servers, servers
from rfc.asgi.rule import named

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__: list[str] = []

pytestmark = [pytest.mark.live, pytest.mark.slow]

LIVE = named(*LISTS)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def on(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """The servers of one loop, for all of them."""
    with servers(request.param, tmp_path_factory.mktemp("certs")) as running:
        yield running


@pytest.mark.parametrize("name", LIVE)
def test_rule(on: Servers, name: str) -> None:
    LIVE[name].check(on)
