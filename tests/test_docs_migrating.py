"""docs/migrating.md: every flag of the other servers has a row, every setting named here exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from gunicorn.config import Config

from gunicorn_asgi.worker.definitions import DEFINITIONS
from peer_flags import FLAGS, HYPERCORN_SETTINGS, UVICORN_KWARGS, VERSIONS

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "migrating.md").read_text()
OURS = {definition.name: definition for definition in DEFINITIONS}
KNOWN = {*Config().settings, *OURS}
# What may stand in the place of a setting.
WORDS = ("not needed", "not there", "the same")
# Those of other Gunicorns than this one, with what becomes of them: a page that is generated.
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
OF_ANY_GUNICORN = set(re.findall(r"^\| `(\w+)` \|", SETTINGS, re.M))
# Names of code, of a package, of nginx.
CODE = {"create_app", "gunicorn_asgi", "proxy_pass"}


def section(title: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found is not None, title
    return found[1]


def rows(text: str, head: str) -> list[list[str]]:
    """The rows of all tables whose first column has that head."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        cells = [line.strip().strip("|").split(" |") for line in table.splitlines()]
        lines = [[cell.strip() for cell in row] for row in cells]
        if lines[0][0] == head:
            found += lines[2:]
    return found


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


MIGRATING = [
    row
    for row in (*rows(PAGE, "flag"), *rows(PAGE, "key"), *rows(PAGE, "setting"))
    if row not in rows(section("uvicorn-worker").split("###")[0], "setting")
]


@pytest.mark.parametrize("server", sorted(FLAGS))
def test_every_flag_has_one_row_and_no_other_has_any(server: str) -> None:
    """As the program of that version lists them."""
    told = [name for row in rows(section(server), "flag") for name in names(row[0])]
    assert sorted(told) == sorted(FLAGS[server])


@pytest.mark.parametrize("server", sorted(VERSIONS))
def test_the_version_of_the_flags_is_told(server: str) -> None:
    assert f"The flags of {server} {VERSIONS[server]}" in section(server)


def test_every_key_of_a_subclass_is_a_flag_or_has_a_row() -> None:
    """CONFIG_KWARGS of a UvicornWorker."""
    flags = {flag.lstrip("-").replace("-", "_") for flag in FLAGS["uvicorn"]}
    told = [name for row in rows(section("uvicorn-worker"), "key") for name in names(row[0])]
    assert sorted(told) == sorted(UVICORN_KWARGS - flags)


def test_every_setting_of_hypercorns_file_has_a_row() -> None:
    """Those that are not named as a flag is."""
    told = [name for row in rows(section("hypercorn"), "setting") for name in names(row[0])]
    assert sorted(told) == sorted(HYPERCORN_SETTINGS)


@pytest.mark.parametrize("title", ["uvicorn-worker", "Gunicorn's own ASGI worker"])
def test_every_setting_of_gunicorns_that_changes_its_meaning_exists(title: str) -> None:
    """In this Gunicorn, or in another one that is supported."""
    told = [name for row in rows(section(title), "setting") for name in names(row[0])]
    assert len(told) > 15
    assert [name for name in told if name not in KNOWN | OF_ANY_GUNICORN] == []


@pytest.mark.parametrize("row", MIGRATING, ids=lambda row: row[0].split("`")[1])
def test_the_name_here_is_a_setting_or_is_explained(row: list[str]) -> None:
    """A value that is given is one that the setting takes."""
    _, here, why = row
    if here in WORDS:
        assert here == "the same" or why, "a reason"
        return
    assert names(here), f"neither a setting nor one of {WORDS}"
    for name in names(here):
        setting, _, value = name.partition(" = ")
        assert setting in KNOWN, setting
        if value:
            _accept(setting, ast.literal_eval(value))


def test_every_value_in_the_page_is_one_that_its_setting_takes() -> None:
    """Those written as `name = value`, wherever they stand."""
    told = re.findall(r"`([a-z_]+) = ([^`]+)`", PAGE)
    assert len(told) > 3
    for setting, value in told:
        _accept(setting, ast.literal_eval(value))


def test_every_name_of_a_setting_in_the_page_exists() -> None:
    """Outside of the columns in which others are named."""
    told = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", PAGE))
    theirs = {*UVICORN_KWARGS, *HYPERCORN_SETTINGS, *CODE}
    assert told - KNOWN - OF_ANY_GUNICORN - theirs == set()
    assert len(told & KNOWN) > 50


def test_every_key_of_the_subclass_became_the_setting_of_its_row() -> None:
    """Of the example: the tables lead from what was there to what is there now."""
    service = section("A whole service")
    keys = re.search(r"CONFIG_KWARGS = (\{.*?\})", service, re.S)
    assert keys is not None
    after = re.findall(r"^([a-z_]+) = (.*)$", service.split("### After")[1], re.M)
    settings = {name: ast.literal_eval(value) for name, value in after}
    here = {name: row[1] for row in rows(section("uvicorn"), "flag") for name in names(row[0])}
    for key, value in ast.literal_eval(keys[1]).items():
        flag = "--" + key.replace("_", "-")
        if here[flag] == "not needed":
            continue
        (name,) = names(here[flag])
        # The page says why that one is another number.
        assert settings[name] == (20 if name == "graceful_timeout" else value)


def test_every_server_of_the_first_table_has_its_section() -> None:
    """With the same worker class in every command."""
    table = rows(PAGE, "from")
    assert len(table) == len(FLAGS) + 2
    for name, before, after in table:
        title = name.removeprefix("[").split("]")[0]
        assert section(title)
        assert "gunicorn_asgi" not in before
        assert after.startswith("`gunicorn -k gunicorn_asgi.Worker ")


def _accept(setting: str, value: object) -> None:
    if setting in OURS:
        OURS[setting].validate(value)
    else:
        Config().set(setting, value)
