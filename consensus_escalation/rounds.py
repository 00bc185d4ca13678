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
PART: Final = 4
"""What waits is worth a round beside those under way when it is at least so small a part of them. Else a client that is
answered a moment before or after all others goes alone for ever. 1, 2 and 4 differ by less than the noise (measured)."""
COMPANY_SECONDS: Final = 0.01
"""A round that takes longer is waited for no more: the network is slow, not the voters, and the next one may well be on its way,
too. Guess: a third of a heartbeat's interval."""


class Rounds:
    def __init__(self) -> None:
        self._open: deque[tuple[int, float, int]] = deque()
        """(index of its last block, since when, entries), oldest first."""

    def cut(self, last_index: int, now: float, entries: int) -> None:
        self._open.append((last_index, now, entries))

    def are_enough(self, commit: int, now: float, waiting: int) -> bool:
        """Whether so many entries should wait on."""
        while self._open:
            last_index, since, entries = self._open[0]
            # Who waited beside a round that is done waits for its clients, too, which are about to ask again.
            is_back = last_index <= commit and not 0 < PART * waiting < entries
            if not is_back and now < since + COMPANY_SECONDS:
                break
            self._open.popleft()
        return len(self._open) >= ROUNDS_MAX or PART * waiting < sum([entries for _, _, entries in self._open])

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which to ask again, if something waits."""
        return self._open[0][1] + COMPANY_SECONDS if self._open else inf

    def clear(self) -> None:
        self._open.clear()
