"""docs/observability.md on logs and alerts: every atom, key, alert and file, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gunicorn.config import AccessLogFormat

from gunicorn_asgi.protocol.accesslog import FIELDS
from gunicorn_asgi.worker import jsonlog

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/observability.md").read_text()
RULES = (ROOT / "deploy/prometheus/gunicorn_asgi.rules.yml").read_text()


def rows(heading: str) -> list[list[str]]:
    """The rows of the tables below a heading, heads and rules of the tables left out."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ [A-Z]|\Z)", PAGE, re.M | re.S)
    assert found is not None, heading
    lines = re.findall(r"^\|(?!-)(.*)\|$", found[1], re.M)
    cells = [[cell.strip() for cell in re.split(r" \| ", line)] for line in lines]
    return [row for row in cells if row[0].startswith("`")]


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def identifiers() -> set[str]:
    """Those of the table in Gunicorn's documentation of access_log_format, whatever its markup."""
    found = re.findall(r"^\|? *([A-Za-z]|\{\w+\}[a-z]) +(?:\| )?\S", AccessLogFormat.desc, re.M)
    return {re.sub(r"\{\w+\}", "{name}", each) for each in found}


def test_every_atom_of_gunicorns_is_told_and_no_other() -> None:
    """As Gunicorn's own documentation lists them; tests/live/test_logs.py proves each."""
    told = {name for row in rows("Gunicorn's atoms") for name in names(row[0])}
    assert told == identifiers()
    assert len(told) == 22
    proved = (ROOT / "tests/live/test_logs.py").read_text()
    atoms = re.search(r'^ATOMS = "(.*)"\.split\(\)', proved, re.M)
    assert atoms is not None
    assert set(atoms[1].split()) | {"{name}i", "{name}o", "{name}e"} == told


def test_every_atom_of_ours_is_told_and_no_other() -> None:
    """FIELDS, and the generation."""
    assert [names(row[0])[0] for row in rows("Atoms of ours")] == [
        *list(FIELDS)[:7],
        "generation",
        *list(FIELDS)[7:],
    ]


def test_every_key_of_an_access_line_is_told_with_its_atom() -> None:
    """And with the type that it has in JSON."""
    kinds = {str: "string", int: "number", float: "number"}
    told = {names(row[0])[0]: (row[1], names(row[2])[0]) for row in rows("Keys of an access line")}
    keys = {key: (kinds[make], atom) for key, (atom, make) in jsonlog.ACCESS_KEYS.items()}  # type: ignore[index]
    assert {**told, "request_id": ("string", "request_id")} == keys


def test_every_key_of_every_line_is_told() -> None:
    """Those that the formatter writes by name."""
    written = set(
        re.findall(r'told\["(\w+)"\]|^ +"(\w+)":', Path(jsonlog.__file__).read_text(), re.M)
    )
    every = {name for pair in written for name in pair if name} - set(jsonlog.ACCESS_KEYS)
    told = {names(row[0])[0] for row in rows("Keys of every line")}
    assert told == every | {"request_id"}


def test_every_alert_is_told_with_its_severity() -> None:
    """deploy/prometheus."""
    found = re.findall(r"- alert: (\w+)\n.*?severity: (\w+)", RULES, re.S)
    told = [(names(row[0])[0], row[2]) for row in rows("Alerts and a dashboard") if len(row) == 3]
    assert told == found


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(deploy/[\w./]+)`", PAGE))))
def test_whatever_is_named_in_deploy_exists(name: str) -> None:
    """A file, or a folder."""
    assert (ROOT / name).exists()
