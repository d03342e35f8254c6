"""The metrics are true: to the request, over reloads and a killed worker."""

from __future__ import annotations

import re
import socket
import threading
from bisect import bisect_left
from collections.abc import Callable
from signal import SIGHUP, SIGKILL

from prometheus_client.parser import text_string_to_metric_families

from gunicorn_asgi.worker.counters import BOUNDS, CLASSES
from kit.command import ask
from kit.counting import OBEDIENT, CountingLoad
from kit.master import READY, Address, Master, wait_until
from kit.message import request
from kit.wire import WebSocketWire, Wire

__all__: list[str] = []

WORKERS = 4
SETTINGS = "asgi_status_bind = '127.0.0.1:0'\ngraceful_timeout = 10\nasgi_drain_linger = 0.5\n"
PREFIX = "gunicorn_asgi_"

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def status_address(m: Master) -> Address:
    """Of the status page, as it was told in the log."""
    line = m.wait_log(r"Status page at: http://127\.0\.0\.1:(\d+)")
    return "127.0.0.1", int(line[1])


def read(text: str) -> tuple[Numbers, Numbers]:
    """Counters, with what belongs to histograms, and gauges."""
    counters: Numbers = {}
    gauges: Numbers = {}
    for family in text_string_to_metric_families(text):
        kind = gauges if family.type == "gauge" else counters
        for sample in family.samples:
            kind[sample.name, frozenset(sample.labels.items())] = sample.value
    return counters, gauges


def number(numbers: Numbers, name: str, **labels: str) -> float:
    return numbers[PREFIX + name, frozenset(labels.items())]


class Scraper(threading.Thread):
    """Scrapes again and again, and keeps an eye on every counter."""

    def __init__(self, m: Master) -> None:
        super().__init__(daemon=True)
        self._m = m
        self._address = status_address(m)
        self._stopping = threading.Event()
        self.scrapes = 0
        self.fallen: list[str] = []
        self.failures: list[str] = []

    def scrape(self) -> str:
        with Wire(self._m.connect(address=self._address)) as wire:
            response = wire.request("GET", "/metrics")
        assert response.status == 200, response.raw
        return response.body.decode()

    def run(self) -> None:
        before: Numbers = {}
        while not self._stopping.is_set():
            try:
                counters, _ = read(self.scrape())
            except (OSError, AssertionError) as exc:
                # Only whoever was with the worker that is killed.
                self.failures.append(repr(exc))
                continue
            for key, value in before.items():
                if counters[key] < value:
                    self.fallen.append(f"{key}: {value} -> {counters[key]}")
            before = counters
            self.scrapes += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join(20)
        assert not self.is_alive()


def quantile(counts: list[float], part: float) -> int:
    """The bucket in which it lies."""
    wanted, seen = part * sum(counts), 0.0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return bucket
    raise AssertionError(counts)


def buckets(counters: Numbers) -> list[float]:
    """How many requests in each, of all classes, not cumulated."""
    cumulated = [0.0] * (len(BOUNDS) + 1)
    for (name, labels), value in counters.items():
        if name == f"{PREFIX}request_duration_seconds_bucket":
            bound = float(dict(labels)["le"])
            cumulated[bisect_left(BOUNDS, bound)] += value
    return [after - before for before, after in zip([0.0, *cumulated], cumulated, strict=False)]


def reload_and_wait(m: Master, load: CountingLoad) -> None:
    mark, count = m.mark(), len(load.answers)
    m.signal(SIGHUP)
    m.wait_log(READY, 20, after=mark, count=WORKERS)
    wait_until(lambda: len(load.answers) > count + 60, 30, "answers of the new workers")


def test_metrics_are_what_the_clients_have_counted() -> None:
    """Four workers under load, two reloads, a SIGKILL; counters never go down meanwhile."""
    with Master("app:app", workers=WORKERS, files={"app.py": OBEDIENT}, config=SETTINGS) as m:
        scraper = Scraper(m)
        scraper.start()
        with CountingLoad(lambda timeout: m.connect(timeout)) as load:
            wait_until(lambda: len(load.answers) > 60, 30, "answers")
            reload_and_wait(m, load)
            assert not load.failures
            mark = m.mark()
            m.kill_worker(m.workers()[-1], SIGKILL)  # of the newest generation
            m.wait_log(READY, 20, after=mark)
            reload_and_wait(m, load)
        scraper.stop()
        counters, _ = read(scraper.scrape())
        assert scraper.scrapes > 10
        assert not scraper.fallen
        assert len(scraper.failures) <= 1
        counted = {name: number(counters, "requests_total", status=name) for name in CLASSES}
        got = {name: load.classes()[name] for name in CLASSES}
        # To the request: only what the killed worker had answered may have been lost on its way.
        lost = {name: counted[name] - got[name] for name in CLASSES}
        assert all(each >= 0 for each in lost.values()), (counted, got)
        assert sum(lost.values()) <= len(load.failures), (counted, got, load.failures)
        assert sum(got.values()) > 180
        assert min(got[name] for name in CLASSES if name != "aborted") > 0
        # Percentiles, within a bucket.
        clients = [0.0] * (len(BOUNDS) + 1)
        for each in load.answers:
            clients[bisect_left(BOUNDS, each.seconds)] += 1
        for part in (0.5, 0.99):
            ours, theirs = quantile(buckets(counters), part), quantile(clients, part)
            assert abs(ours - theirs) <= 1, (part, buckets(counters), clients)
        assert number(counters, "worker_boots_total") == 3 * WORKERS + 1
        wait_until(lambda: reloads(scraper) == {"succeeded": 2.0}, 10, "two reloads")


def reloads(scraper: Scraper) -> dict[str, float]:
    """By verdict, those that there were."""
    counters, _ = read(scraper.scrape())
    verdicts = ("succeeded", "rolled_back", "refused")
    told = {each: number(counters, "reloads_total", verdict=each) for each in verdicts}
    return {each: count for each, count in told.items() if count}


def leave(m: Master) -> None:
    """A request whose client does not wait for the answer."""
    with Wire(m.connect()) as wire:
        wire.send(request("GET", "/200/60000"))
        shown = lambda: '"/200/60000"' in ask("status", "--pid", str(m.pid), "--json").stdout  # noqa: E731
        wait_until(shown, 20, "the request to be open")


def malformed(m: Master) -> None:
    with Wire(m.connect()) as wire:
        wire.send(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        assert wire.recv_response().status == 400


def upload(m: Master) -> None:
    with Wire(m.connect()) as wire:
        headers = [("content-length", "1000")]
        assert wire.request("POST", "/200/0", headers, b"x" * 1000).status == 200


def gauge_is(m: Master, name: str, value: float, **labels: str) -> Callable[[], bool]:
    def asked() -> bool:
        done = ask("metrics", "--pid", str(m.pid))
        return number(read(done.stdout)[1], name, **labels) == value

    return asked


def test_everything_else_is_counted_too() -> None:
    """Aborted, refused, bytes, connections; WebSockets and their messages; what is open."""
    config = SETTINGS + "worker_connections = 50\n"
    with Master("app:app", files={"app.py": OBEDIENT}, config=config) as m:
        for _ in range(3):
            malformed(m)
        leave(m)
        upload(m)
        with WebSocketWire(m.connect()) as ws, Wire(m.connect()) as wire:
            assert ws.connect("/").status == 101
            for _ in range(5):
                ws.send_text("ping")
                assert ws.recv_text() == "pong"
            wire.send(request("GET", "/200/60000"))
            wait_until(gauge_is(m, "websockets", 1), 20, "an open WebSocket")
            wait_until(gauge_is(m, "requests_in_flight", 2), 20, "two at work")
            wait_until(gauge_is(m, "connections", 2), 20, "two connections")
        wait_until(gauge_is(m, "connections", 0), 20, "no connection")
        done = ask("metrics", "--pid", str(m.pid), "--openmetrics")
        assert done.stdout.endswith("# EOF\n")
        counters, gauges = read(ask("metrics", "--pid", str(m.pid)).stdout)
        expected = {
            "requests_refused_total": 3,
            "connections_accepted_total": 7,
            "websockets_opened_total": 1,
            "requests_shed_total": 0,
            "worker_boot_failures_total": 0,
        }
        assert {name: number(counters, name) for name in expected} == expected
        # A frame of a client has 6 bytes beside its payload.
        assert number(counters, "received_bytes_total") >= 1000 + 5 * (6 + len("ping"))
        assert number(counters, "requests_total", status="aborted") == 2
        for direction in ("received", "sent"):
            assert number(counters, "websocket_messages_total", direction=direction) == 5
        assert number(gauges, "workers", state="ready") == 1
        assert number(gauges, "worker_resident_memory_bytes", worker="1") > 10 << 20
        assert number(gauges, "loop_lag_seconds", worker="1") >= 0
        assert (number(gauges, "generation"), number(gauges, "target_workers")) == (1, 1)


def test_metrics_can_be_switched_off() -> None:
    """Settings: asgi_metrics, asgi_open_requests. What costs nothing is told all the same."""
    config = SETTINGS + "asgi_metrics = False\nasgi_open_requests = False\n"
    with Master("app:app", files={"app.py": OBEDIENT}, config=config) as m:
        with Wire(m.connect()) as wire, Wire(m.connect()) as other:
            assert wire.request("GET", "/200/0").status == 200
            other.send(request("GET", "/200/60000"))
            wait_until(gauge_is(m, "requests_in_flight", 1), 20, "one at work")
            done = ask("status", "--pid", str(m.pid), "--requests")
            assert done.stdout.endswith("\n\nno open requests\n")
        counters, _ = read(ask("metrics", "--pid", str(m.pid)).stdout)
        assert number(counters, "requests_total", status="2xx") == 0
        assert number(counters, "worker_boots_total") == 1


def test_open_requests_of_a_stuck_worker_can_be_seen() -> None:
    """The board needs nothing of the worker."""
    stuck = "__import__('subprocess').run(['sh', '-c', 'while ! test -e go; do sleep 0.1; done'])"
    app = OBEDIENT.replace("await asyncio.sleep(int(milliseconds) / 1000)", stuck)
    with Master("app:app", files={"app.py": app}, config="timeout = 0\n") as m:
        with Wire(m.connect(20)) as wire:
            wire.send(request("GET", "/200/x"))
            pattern = rf"\n *\d\S+  {m.workers()[0]}  waiting +127\.0\.0\.1:\d+  \w+  GET /200/x\n"
            command = ("status", "--pid", str(m.pid), "--requests")
            wait_until(lambda: re.search(pattern, ask(*command).stdout), 20, "the request")
            m.write("go", "")
            assert wire.recv_response().status == 200


def test_statsd_hears_the_same_names() -> None:
    """Setting: statsd_host; one worker speaks for all."""
    requests = "shop.gunicorn_asgi_requests_total.4xx"
    ready = "shop.gunicorn_asgi_workers.ready"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(10)
        host = f"127.0.0.1:{statsd.getsockname()[1]}"
        options = ["--statsd-host", host, "--statsd-prefix", "shop"]
        with Master("app:app", *options, workers=2, files={"app.py": OBEDIENT}) as m:
            with Wire(m.connect()) as wire:
                for _ in range(5):
                    assert wire.request("GET", "/404/0").status == 404
            heard: dict[str, float] = {}
            while heard.get(requests, 0) < 5 or heard.get(ready, 0) < 2:
                name, _, value = statsd.recv(1000).decode().partition(":")
                count = float(value.split("|")[0])
                heard[name] = heard.get(name, 0) + count if "|c" in value else count
            assert (heard[requests], heard[ready]) == (5, 2)
