"""A chart of the rates, as SVG written by hand: ``python bench/chart.py SAMPLES.json CHART.svg``.

A group of bars for each workload, a bar for each server, as multiples of the baseline's rate. Its
colours follow the reader's, light or dark.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from report import Series, compared, read
from servers import BASELINE

__all__ = ["chart"]

# All in pixels, which a reader may scale.
_LEFT = 150
_WIDTH = 760
_RIGHT = 60
_TOP = 74
_BAR = 11
_GAP = 10
# Longer bars are cut and say so: one row of nine times would make all others the same.
_LONGEST = 4.0
_UNIT = (_WIDTH - _LEFT - _RIGHT) / _LONGEST

_COLOURS = ("--first", "--second", "--third", "--fourth", "--fifth")
_STYLE = """
  svg { --ground: #ffffff; --text: #1f2328; --faint: #59636e; --line: #d1d9e0;
    --first: #0969da; --second: #bc4c00; --third: #8250df; --fourth: #1a7f37; --fifth: #9a6700; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #0d1117; --text: #f0f6fc; --faint: #9198a1; --line: #3d444d;
      --first: #58a6ff; --second: #f0883e; --third: #bc8cff; --fourth: #3fb950; --fifth: #d29922; }
  }
  text { font: 12px system-ui, sans-serif; fill: var(--text); }
  .faint { font-size: 10px; fill: var(--faint); }
  .name { font-weight: 600; font-size: 15px; }
  .line { stroke: var(--line); stroke-width: 1; }
  .one { stroke: var(--faint); stroke-width: 1.5; }
"""


def chart(results: dict[str, list[Series]], baseline: str) -> str:
    """A whole document; workloads without the baseline, and limits, are left out."""
    groups = {name: _ratios(rows, baseline) for name, rows in results.items()}
    groups = {name: ratios for name, ratios in groups.items() if ratios}
    servers = list(dict.fromkeys(server for ratios in groups.values() for server in ratios))
    colours = {server: _COLOURS[at % len(_COLOURS)] for at, server in enumerate(servers)}
    at = _TOP
    parts: list[str] = []
    for name, ratios in groups.items():
        parts += _group(name, ratios, at, colours)
        at += len(ratios) * _BAR + _GAP
    title = f"Requests and messages per second, as multiples of {baseline}'s"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {at}" role="img"',
        '  aria-labelledby="title what">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="what">{escape(_told(groups))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{at}" fill="var(--ground)"/>',
        f'<text class="name" x="12" y="24">{escape(title)}</text>',
    ]
    return "\n".join([*head, *_legend(colours), *_grid(at), *parts, "</svg>", ""])


def _ratios(rows: Sequence[Series], baseline: str) -> dict[str, float]:
    base = next((each for each in rows if each.server == baseline), None)
    others = [each for each in rows if each.kind != "limit" and each.server != baseline]
    return {each.server: compared(each, base)[0] for each in others} if base else {}


def _told(groups: dict[str, dict[str, float]]) -> str:
    """The same in words, for who does not see it."""
    return "; ".join(
        f"{name}: {', '.join(f'{server} {ratio:.2f}' for server, ratio in ratios.items())}"
        for name, ratios in groups.items()
    )


def _legend(colours: dict[str, str]) -> Iterable[str]:
    at = 12
    for server, colour in colours.items():
        yield f'<rect x="{at}" y="38" width="10" height="10" fill="var({colour})"/>'
        yield f'<text x="{at + 15}" y="47">{escape(server)}</text>'
        at += 34 + 7 * len(server)


def _grid(bottom: int) -> Iterable[str]:
    for step in range(int(_LONGEST) + 1):
        x = _LEFT + step * _UNIT
        kind = "one" if step == 1 else "line"
        yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom}"/>'
        yield f'<text class="faint" x="{x:.1f}" y="{_TOP - 10}" text-anchor="middle">{step}</text>'


def _group(name: str, ratios: dict[str, float], at: int, colours: dict[str, str]) -> Iterable[str]:
    middle = at + len(ratios) * _BAR / 2 + 4
    yield f'<text x="{_LEFT - 8}" y="{middle:.1f}" text-anchor="end">{escape(name)}</text>'
    for number, (server, ratio) in enumerate(ratios.items()):
        y, width = at + number * _BAR, min(ratio, _LONGEST) * _UNIT
        colour = f"var({colours[server]})"
        yield (
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 1}" fill="{colour}">'
            f"<title>{escape(server)}: {ratio:.2f}</title></rect>"
        )
        label = f"{ratio:.2f}" + (" \N{RIGHTWARDS ARROW}" if ratio > _LONGEST else "")
        yield f'<text class="faint" x="{_LEFT + width + 4:.1f}" y="{y + _BAR - 2}">{label}</text>'


def main() -> None:
    """Draw what ``compare.py --json`` has kept."""
    source, target = (Path(each) for each in sys.argv[1:])
    target.write_text(chart(read(source), BASELINE))


if __name__ == "__main__":
    main()
