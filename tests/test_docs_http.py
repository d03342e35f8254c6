"""server-behavior.md and security.md: statuses, log lines and tests are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kit.rig import Rig, both_loops, request, turns

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    *(ROOT / "gunicorn_asgi").glob("protocol/*.py"),
    *(ROOT / "gunicorn_asgi").glob("aio/*.py"),
]
SOURCE = "".join(path.read_text() for path in sorted(SOURCES))
BEHAVIOR = (ROOT / "docs" / "server-behavior.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()
# Sections of security.md that are about attacks.
ATTACKS = dict(
    re.findall(r"^## (?!The model)(.*?)\n(.*?)(?=^## |\Z)", SECURITY, re.MULTILINE | re.DOTALL)
)


def rows(text: str) -> list[list[str]]:
    """The rows of all tables, without head and rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-")]
    heads = {*rules, *(number - 1 for number in rules)}
    return [row for number, row in enumerate(cells) if number not in heads]


def test_every_status_of_its_own_is_told_and_no_other() -> None:
    """Whatever the rooms can answer by themselves."""
    told = [row[0] for row in rows(BEHAVIOR.split("## Statuses of its own")[1].split("## ")[0])]
    found = re.findall(r"\.status_hint = (\d{3})|status_hint = (\d{3})", SOURCE)
    found += re.findall(r"Error\([^()]*?, (\d{3})\)()", SOURCE)
    found += re.findall(r"(?:_abandon|_?refuse|_over)\((?:\d{4}, )?(\d{3})()", SOURCE)
    found += re.findall(r"\b(501|503|500) (?:if|else) |\"status\": (\d{3})", SOURCE)
    statuses = {code for pair in found for code in pair if code}
    # wsproto's own, which rides along with its error.
    assert "status_code" in SOURCE
    assert set(told) == statuses | {"426"}
    assert told == sorted(told)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_an_answer_and_a_test(name: str) -> None:
    """A row of three: what is done, and the files that show it, which another test looks for."""
    table = rows(ATTACKS[name])
    assert table
    for attack, answer, tests in table:
        assert attack
        assert answer
        assert re.fullmatch(r"`tests/[\w/]+\.py`(, `tests/[\w/]+\.py`)*", tests), tests
    assert re.search(r"^\*\*(Operator|Application)", ATTACKS[name], re.MULTILINE), (
        "who does the rest"
    )


def test_every_section_is_an_attack() -> None:
    assert len(ATTACKS) >= 9
    assert SECURITY.count("\n## ") == len(ATTACKS) + 1


@both_loops
async def test_the_lines_of_a_refusal_are_as_they_are_written() -> None:
    """Those of the page, out of the requests of the page."""
    lines = re.findall(r"`(Refused a request from .*)`", BEHAVIOR)
    assert len(lines) == 2
    rig = Rig(request_body=1)
    rig.connect().send(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")
    rig.state.scopes._ids = _Ids()  # type: ignore[assignment]
    client = rig.connect()
    client.send(request("POST", "/upload", {"Transfer-Encoding": "chunked"}))
    await turns()
    client.send(b"2\r\nab\r\n")
    assert rig.complaints == lines


class _Ids:
    def make(self) -> str:
        return "6f1c"
