"""Local health awareness (Lifeguard, LHA-Probe): when things go wrong for me, perhaps it is me.

A counter from 0 (healthy) to levels - 1. Signs that this agent itself is slow or badly connected raise it: a probe that failed, a
witness that did not even say nack, having to refute a suspicion, having stood still. Every answered probe lowers it. Intervals
*and* timeouts are stretched by counter + 1, so that a sick agent probes less, waits longer and accuses less.
"""

from __future__ import annotations


class LocalHealth:
    __slots__ = ("_top", "score")

    def __init__(self, levels: int) -> None:
        self._top = levels - 1
        self.score = 0

    @property
    def factor(self) -> int:
        """What intervals and timeouts are multiplied by."""
        return self.score + 1

    def better(self) -> None:
        self.score = max(0, self.score - 1)

    def worse(self, by: int = 1) -> None:
        self.score = min(self._top, self.score + by)
