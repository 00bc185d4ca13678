"""The only place that reads the machine's clocks. Everything else is handed a `Now`."""

from __future__ import annotations

import time
from typing import Final, Protocol

from mesh.effects import Now


class Clock(Protocol):
    def now(self) -> Now:
        """Both clocks, read now."""


class SystemClock:
    """`time.monotonic` and `time.time`. The wall clock may be years off and may jump; the core judges that, not the clock."""

    def now(self) -> Now:
        return Now(_monotonic(), int(_time() * 1e6))


_monotonic: Final = time.monotonic
_time: Final = time.time
"""A double, which compiled code multiplies without an object; it is exact to a quarter of a microsecond for some time to come."""
