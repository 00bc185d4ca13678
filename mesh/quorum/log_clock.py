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

from consensus_escalation.clocks import AHEAD_MICROSECONDS, latest
from mesh.effects import Now
from mesh.permits import CLOCK_OFFSET_MAX_MICROSECONDS
from mesh.swim.clock import STEP_MICROSECONDS

SETTLE_SECONDS: Final = 10.0
"""After a step, until it is believed if nobody objects. Guess: a few rounds of probes, each brings a peer's clock."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at the peers' clocks."""


class LogClock:
    def __init__(self, outvoted: Callable[[int, Now], int | None], median: Callable[[Now], int | None]) -> None:
        """`outvoted`: (limit, now) -> how far the peers' median is from this clock, when most of them are beyond the limit.
        `median`: how far it is, however many they are."""
        self._outvoted, self._median = outvoted, median
        self._start: int | None = None
        """What the believed wall clock said when the monotonic one was 0."""
        self._logged: int | None = None
        """The same by the log, when this agent began."""
        self._sure_at, self._is_sure = -inf, True
        self._believe_at = inf
        self._look_at = -inf
        self._offset = 0
        self._asked_at: Now | None = None
        self._found = Now(0.0, 0)
        """What `_corrected` said last; asked several times in a turn."""

    def began(self, log_time: int, now: Now) -> None:
        """This agent starts again, and its log goes to `log_time`. Nothing on the machine says how long it was away."""
        if log_time and now.wall > latest(log_time):
            self._logged, self._sure_at = log_time - int(now.monotonic * 1e6), now.monotonic + SETTLE_SECONDS

    def is_sure(self, now: Now) -> bool:
        """Whether this agent may say in the log what time it is: peers had time to contradict."""
        self.at(now)
        return self._is_sure

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
        self._is_sure = now.monotonic >= self._sure_at or self._median(now) is not None
        if now.monotonic >= self._look_at or has_stepped or now.monotonic < self._sure_at + LOOK_SECONDS:
            self._look_at = now.monotonic + LOOK_SECONDS
            known = self._start if has_stepped else self._logged
            self._offset = self._outvoted(CLOCK_OFFSET_MAX_MICROSECONDS, now) or self._contradicted(start, known, now)
        if has_stepped and not self._offset and now.monotonic < self._believe_at:
            return Now(now.monotonic, self._start + int(now.monotonic * 1e6))
        self._start, self._believe_at = start + self._offset, inf
        return Now(now.monotonic, now.wall + self._offset) if self._offset else now

    def _contradicted(self, start: int, known: int | None, now: Now) -> int:
        """How far off this clock is, if peers say so and what this agent knew before bears them out: of two agents neither is
        outvoted, but one of them has just been set."""
        offset = self._median(now)
        if offset is None or known is None or abs(offset) <= CLOCK_OFFSET_MAX_MICROSECONDS:
            return 0
        return offset if abs(start + offset - known) <= AHEAD_MICROSECONDS else 0
