"""Clocks of simulated machines: each has a monotonic clock that drifts and a wall clock that is also wrong and may jump.

World time is an integer of microseconds, so that it adds up exactly everywhere. A machine's own seconds are floats, as the core
expects them.
"""

from __future__ import annotations

import math
from typing import Final

from mesh.effects import Now

SECOND: Final = 1_000_000
"""Microseconds."""

EPOCH: Final = 1_767_225_600 * SECOND
"""Wall time at world time 0: 2026-01-01. A constant, so that a run depends on its seed alone."""


def microseconds(seconds: float) -> int:
    return round(seconds * SECOND)


class Clock:
    """`drift`: parts per million that this machine's oscillator is fast. `skew`: seconds that its wall clock is ahead."""

    __slots__ = ("_rate", "_start", "_wall_offset")

    def __init__(self, *, drift: float = 0.0, skew: float = 0.0, start: float = 1_000.0) -> None:
        """`start`: the monotonic clock at world time 0; differs between machines, since nobody may compare them."""
        self._rate = 1.0 + drift / 1e6
        self._start = start
        self._wall_offset = EPOCH + microseconds(skew)

    def now(self, time: int) -> Now:
        elapsed = time * self._rate
        return Now(self._start + elapsed / SECOND, self._wall_offset + int(elapsed))

    def when(self, monotonic: float) -> int:
        """World time of the first microsecond at which this machine's monotonic clock is at or past `monotonic`."""
        time = math.ceil((monotonic - self._start) * SECOND / self._rate)
        return time if self._start + time * self._rate / SECOND >= monotonic else time + 1

    def jump(self, seconds: float) -> None:
        """The wall clock is set: by hand, by NTP, by a dead battery. The monotonic clock never jumps."""
        self._wall_offset += microseconds(seconds)

    def set_drift(self, drift: float, time: int) -> None:
        """The oscillator's rate changes (temperature); neither clock jumps."""
        before = self.now(time)
        self._rate = 1.0 + drift / 1e6
        elapsed = time * self._rate
        self._start = before.monotonic - elapsed / SECOND
        self._wall_offset = before.wall - int(elapsed)
