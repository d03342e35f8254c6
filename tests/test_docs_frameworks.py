"""docs/frameworks.md tells the matrix that is tried, no more and no less."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from frameworks import CHECKS, EVERYWHERE, FRAMEWORKS

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "frameworks.md").read_text()

_SPEC = importlib.util.spec_from_file_location(
    "generate_frameworks", ROOT / "docs" / "generate_frameworks.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
GENERATOR = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(GENERATOR)


def test_the_page_is_current() -> None:
    """But for the versions, which are those of its last run; else: docs/generate_frameworks.py."""
    assert GENERATOR.page(GENERATOR.versions(PAGE)) == PAGE


def test_the_page_has_every_row_with_every_check() -> None:
    """Read without the generator."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)[1:]
    told = {name: set(what.split(", ")) for name, _, what in rows if "-" not in name}
    assert told == {each.name: {*EVERYWHERE, *each.checks} for each in FRAMEWORKS}
    for check, what in CHECKS.items():
        assert f"\n| {check} | {what} |\n" in PAGE


def test_a_page_that_lacks_a_version_is_not_current() -> None:
    """Nobody writes a row by hand and forgets what it ran on."""
    with pytest.raises(ValueError, match=r"no version of blacksheep$"):
        GENERATOR.versions(PAGE.replace("blacksheep 2", "blacksheep new"))


def test_every_package_is_installed_by_the_extras() -> None:
    """Else CI would fail where everybody else skips."""
    text = (ROOT / "pyproject.toml").read_text()
    extras = [
        re.search(rf"^{extra} = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
        for extra in ("test", "frameworks")
    ]
    named = {
        name for each in extras if each for name in re.findall(r'^    "([\w-]+)', each[1], re.M)
    }
    # Those that come along: with fastapi, and under it.
    assert set(GENERATOR.PACKAGES) <= named | {"starlette", "anyio"}


def test_the_pythons_and_gunicorns_that_are_told_are_those_of_the_matrix() -> None:
    """Of `make matrix`."""
    found = re.search(r"^MATRIX \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    pairs = [each.split("-") for each in found[1].split()]
    pythons, gunicorns = (list(dict.fromkeys(each)) for each in zip(*pairs, strict=True))
    told = " ".join(PAGE.split())
    assert f"on Python {', '.join(pythons[:-1])} and {pythons[-1]}," in told
    assert f"with Gunicorn {' and '.join(gunicorns)}." in told
