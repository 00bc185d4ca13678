"""An ECDF as SVG: for each contestant, the share of all values that are at most x. Pure.

Logarithmic, because the contestants are orders of magnitude apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 720
HEIGHT: Final = 400
LEFT: Final = 60
TOP: Final = 50
RIGHT: Final = 40
"""Half of the last label of the axis has to fit."""
BOTTOM: Final = 50
COLOURS: Final = ("#0b7a75", "#d1495b", "#edae49", "#30638e", "#8d5a97", "#5c946e")
LETTER: Final = 7
"""The width of a letter of a name, at most on average, so that none touches the next."""
POINTS_MAX: Final = 400
"""Of one curve; more would not be seen."""


def ecdf(title: str, curves: dict[str, Sequence[float]], unit: str = "ms") -> str:
    """`curves`: at least one, none of them empty, all values positive."""
    values = [value for curve in curves.values() for value in curve]
    low, high = floor(log10(min(values))), max(ceil(log10(max(values))), floor(log10(min(values))) + 1)

    def x(value: float) -> float:
        return LEFT + (log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    for power in range(low, high + 1):
        at = x(10**power)
        parts.append(f'<line x1="{at:.1f}" y1="{y(1):.1f}" x2="{at:.1f}" y2="{y(0):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10.0**power:g} {unit}</text>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line x1="{LEFT}" y1="{y(share):.1f}" x2="{WIDTH - RIGHT}" y2="{y(share):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    name_at = LEFT
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(value):.1f},{y(share):.1f}" for value, share in _steps(sorted(curve)))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{name_at}" y="40" fill="{colour}">{escape(name)}</text>')
        name_at += LETTER * len(name) + 24
    return "\n".join([*parts, "</svg>"]) + "\n"


def _steps(ordered: Sequence[float]) -> list[tuple[float, float]]:
    count = len(ordered)
    step = max(1, count // POINTS_MAX)
    kept = sorted({*range(0, count, step), count - 1})
    return [(ordered[0], 0.0)] + [(ordered[index], (index + 1) / count) for index in kept]
