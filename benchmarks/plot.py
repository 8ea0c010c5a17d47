"""A session as a picture: one bar per contestant and work, on a logarithmic scale, as SVG without a library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from benchmarks.harness import OWN, read_series
from benchmarks.targets import shown_value

_WIDTH, _LEFT, _BAR, _ROW = 900, 330, 12, 16
_OURS, _THEIRS, _INK = "#0a6e5c", "#b9c0c8", "#333333"


def draw(document: Mapping[str, Any]) -> str:
    """Return the picture of a session's file; a work that failed has no bar."""
    parts, y = [], 40
    for work, found in read_series(document).items():
        bars = [(who, one.middle(), one.values(), one.unit) for who, one in found.items() if not one.failure]
        bars = [bar for bar in bars if bar[1]]
        if not bars:
            continue
        parts.append(_text(8, y, work, weight="bold"))
        y += _ROW
        values = [value for _, _, found_values, _ in bars for value in found_values if value > 0]
        # A decade below the smallest, so that also its bar can be seen.
        low, high = math.log10(min(values)) - 0.5, math.log10(max(values))
        scale = (_WIDTH - _LEFT - 130) / max(high - low, 0.5)
        for who, middle, each, unit in bars:
            length = (math.log10(middle) - low) * scale
            parts.append(_text(_LEFT - 8, y, who, anchor="end"))
            colour = _OURS if who == OWN else _THEIRS
            parts.append(f'<rect x="{_LEFT}" y="{y - _BAR + 2}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>')
            begin, end = ((math.log10(max(value, 1e-9)) - low) * scale + _LEFT for value in (min(each), max(each)))
            parts.append(
                f'<line x1="{begin:.1f}" x2="{end:.1f}" y1="{y - 4}" y2="{y - 4}" stroke="{_INK}" stroke-width="1.5"/>'
            )
            parts.append(_text(max(end, _LEFT + length) + 6, y, shown_value(middle, unit)))
            y += _ROW
        y += 8
    title = _text(8, 20, f"Medians, min to max, logarithmic; {document['begun_at']}", weight="bold")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 8}" font-family="sans-serif" '
        f'font-size="11" fill="{_INK}">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join([title, *parts])
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
