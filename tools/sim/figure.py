"""Pictures of a run as SVG, by hand: two panels of lines need no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 760
PANEL_HEIGHT: Final = 260
MARGIN_LEFT: Final = 64
MARGIN_RIGHT: Final = 24
MARGIN_TOP: Final = 36
MARGIN_BOTTOM: Final = 44
COLOURS: Final = ("#0b6e4f", "#c8553d", "#28536b", "#8f6593", "#b08900")
"""Told apart in print and by most colour-blind readers."""


class Curve(NamedTuple):
    label: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


class Span(NamedTuple):
    """A stretch of the x axis with a name: a cut, a crash."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    spans: Sequence[Span] = field(default_factory=tuple)


def svg(panels: Sequence[Panel]) -> str:
    """One picture, panels below each other."""
    height = PANEL_HEIGHT * len(panels)
    body = "".join(_panel(panel, number * PANEL_HEIGHT) for number, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )


def _panel(panel: Panel, top: int) -> str:
    xs = [x for curve in panel.curves for x, _ in curve.points] + [x for span in panel.spans for x in (span.start, span.end)]
    ys = [y for curve in panel.curves for _, y in curve.points]
    x_axis, y_axis = _ticks(min(xs, default=0.0), max(xs, default=1.0)), _ticks(min(0.0, *ys, 0.0), max(ys, default=1.0))
    left, right = MARGIN_LEFT, WIDTH - MARGIN_RIGHT
    low, high = top + PANEL_HEIGHT - MARGIN_BOTTOM, top + MARGIN_TOP

    def x_at(x: float) -> float:
        return left + (x - x_axis[0]) / (x_axis[-1] - x_axis[0]) * (right - left)

    def y_at(y: float) -> float:
        return low - (y - y_axis[0]) / (y_axis[-1] - y_axis[0]) * (low - high)

    parts = [f'<text x="{left}" y="{top + 20}" font-weight="bold">{escape(panel.title)}</text>']
    for span in panel.spans:
        start, end = x_at(span.start), x_at(span.end)
        parts.append(
            f'<rect x="{start:.1f}" y="{high}" width="{max(1.0, end - start):.1f}" height="{low - high}" fill="#f2e6d8"/>'
        )
        parts.append(f'<text x="{start + 3:.1f}" y="{high + 12}" fill="#7a5c3a">{escape(span.label)}</text>')
    for y in y_axis:
        parts.append(f'<path d="M{left} {y_at(y):.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y_at(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in x_axis:
        parts.append(f'<path d="M{x_at(x):.1f} {low}v4" stroke="#888"/>')
        parts.append(f'<text x="{x_at(x):.1f}" y="{low + 17}" text-anchor="middle">{x:g}</text>')
    for number, curve in enumerate(panel.curves):
        colour = COLOURS[number % len(COLOURS)]
        path = "L".join(f"{x_at(x):.1f} {y_at(y):.1f}" for x, y in curve.points)
        dash = ' stroke-dasharray="5 4"' if curve.dashed else ""
        if path:
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        parts.append(
            f'<text x="{right - 4}" y="{low - 8 - 15 * number}" text-anchor="end" fill="{colour}">{escape(curve.label)}</text>'
        )
    parts.append(f'<text x="{(left + right) / 2}" y="{low + 34}" text-anchor="middle">{escape(panel.x_label)}</text>')
    parts.append(
        f'<text transform="translate(16 {(low + high) / 2}) rotate(-90)" text-anchor="middle">{escape(panel.y_label)}</text>'
    )
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose [low, high]."""
    span = max(high - low, 1e-9)
    step = 1.0
    while step > span / 4:
        step /= 10
    while step < span / 40:
        step *= 10
    step = next(step * factor for factor in (1, 2, 5, 10, 20, 50) if span / (step * factor) <= 6)
    first, last = int(low // step), int(-(-high // step))
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]
