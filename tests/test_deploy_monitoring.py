"""deploy/prometheus and deploy/grafana: what they ask for is what we tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gunicorn_asgi.worker.metrics import METRICS
from kit.prometheus import by_prometheus, promtool

__all__: list[str] = []

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = PROMETHEUS / "gunicorn_asgi.rules.yml"
TESTS = PROMETHEUS / "gunicorn_asgi.rules.test.yml"
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/gunicorn_asgi.json").read_text())
LABELS = {metric.name: set(metric.labels) for metric in METRICS}
for each in METRICS:
    if each.kind == "histogram":
        LABELS |= {f"{each.name}_{end}": {*each.labels} for end in ("sum", "count")}
        LABELS[f"{each.name}_bucket"] = {*each.labels, "le"}
        del LABELS[each.name]
# What Prometheus itself adds to whatever it scrapes.
TARGET = {"job", "instance"}


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """What the dashboard asks, with what Grafana puts in for its variables."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    asked += [each["expr"] for each in BOARD["annotations"]["list"]]
    return [
        text.replace("$__rate_interval", "1m").replace("$job", "j").replace("$instance", ".*")
        for text in asked
    ]


def named(text: str) -> Iterator[tuple[str, set[str]]]:
    """Every metric that is named, with the labels that it is selected by."""
    for name, selector in re.findall(r"\b(gunicorn_asgi_\w+)(?:\{([^}]*)\})?", text):
        yield name, set(re.findall(r"(\w+)\s*=?[=~!]~?\"", selector))


def check(text: str) -> None:
    """Every metric exists, and has these labels; groups are made by labels that exist."""
    metrics = dict(named(text))
    assert metrics, text
    for name, labels in metrics.items():
        assert name in LABELS, f"{name} in {text}"
        assert labels <= LABELS[name] | TARGET, f"{labels} of {name}"
    groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", text)
    asked = {label.strip() for group in groups for label in group.split(",")}
    assert asked <= set.union(TARGET, *(LABELS[name] for name in metrics)), text


# -- alerts ----------------------------------------------------------------------------------------


def rule_expressions() -> list[str]:
    """What the rules ask; it is one block each, up to the next key."""
    found = re.findall(r"^        expr: (.*?)^        \w+:", RULES.read_text(), re.M | re.S)
    assert len(found) == RULES.read_text().count("- alert:")
    return [each for each in found if "up{" not in each]


@by_prometheus
@pytest.mark.slow
def test_the_rules_are_rules_and_the_configuration_finds_them() -> None:
    """promtool check."""
    for args in (("rules", RULES.name), ("config", "prometheus.yml")):
        done = promtool("check", *args, cwd=PROMETHEUS)
        assert done.returncode == 0, done.stdout + done.stderr


@by_prometheus
@pytest.mark.slow
def test_the_alerts_come_when_they_should_and_not_when_they_should_not() -> None:
    """promtool test."""
    done = promtool("test", "rules", TESTS.name, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr


@by_prometheus
@pytest.mark.slow
@pytest.mark.parametrize("name", re.findall(r"- alert: (\w+)", RULES.read_text()))
def test_every_alert_is_tested(name: str, tmp_path: Path) -> None:
    """Without its rule the tests of the rules fail."""
    text = RULES.read_text()
    assert len(re.findall(rf"alertname: {name}\n", TESTS.read_text())) >= 1
    without, count = re.subn(rf"      - alert: {name}\n.*?(?=\n      - |\Z)", "", text, flags=re.S)
    assert count == 1
    (tmp_path / RULES.name).write_text(without)
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    assert promtool("test", "rules", TESTS.name, cwd=tmp_path).returncode != 0


@pytest.mark.parametrize("text", rule_expressions())
def test_every_metric_of_the_rules_exists(text: str) -> None:
    """With its labels."""
    check(text)


# -- the dashboard ---------------------------------------------------------------------------------


def test_every_metric_of_the_dashboard_exists() -> None:
    """With its labels."""
    for text in expressions():
        check(text)


def test_every_metric_is_on_the_dashboard() -> None:
    """A new one has to find its place."""
    shown = {name for text in expressions() for name, _ in named(text)}
    stems = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert stems == {metric.name for metric in METRICS}


@by_prometheus
@pytest.mark.slow
def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    """promtool check rules, on a rule for each."""
    rules = [{"record": f"r:{n}", "expr": text} for n, text in enumerate(expressions())]
    assert len(rules) > 20
    path = tmp_path / "rules.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
    rules.append({"record": "r:x", "expr": "sum(rate(nothing[1m])"})
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert promtool("check", "rules", str(path)).returncode != 0


def test_panels_have_names_of_their_own_and_do_not_overlap() -> None:
    """On Grafana's grid, 24 wide."""
    every = BOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        columns, lines = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        cells = {(x, y) for x in columns for y in lines}
        assert not cells & taken, panel["title"]
        assert max(columns) < 24
        taken |= cells


def test_every_variable_of_the_dashboard_is_there() -> None:
    """And the source of the data is for who imports it to choose."""
    names = {each["name"] for each in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD)))
    assert used - {"__rate_interval", "__all"} == names
    sources = [panel["datasource"] for panel in panels()]
    sources += [target["datasource"] for panel in panels() for target in panel["targets"]]
    assert all(each == {"type": "prometheus", "uid": "${datasource}"} for each in sources)
