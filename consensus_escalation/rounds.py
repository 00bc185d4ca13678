"""When a leader cuts what waits: at once while little is under way, later while company costs nobody anything.

A *round* is what was cut at one moment, until it is committed. Each costs every voter a datagram, a sync and an acknowledgement,
however little is in it, so many clients are served best by few rounds: one at the followers while the leader makes the next.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

ROUNDS_MAX: Final = 2
"""Under way at once. Guess: 1, 2 and 3 differ by less than the noise of a busy machine."""
COMPANY_SECONDS: Final = 0.01
"""A round that takes longer is waited for no more: the network is slow, not the voters, and the next one may well be on its way,
too. Guess: a third of a heartbeat's interval."""


class Rounds:
    def __init__(self) -> None:
        self._open: deque[tuple[int, float]] = deque()
        """(index of its last block, since when), oldest first."""

    def cut(self, last_index: int, now: float) -> None:
        self._open.append((last_index, now))

    def are_enough(self, commit: int, now: float) -> bool:
        """Whether what waits should wait on."""
        while self._open and (self._open[0][0] <= commit or now >= self._open[0][1] + COMPANY_SECONDS):
            self._open.popleft()
        return len(self._open) >= ROUNDS_MAX

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which to ask again, if something waits."""
        return self._open[0][1] + COMPANY_SECONDS if len(self._open) >= ROUNDS_MAX else inf

    def clear(self) -> None:
        self._open.clear()
