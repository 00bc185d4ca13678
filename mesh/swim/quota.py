"""How much one accuser may accuse.

An honest member begins one probe per interval and so cannot accuse faster than that, plus the fresh suspects that it checks
out of turn. And an honest member is mostly right: every accusation that stood alone and was refuted costs, and comes back
slowly. So one liar, or one member that can send but not receive, can make the others refute a few times and then no more.
"""

from __future__ import annotations

from typing import Final

from crdt.ids import ReplicaId

PACE_BURST: Final = 32.0
"""Accusations at once: half of a mesh of 64 that a cut took away, as seen by a witness to all of it. Guess."""
PACE_PER_INTERVAL: Final = 2.0
"""And per probe interval: one probe in turn, one check."""
WRONG_BURST: Final = 8.0
"""Accusations that may turn out wrong, at once. Guess."""
WRONG_EVERY_INTERVALS: Final = 100.0
"""One more per so many probe intervals (30 s with `lan`). Guess: an honest member among stalling ones is wrong once in
minutes.
"""


class _Budget:
    __slots__ = ("at", "pace", "wrong")

    def __init__(self, now: float) -> None:
        self.at = now
        self.pace = PACE_BURST
        self.wrong = WRONG_BURST


class Quota:
    def __init__(self, probe_interval: float) -> None:
        self._interval = probe_interval
        self._budgets: dict[ReplicaId, _Budget] = {}

    def allows(self, accuser: ReplicaId, now: float) -> bool:
        """Before the signature is looked at: what is over the quota costs nothing, and whoever was made up takes no memory."""
        if accuser not in self._budgets:
            return True
        budget = self._refilled(accuser, now)
        return budget.pace >= 1 and budget.wrong >= 1

    def accused(self, accuser: ReplicaId, now: float) -> None:
        """An accusation was taken up."""
        self._refilled(accuser, now).pace -= 1

    def was_wrong(self, accuser: ReplicaId, now: float) -> None:
        """Nobody else confirmed it, and the accused spoke up."""
        budget = self._refilled(accuser, now)
        budget.wrong = max(0.0, budget.wrong - 1)

    def forget(self, accuser: ReplicaId) -> None:
        self._budgets.pop(accuser, None)

    def _refilled(self, accuser: ReplicaId, now: float) -> _Budget:
        budget = self._budgets.get(accuser)
        if budget is None:
            budget = self._budgets[accuser] = _Budget(now)
        intervals = max(0.0, now - budget.at) / self._interval
        budget.at = now
        budget.pace = min(PACE_BURST, budget.pace + intervals * PACE_PER_INTERVAL)
        budget.wrong = min(WRONG_BURST, budget.wrong + intervals / WRONG_EVERY_INTERVALS)
        return budget
