"""A real Prometheus scrapes a real master: the dashboard shows something in every panel."""

from __future__ import annotations

import json
import math
from pathlib import Path
from signal import SIGHUP

from kit.master import Master, free_port, wait_until
from kit.prometheus import Prometheus, by_prometheus
from kit.wire import WebSocketWire, Wire

BOARD = Path(__file__).resolve().parents[2] / "deploy/grafana/gunicorn_asgi.json"
APP = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def asked() -> dict[str, str]:
    """Every expression of the dashboard, by panel and legend, as Grafana would ask it."""
    return {
        f"{panel['title']}: {target['legendFormat']}": target["expr"]
        .replace("$__rate_interval", "5s")
        .replace("$job", "gunicorn_asgi")
        .replace("$instance", ".*")
        for panel in json.loads(BOARD.read_text())["panels"]
        if panel["type"] != "row"
        for target in panel["targets"]
    }


@by_prometheus
def test_every_panel_shows_numbers() -> None:
    """After a reload, and with requests and a WebSocket under way."""
    port = free_port()
    config = f'asgi_status_bind = "127.0.0.1:{port}"\n'
    with Master("app:app", files={"app.py": APP}, config=config, workers=2) as master:
        mark = master.mark()
        master.signal(SIGHUP)
        master.wait_log("Worker ready", after=mark, count=2)
        with Prometheus(f"127.0.0.1:{port}") as prometheus, WebSocketWire(master.connect()) as ws:
            assert ws.connect("/ws").status == 101
            queries = asked()
            empty: set[str] = set(queries)

            def shown() -> bool:
                ws.send_text("ping")
                assert ws.recv_text() == "ping"
                with Wire(master.connect()) as wire:
                    assert wire.request("POST", "/", body=b"12345").status == 200
                for name in sorted(empty):
                    found = prometheus.query(queries[name])
                    if any(math.isfinite(float(each["value"][1])) for each in found):
                        empty.discard(name)
                return not empty

            wait_until(shown, 30, f"numbers for {empty}")
            (generation,) = prometheus.query("gunicorn_asgi_generation")
            assert generation["value"][1] == "2"
            (serving,) = prometheus.query('sum(gunicorn_asgi_workers{state="ready"})')
            assert serving["value"][1] == "2"
