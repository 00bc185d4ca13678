"""The wall clock that this agent brings into the log: its own, unless it has been set wrong.

Log time is the leader's clock, within what a quorum's clocks have attested (`consensus_escalation.clocks`). So a clock that was
outvoted by the peers is corrected by their median, and one that has just been set is not believed before the peers had time to
say what they think of it. What the log itself says corrects nothing: a leader may be two hours ahead of what was attested, and
voters that took its word for the time would attest that next.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from mesh.effects import Now
from mesh.permits import CLOCK_OFFSET_MAX_MICROSECONDS
from mesh.swim.clock import STEP_MICROSECONDS

SETTLE_SECONDS: Final = 10.0
"""After a step, until it is believed if nobody objects. Guess: a few rounds of probes, each brings a peer's clock."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at the peers' clocks."""


class LogClock:
    def __init__(self, outvoted: Callable[[int, Now], int | None]) -> None:
        """`outvoted`: (limit, now) -> how far the peers' median is from this clock, when most of them are beyond the limit."""
        self._outvoted = outvoted
        self._start: int | None = None
        """What the believed wall clock said when the monotonic one was 0."""
        self._believe_at = inf
        self._look_at = -inf
        self._offset = 0
        self._asked_at: Now | None = None
        self._found = Now(0.0, 0)
        """What `_corrected` said last; asked several times in a turn."""

    def at(self, now: Now) -> Now:
        """`now`, with the wall clock that counts."""
        if now is not self._asked_at:
            self._found = self._corrected(now)
            self._asked_at = now
        return self._found

    def _corrected(self, now: Now) -> Now:
        start = now.wall - int(now.monotonic * 1e6)
        if self._start is None:
            self._start = start
        has_stepped = abs(start - self._start) > STEP_MICROSECONDS
        if has_stepped and self._believe_at == inf:
            self._believe_at = now.monotonic + SETTLE_SECONDS
        if now.monotonic >= self._look_at or has_stepped:
            self._look_at = now.monotonic + LOOK_SECONDS
            self._offset = self._outvoted(CLOCK_OFFSET_MAX_MICROSECONDS, now) or 0
        if has_stepped and not self._offset and now.monotonic < self._believe_at:
            return now._replace(wall=self._start + int(now.monotonic * 1e6))
        self._start, self._believe_at = start, inf
        return now._replace(wall=now.wall + self._offset) if self._offset else now
