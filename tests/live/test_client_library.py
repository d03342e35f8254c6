"""prometheus_client in its multiprocess mode under us, as docs/observability.md shows it."""

from __future__ import annotations

from signal import SIGHUP, SIGKILL
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from kit.master import Master, wait_until
from kit.pages import files_under
from kit.wire import Wire

if TYPE_CHECKING:
    from pathlib import Path

PAGE = files_under("observability.md", "The Prometheus client library")
ROUTES = """
import os

CARTS.set(1)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/metrics":
        return await metrics(scope, receive, send)
    ORDERS.inc()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""


def figures(master: Master) -> dict[str, float]:
    """What any of the workers tells."""
    with Wire(master.connect()) as wire:
        text = wire.request("GET", "/metrics").body.decode()
    families = text_string_to_metric_families(text)
    return {sample.name: sample.value for family in families for sample in family.samples}


def order(master: Master) -> list[int]:
    """Order, some and until two workers have seen it; the pid of each that did."""
    pids: list[int] = []
    while len(set(pids)) < 2 or len(pids) < 20:
        with Wire(master.connect()) as wire:
            pids.append(int(wire.request("GET", "/").body))
    return pids


def check(master: Master, orders: int) -> None:
    """Every order is counted; a worker that has ended is forgotten once child_exit has run."""
    assert figures(master)["shop_orders_total"] == orders
    wait_until(lambda: figures(master)["shop_carts"] == 2, 10, "the gauge of two workers")


def test_counters_survive_and_gauges_do_not(tmp_path: Path) -> None:
    """A reload and a kill: the sum is that of all orders, the gauge that of the living."""
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    files = {"app.py": PAGE["app.py"] + ROUTES}
    config = PAGE["gunicorn.conf.py"]
    with Master("app:app", files=files, config=config, workers=2, env=env) as master:
        orders = order(master)
        first = set(orders)
        check(master, len(orders))
        mark = master.mark()
        master.signal(SIGHUP)
        master.wait_log("Worker ready", after=mark, count=2)
        second = set(master.wait_workers(lambda pids: len(pids) == 2 and not first & set(pids)))
        orders += order(master)
        assert set(orders) == first | second
        check(master, len(orders))
        mark = master.mark()
        master.kill_worker(min(second), SIGKILL)
        master.wait_log("Worker ready", after=mark)
        orders += order(master)
        assert len(set(orders)) == 5
        check(master, len(orders))
