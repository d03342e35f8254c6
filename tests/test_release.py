"""What a release must have: a changelog that knows it, and a wheel with everything in it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import pytest

from gunicorn_asgi import __version__

__all__: list[str] = []

CHANGELOG = Path(__file__).resolve().parent.parent / "docs" / "changelog.md"
POLICY = "What counts as breaking"
DEVELOPMENT = "In development"
STATUS = [
    f"status/{name}" for name in ("charts.js", "page.css", "page.html", "page.js", "parts.js")
]
PACKAGED = ["py.typed", "demo/index.html", *STATUS]
KINDS = ["Backwards-incompatible", "New", "Improved", "Fixed"]


def _sections() -> dict[str, list[str]]:
    """Titles of the second level, each with its titles of the third."""
    found: dict[str, list[str]] = {}
    for mark, title in re.findall(r"^(##|###) (.+)$", CHANGELOG.read_text(), re.MULTILINE):
        if mark == "##":
            found[title] = []
        else:
            found[list(found)[-1]].append(title)
    return found


def test_changelog_has_its_policy_first() -> None:
    """A reader learns what counts as breaking before what broke."""
    assert next(iter(_sections())) == POLICY


def test_changelog_knows_this_version() -> None:
    """On top is what is in development, or this very version."""
    top = list(_sections())[1]
    if "dev" in __version__:
        assert top == DEVELOPMENT
    else:
        assert any(title.split()[0] == __version__ for title in _sections()), __version__


@pytest.mark.parametrize("title", [title for title in _sections() if title != POLICY])
def test_changelog_sorts_its_entries(title: str) -> None:
    """Always the same four, in the order in which an operator asks for them."""
    assert _sections()[title] == [kind for kind in KINDS if kind in _sections()[title]]
    assert title != DEVELOPMENT or _sections()[title] == KINDS


@pytest.mark.parametrize("name", PACKAGED)
def test_installation_is_complete(name: str) -> None:
    """Files that are not Python are easily forgotten by a build."""
    assert files("gunicorn_asgi").joinpath(name).is_file()


def test_installation_has_this_version() -> None:
    """The installed metadata belongs to the package that is tested."""
    try:
        installed = version("gunicorn_asgi")
    except PackageNotFoundError:
        pytest.skip("runs from the source folder, nothing is installed")
    assert installed == __version__
