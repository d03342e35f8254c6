"""Writes the tables of docs/design.md's state machines out of those in the code.

python docs/generate_states.py
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

from gunicorn_asgi.aio import lifespan
from gunicorn_asgi.protocol import exchange, lifecycle, websocket

__all__ = ["page"]

# Each machine has its own states and events, and a Mapping is invariant in its keys.
Table = Mapping[Any, Mapping[Any, IntEnum]]

_PAGE = Path(__file__).with_name("design.md")
_BEGIN = "<!-- Written by docs/generate_states.py. -->\n"
_END = "<!-- End of what is written. -->\n"

# Name, whose it is, and the table.
_MACHINES: tuple[tuple[str, str, Table], ...] = (
    ("Worker", "`protocol/lifecycle.py`, one for each process", lifecycle.TRANSITIONS),
    ("Reading", "`protocol/exchange.py`, one for each exchange: the request", exchange.READING),
    ("Writing", "`protocol/exchange.py`, one for each exchange: the response", exchange.WRITING),
    ("WebSocket", "`protocol/websocket.py`, one for each connection", websocket.TRANSITIONS),
    ("Lifespan", "`aio/lifespan.py`, one for each process", lifespan.TRANSITIONS),
)


def _table(name: str, where: str, table: Table) -> str:
    rows = []
    for state, events in table.items():
        steps = "; ".join(f"{event.name} -> {after.name}" for event, after in events.items())
        rows.append(f"| `{state.name}` | {steps or '-'} |\n")
    return f"### {name}\n\n{where}\n\n| state | event -> next |\n|---|---|\n{''.join(rows)}\n"


def page(text: str) -> str:
    """The whole of docs/design.md, given as it is, with the tables as they are in the code."""
    before, _, rest = text.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise ValueError(f"docs/design.md has no place for the tables: {_BEGIN}{_END}")
    return before + _BEGIN + "\n" + "".join(_table(*each) for each in _MACHINES) + _END + after


if __name__ == "__main__":
    _PAGE.write_text(page(_PAGE.read_text()))
