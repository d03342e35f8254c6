"""The code of a page in docs/, by the heading that it stands under."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["files_under"]

_DOCS = Path(__file__).resolve().parents[2] / "docs"


def files_under(page: str, heading: str) -> dict[str, str]:
    """The blocks of Python code below a heading, by the name of the file in their first line."""
    text = (_DOCS / page).read_text()
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", _marked(text), _FLAGS)
    assert section is not None, f"{page} has no section {heading!r}"
    blocks = re.findall(r"^```python\n(# (\S+)\n.*?)^```", _plain(section[1]), _FLAGS)
    assert blocks, f"{page}, {heading!r}: no code"
    return {name: code for code, name in blocks}


_FLAGS = re.MULTILINE | re.DOTALL
_COMMENT = "\0"


def _marked(text: str) -> str:
    """Let no comment in a block of code look like a heading."""
    return re.sub(
        r"^```.*?^```",
        lambda block: re.sub("^#", _COMMENT, block[0], flags=re.M),
        text,
        flags=_FLAGS,
    )


def _plain(text: str) -> str:
    return text.replace(_COMMENT, "#")
