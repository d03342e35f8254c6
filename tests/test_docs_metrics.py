"""docs/observability.md and the metrics, paths and log lines of the code: the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.status import app
from gunicorn_asgi.worker.counters import BOUNDS, CLASSES
from gunicorn_asgi.worker.metrics import METRICS
from gunicorn_asgi.worker.scoreboard import ReloadVerdict

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "observability.md").read_text()
STATUS = (ROOT / "gunicorn_asgi" / "status" / "app.py").read_text()


def section(title: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {title}\n(.*?)(?=^#{{1,3}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[2]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_metric_is_told_as_it_is_and_no_other() -> None:
    """Name, type, labels and text, in the order of the table."""
    told = [[name.strip("`"), kind, text] for name, kind, _, text in rows("Every metric")]
    assert told == [[each.name, each.kind, each.help.rstrip(".")] for each in METRICS]


VALUES = {
    "status": set(CLASSES),
    "direction": {"received", "sent"},
    "state": {state.name.lower() for state in WorkerState if state is not WorkerState.EXITED},
    "verdict": {verdict.name.lower() for verdict in ReloadVerdict},
    "worker": set(),
}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_label_is_told_with_its_values(metric: object) -> None:
    told = {row[0].strip("`"): row[2] for row in rows("Every metric")}
    (known,) = [each for each in METRICS if each is metric]
    words = re.findall(r"`(\w+)`", told[known.name])
    assert words[:1] == list(known.labels)
    assert set(words[1:]) == (VALUES[known.labels[0]] if known.labels else set())


def test_the_buckets_are_told() -> None:
    *bounds, last = [f"{bound:g}" for bound in BOUNDS]
    assert f"the buckets {', '.join(bounds)} and {last} s" in section("Every metric")


def test_every_path_of_the_status_page_is_told() -> None:
    """Files that the page itself loads are its own business."""
    told = {word for row in rows("Status page") for word in re.findall(r"`(/[\w.]*)`", row[0])}
    served = set(re.findall(r'^    "(/[a-z]*(?:\.json)?)":', STATUS, re.MULTILINE))
    assert told == served | {"/events"}
    assert callable(app)


def test_the_words_of_health_are_told() -> None:
    told = set(re.findall(r"`(live|ready|unready)`", section("Health")))
    assert told == set(re.findall(r'_word\(\d+, "(live|ready|unready)"\)', STATUS))
