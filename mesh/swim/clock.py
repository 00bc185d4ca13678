"""How far this machine's wall clock is from those of its peers. Only to warn and to refuse absurd writes: nothing is set by
it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from crdt.ids import ReplicaId

PEERS_MAX: Final = 64
"""The newest word of so many peers counts. Guess: a median of 64 is as good as one of 1,000."""
CLOCK_ABS_MAX: Final = 1 << 62
"""Microseconds; a clock that says more is no clock."""


class PeerClocks:
    def __init__(self) -> None:
        self._offsets: OrderedDict[ReplicaId, int] = OrderedDict()

    def add(self, peer: ReplicaId, theirs: int, mine: int, round_trip: float) -> None:
        """A peer's wall clock, as it came in, against ours now (microseconds); it was read half a round trip ago."""
        if abs(theirs) > CLOCK_ABS_MAX:
            return
        self._offsets[peer] = theirs + int(round_trip * 500_000) - mine
        self._offsets.move_to_end(peer)
        while len(self._offsets) > PEERS_MAX:
            self._offsets.popitem(last=False)

    def forget(self, peer: ReplicaId) -> None:
        self._offsets.pop(peer, None)

    def offset(self) -> int | None:
        """Median of the peers' clocks less ours, in microseconds. Of two middle ones the one nearer to ours; None without
        peers.
        """
        if not self._offsets:
            return None
        ordered = sorted(self._offsets.values())
        low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
        return low if abs(low) <= abs(high) else high

    def outvoted(self, limit: int) -> int | None:
        """`offset`, when more than half of the peers and us are further than `limit` microseconds from our clock; else None.

        One peer with a wrong clock must not stop a healthy agent, also not while it is the only one that we have heard.
        """
        far = sum(abs(offset) > limit for offset in self._offsets.values())
        return self.offset() if 2 * far > len(self._offsets) + 1 else None
