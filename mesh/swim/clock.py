"""How far this machine's wall clock is from those of its peers. Only to warn and to refuse absurd writes: nothing is set by
it.

When the own wall clock steps against the monotonic one, be it set or the machine asleep, what was measured before says nothing
any more and is forgotten. So a clock that was set right is believed at once, and a wrong one is found out by the words of two
peers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from crdt.ids import ReplicaId
from mesh.effects import Now

PEERS_MAX: Final = 64
"""The newest word of so many peers counts. Guess: a median of 64 is as good as one of 1,000."""
ENOUGH: Final = 2
"""Peers that outvote a clock. Until the words of so many are known, each is asked for."""
CLOCK_ABS_MAX: Final = 1 << 62
"""Microseconds; a clock that says more is no clock."""


STEP_MICROSECONDS: Final = 60 * 1_000_000
"""A step of the own wall clock that counts. Guess: far above what NTP slews, far below the hour that stops a writer."""


class PeerClocks:
    def __init__(self) -> None:
        self._offsets: OrderedDict[ReplicaId, int] = OrderedDict()
        self._widest = 0
        """None of them was further off than this."""
        self._start: int | None = None
        """What our wall clock said when our monotonic clock was 0."""

    def add(self, peer: ReplicaId, theirs: int, now: Now, round_trip: float) -> None:
        """A peer's wall clock in microseconds, as it came in; it was read half a round trip ago."""
        if abs(theirs) > CLOCK_ABS_MAX:
            return
        self._notice_step(now)
        self._offsets[peer] = offset = theirs + int(round_trip * 500_000) - now.wall
        self._widest = max(self._widest, abs(offset))
        self._offsets.move_to_end(peer)
        while len(self._offsets) > PEERS_MAX:
            self._offsets.popitem(last=False)

    def _notice_step(self, now: Now) -> None:
        start = now.wall - int(now.monotonic * 1e6)
        if self._start is None or abs(start - self._start) > STEP_MICROSECONDS:
            self._offsets.clear()
            self._widest, self._start = 0, start

    def lacks(self, peers: int, now: Now) -> bool:
        """Whether too few of so many peers have said what time it is."""
        self._notice_step(now)
        return len(self._offsets) < min(ENOUGH, peers)

    def forget(self, peer: ReplicaId) -> None:
        self._offsets.pop(peer, None)

    def offset(self, now: Now) -> int | None:
        """Median of the peers' clocks less ours, in microseconds. Of two middle ones the one nearer to ours; None without
        peers.
        """
        self._notice_step(now)
        if not self._offsets:
            return None
        ordered = sorted(self._offsets.values())
        low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
        return low if abs(low) <= abs(high) else high

    def outvoted(self, limit: int, now: Now) -> int | None:
        """`offset`, when more than half of the peers and us are further than `limit` microseconds from our clock; else None.

        One peer with a wrong clock must not stop a healthy agent, also not while it is the only one that we have heard.
        """
        self._notice_step(now)
        if self._widest <= limit:  # nearly always, and asked at each write
            return None
        offsets = self._offsets.values()
        far = sum(abs(each) > limit for each in offsets)
        return self.offset(now) if 2 * far > len(offsets) + 1 else None
