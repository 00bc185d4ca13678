"""Pictures of a run as SVG, by hand: two panels of lines need no plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 760
PANEL_HEIGHT: Final = 280
MARGIN_LEFT: Final = 64
MARGIN_RIGHT: Final = 24
MARGIN_TOP: Final = 54
MARGIN_BOTTOM: Final = 44
LETTER_WIDTH: Final = 6.3
"""Of the font, on average: there is nobody here to measure it."""
SPAN_ROWS: Final = 5
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
    log_x: bool = False
    """Tens on the x axis; points at or below 0 are left out."""
    y_max: float | None = None
    """Where the y axis ends; None: at the highest point."""


def svg(panels: Sequence[Panel]) -> str:
    """One picture, panels below each other."""
    height = PANEL_HEIGHT * len(panels)
    body = "".join(_panel(panel, number * PANEL_HEIGHT) for number, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to places in the picture."""

    ticks: Sequence[float]
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (self._scaled(each) for each in (self.ticks[0], self.ticks[-1], value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value


def _panel(panel: Panel, top: int) -> str:
    left, right, low, high = MARGIN_LEFT, WIDTH - MARGIN_RIGHT, top + PANEL_HEIGHT - MARGIN_BOTTOM, top + MARGIN_TOP
    curves = [curve._replace(points=[(x, y) for x, y in curve.points if x > 0 or not panel.log_x]) for curve in panel.curves]
    xs = [x for curve in curves for x, _ in curve.points] + [x for span in panel.spans for x in (span.start, span.end)]
    ys = [y for curve in curves for _, y in curve.points]
    first, last = min(xs, default=1.0 if panel.log_x else 0.0), max(xs, default=10.0 if panel.log_x else 1.0)
    x_axis = _Axis(_tens(first, last) if panel.log_x else _ticks(first, last), left, right, panel.log_x)
    y_axis = _Axis(_ticks(0.0, panel.y_max if panel.y_max is not None else max(ys, default=1.0)), low, high)

    parts = [f'<text x="{left}" y="{top + 18}" font-weight="bold">{escape(panel.title)}</text>']
    parts += _spans(panel.spans, x_axis, low, high)
    for y in y_axis.ticks:
        parts.append(f'<path d="M{left} {y_axis.at(y):.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y_axis.at(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in x_axis.ticks:
        parts.append(f'<path d="M{x_axis.at(x):.1f} {low}v4" stroke="#888"/>')
        parts.append(f'<text x="{x_axis.at(x):.1f}" y="{low + 17}" text-anchor="middle">{x:g}</text>')
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        path = "L".join(f"{x_axis.at(x):.1f} {y_axis.at(y):.1f}" for x, y in curve.points)
        dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
        if path:
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
    parts += _legend(curves, left, top + 38)
    parts.append(f'<text x="{(left + right) / 2}" y="{low + 34}" text-anchor="middle">{escape(panel.x_label)}</text>')
    parts.append(
        f'<text transform="translate(16 {(low + high) / 2}) rotate(-90)" text-anchor="middle">{escape(panel.y_label)}</text>'
    )
    return "".join(parts)


def _spans(spans: Sequence[Span], x_axis: _Axis, low: float, high: float) -> list[str]:
    """Stretches behind the curves. A name stands where there is room for it in one of the rows, else in the tooltip only."""
    stretches, names, rows = [], [], [0.0] * SPAN_ROWS
    for span in sorted(spans):
        start, end = x_axis.at(span.start), x_axis.at(span.end)
        stretches.append(
            f'<rect x="{start:.1f}" y="{high}" width="{max(1.5, end - start):.1f}" height="{low - high}" fill="#e8c99b" '
            f'fill-opacity="0.45"><title>{escape(span.label)}</title></rect>'
        )
        width = LETTER_WIDTH * len(span.label)
        row = next((number for number, taken in enumerate(rows) if taken <= start and start + width <= x_axis.end), None)
        if row is not None:
            rows[row] = start + width + LETTER_WIDTH
            names.append(f'<text x="{start + 3:.1f}" y="{low - 8 - 14 * row:.1f}" fill="#7a5c3a">{escape(span.label)}</text>')
    return stretches + names


def _legend(curves: Sequence[Curve], left: float, y: float) -> list[str]:
    """In a line of its own below the title."""
    parts, x = [], float(left)
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
        parts.append(f'<path d="M{x:.0f} {y - 4}h22" stroke="{colour}" stroke-width="1.8"{dash}/>')
        parts.append(f'<text x="{x + 28:.0f}" y="{y}" fill="{colour}">{escape(curve.label)}</text>')
        x += 28 + LETTER_WIDTH * len(curve.label) + 24
    return parts


def _tens(low: float, high: float) -> list[float]:
    """Powers of ten that enclose [low, high]."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


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
