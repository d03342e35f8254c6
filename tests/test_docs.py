"""The documents say what the code does: tables are compared, names looked up, links followed."""

from __future__ import annotations

import importlib.util
import re
import signal
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config

from gunicorn_asgi.aio.clocks import Clock
from gunicorn_asgi.aio.lifespan import LifespanEvent, LifespanState
from gunicorn_asgi.protocol.exchange import ExchangeEvent, Reading, Writing
from gunicorn_asgi.protocol.lifecycle import Cause, Verdict, WorkerEvent, WorkerState
from gunicorn_asgi.protocol.limits import DrainSchedule, Limits
from gunicorn_asgi.protocol.websocket import WebSocketEvent, WebSocketState
from gunicorn_asgi.worker import signals
from gunicorn_asgi.worker.definitions import DEFINITIONS
from kit.master import Master
from kit.wire import Wire

if TYPE_CHECKING:
    from types import ModuleType

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "gunicorn_asgi"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
GRACEFUL: int = Config().graceful_timeout
SOURCE = "".join(path.read_text() for path in sorted(PACKAGE.rglob("*.py")))
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(name: str) -> str:
    return (DOCS / name).read_text()


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The rows of every table, without head and rule, backticks taken off the first cell."""
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif tables[-1]:
            tables.append([])
    return [[row[0].strip("`"), *row[1:]] for table in tables for row in table[2:]]


def script(name: str) -> ModuleType:
    """A module out of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- what is generated -----------------------------------------------------------------------------


def test_the_settings_page_is_current() -> None:
    """Else: python docs/generate_settings.py."""
    assert read("settings.md") == script("generate_settings").page()


def test_the_settings_page_has_every_definition() -> None:
    """With its default, its variable and its text."""
    text = read("settings.md")
    for definition in DEFINITIONS:
        assert f"### `{definition.name}`\n\n{definition.description}\n" in text
        assert definition.variable in text


def test_the_state_tables_are_current() -> None:
    """Else: python docs/generate_states.py."""
    assert read("design.md") == script("generate_states").page(read("design.md"))


def test_every_state_is_in_a_table() -> None:
    """What the script leaves out would be missed here."""
    for title, states in (
        ("Worker", WorkerState),
        ("Reading", Reading),
        ("Writing", Writing),
        ("WebSocket", WebSocketState),
        ("Lifespan", LifespanState),
    ):
        told = [row[0] for row in rows(section(read("design.md"), title))]
        assert sorted(told) == sorted(state.name for state in states)


def test_a_page_without_a_place_for_the_tables_is_no_page() -> None:
    """The script would otherwise drop them in silence."""
    with pytest.raises(ValueError, match="no place"):
        script("generate_states").page("# Design\n")


# -- signals and causes ----------------------------------------------------------------------------

MASTER = {signal.Signals(number).name.removeprefix("SIG") for number in Arbiter.SIGNALS}


def signals_of(text: str) -> set[str]:
    """The signals in the first column; a cell may name two."""
    return {name.strip(" `") for row in rows(text) for name in row[0].split(",")}


def test_every_signal_of_the_master_is_told_and_no_other() -> None:
    """On the page and in the README."""
    assert signals_of(section(read("signals.md"), "To the master")) == MASTER
    assert signals_of(section((ROOT / "README.md").read_text(), "Signals")) == MASTER


def test_every_signal_of_a_worker_is_told_and_no_other() -> None:
    """Those that worker/signals.py names."""
    source = Path(signals.__file__).read_text()
    named = set(re.findall(r"signal\.SIG([A-Z0-9]+)\b", source)) - {"_DFL", "_IGN"}
    ours = {*signals._RESET, *named}
    assert signals_of(section(read("signals.md"), "To a worker")) == ours


def test_every_cause_is_told_with_its_word() -> None:
    """The word stands in the log."""
    told = rows(section(read("signals.md"), "Why a worker leaves"))
    assert {row[0]: row[1] for row in told} == {cause.name: cause.value for cause in Cause}


def test_the_log_lines_that_are_told_are_written() -> None:
    """With their level; they count as an interface (changelog.md)."""
    told = rows(section(read("signals.md"), "Log lines"))
    assert len(told) > 5
    for level, line in told:
        text = re.escape(line.strip("`"))
        call = rf"log\.{level}\(\s*\"{text}|log\(\s*\"{text}"
        assert re.search(call, SOURCE), line


# -- clocks and numbers ----------------------------------------------------------------------------


def test_the_time_line_of_a_drain_is_that_of_the_schedule() -> None:
    """Every number of the table, recomputed."""
    columns = [DrainSchedule.graceful(seconds) for seconds in (30, 10, 3)] + [DrainSchedule.quick()]
    told = rows(section(read("signals.md"), "The time line of a drain"))
    assert [row[0].split("`")[0] for row in told] == [each.name for each in fields(DrainSchedule)]
    for label, part, *cells in told:
        name = label.split("`")[0]
        assert [f"{getattr(each, name):.2f}" for each in columns] == cells
        assert f"{getattr(columns[0], name) / columns[0].leave:.2f}" == part


def test_the_seconds_of_the_drain_page_are_those_of_the_defaults() -> None:
    """The schedule, the limits that come earlier, and the exit alarm."""
    schedule, limits = DrainSchedule.graceful(GRACEFUL), Limits()
    assert limits.keep_alive == limits.close_spread < schedule.tell / 2, "one row for both"
    schedule_at = [getattr(schedule, each.name) for each in fields(DrainSchedule)]
    seconds = [0.0, limits.close_spread, limits.drain_linger, *schedule_at, GRACEFUL]
    told = [row[0] for row in rows(section(read("drain.md"), "Second by second"))]
    assert told == [f"{each:.2f}" for each in seconds]
    # In the text too: those that are neither a default of the operator's nor in the table.
    named = set(re.findall(r"\b(?:at|by|told at|off at|cancelled at) (\d+\.\d+)", read("drain.md")))
    assert named <= set(told)
    assert named


def test_every_word_of_a_verdict_is_told() -> None:
    """In the order in which ``succession`` looks."""
    told = [row[1] for row in rows(section(read("design.md"), "The succession"))]
    assert told == ["DRAIN", "STAY", "DRAIN", "HOLD"]
    assert set(told) == {each.name for each in Verdict}


def test_what_guards_a_promise_exists() -> None:
    """Tests that the pages name as their proof."""
    named = set(re.findall(r"(?<![\w/])tests/[\w/]+\.py", "".join(p.read_text() for p in PAGES)))
    assert "tests/live/test_reload_drops_no_request.py" in named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_clock_of_a_connection_is_told_and_no_other() -> None:
    """The names are those of ``Clock``."""
    told = [row[0] for row in rows(section(read("timeouts.md"), "Clocks of a connection"))]
    assert sorted(told) == sorted(clock.name for clock in Clock)


def numbers(page: str) -> dict[str, float]:
    """What is written as `name` and a number."""
    found = re.findall(r"`(\w+)` (\d+(?:\.\d+)?)", read(page))
    told = {name: float(number) for name, number in found}
    assert all(float(number) == told[name] for name, number in found), "one name, two numbers"
    return told


@pytest.mark.parametrize(("page", "kind"), [("timeouts.md", float), ("limits.md", int)])
def test_every_limit_is_told_with_its_default_and_no_other(page: str, kind: type) -> None:
    """Seconds on the one page, sizes and counts on the other; settings only with their defaults."""
    limits = Limits()
    values = {each.name: getattr(limits, each.name) for each in fields(Limits)}
    expected = {name: value for name, value in values.items() if type(value) is kind}
    settings = {each.name: each.default for each in DEFINITIONS} | {"keepalive": limits.keep_alive}
    told = numbers(page)
    named = {name for name in told if name in settings}
    assert {name: told[name] for name in named} == {name: settings[name] for name in named}
    assert {name: told[name] for name in set(told) - named} == expected


def test_the_sizes_of_a_head_are_computed() -> None:
    """By default, and for the settings that the page proposes."""
    text = read("limits.md")
    assert text.count(f"{Limits().head_size} bytes") == 2
    proposed = {name: int(number) for name, number in re.findall(r"`(\w+) = (\d+)`", text)}
    assert set(proposed) == {"limit_request_fields", "limit_request_field_size"}
    limits = Limits(
        request_fields=proposed["limit_request_fields"],
        request_field_size=proposed["limit_request_field_size"],
    )
    assert f"make it {limits.head_size} bytes" in text
    unlimited = Limits(request_line=0, request_fields=1, request_field_size=0)
    sizes = re.search(r"takes (\d+) bytes for the line and (\d+) for each field", text)
    assert sizes is not None
    assert unlimited.head_size == int(sizes[1]) + int(sizes[2]) + 2 + 4


def test_enough_for_the_clocks_of_a_window_is_computed() -> None:
    """asgi_min_data_rate times asgi_body_timeout, or asgi_write_timeout."""
    limits = Limits()
    assert limits.body == limits.write
    enough = f"{limits.min_data_rate} bytes/s times {limits.body:g} s"
    assert f"{enough}, {limits.min_data_rate * limits.body:g} bytes" in read("timeouts.md")


# -- names -----------------------------------------------------------------------------------------

MACHINES = (
    *(WorkerState, WorkerEvent, Reading, Writing, ExchangeEvent),
    *(WebSocketState, WebSocketEvent, LifespanState, LifespanEvent, Clock, Cause),
)
NAMES = {member.name for machine in MACHINES for member in machine} | MASTER | set(signals._RESET)
# Gunicorn's, the shell's and the makefile's.
OTHERS = {"ALRM", "ARGS", "GUNICORN_CMD_ARGS", "NAME", "GUNICORN_", "PWD"}


@by_page
def test_every_name_in_capitals_exists(page: Path) -> None:
    """A state, an event, a signal, a cause, a clock, a variable or a table of the code."""
    variables = {definition.variable for definition in DEFINITIONS}
    for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", page.read_text()):
        known = name in NAMES | OTHERS | variables or re.search(rf"^{name}\b", SOURCE, re.MULTILINE)
        assert known, name


@by_page
def test_every_setting_of_ours_that_is_named_exists(page: Path) -> None:
    """Gunicorn's own are in the tables of settings.md, which another test looks at."""
    ours = {definition.name for definition in DEFINITIONS}
    named = set(re.findall(r"`(asgi_\w+)`", page.read_text())) - {"asgi_"}
    assert named <= ours


def test_the_tree_is_that_of_the_package() -> None:
    """Each module in its room, but for the packages' own files."""
    tree = re.search(r"^## Tree\n\n```\n(.*?)```", read("design.md"), re.MULTILINE | re.DOTALL)
    assert tree is not None
    told, folders = set(), [""]
    for line in tree[1].splitlines()[1:]:
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        if name.endswith("/"):
            folders[depth:] = [folders[depth - 1] + name]
        else:
            told.add(folders[depth - 1] + name)
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    own = {name for name in files if name.endswith("/__init__.py")}
    assert told == files - own


# -- commands and links ----------------------------------------------------------------------------


@by_page
def test_every_make_command_exists(page: Path) -> None:
    """In a code block or in backticks."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets


def test_every_make_target_is_told() -> None:
    """``make help`` is how one finds the others."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    told = set(re.findall(r"^\| `make ([a-z-]+)`", read("contributing.md"), re.MULTILINE))
    assert told == set(phony[1].split()) - {"help"}
    assert {"run", "test"} <= told


def anchor(heading: str) -> str:
    """As the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@by_page
def test_every_relative_link_resolves(page: Path) -> None:
    """To a file of the repository, and to a heading in it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        assert not fragment or fragment in map(anchor, headings), link


def test_every_page_is_linked_from_the_readme() -> None:
    """A page that nobody finds is none."""
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in text] == []


@pytest.mark.live
@pytest.mark.slow
def test_the_quickstart_works() -> None:
    """The application as it stands in the README, on the command line that stands there."""
    text = section((ROOT / "README.md").read_text(), "Quickstart")
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    assert "```python" in text
    assert len(code[1].splitlines()) <= 10
    with Master("app:app", files={"app.py": code[1]}, workers=2) as master:
        with Wire(master.connect()) as wire:
            response = wire.request("GET", "/")
        assert (response.status, response.body) == (200, b"Hello\n")
        assert "[ERROR]" not in master.log()
