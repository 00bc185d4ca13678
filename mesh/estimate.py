"""A round trip that goes on being measured, as RFC 6298 section 2 does it."""

from __future__ import annotations

from typing import Final

_ALPHA: Final = 1 / 8
_BETA: Final = 1 / 4
_K: Final = 4


class Estimate:
    """Smoothed round trip and its mean deviation, in seconds."""

    __slots__ = ("deviation", "smoothed")

    def __init__(self, sample: float) -> None:
        self.smoothed = sample
        self.deviation = sample / 2

    def add(self, sample: float) -> None:
        self.deviation += _BETA * (abs(self.smoothed - sample) - self.deviation)
        self.smoothed += _ALPHA * (sample - self.smoothed)

    @property
    def patience(self) -> float:
        """How long an answer may take."""
        return self.smoothed + _K * self.deviation
