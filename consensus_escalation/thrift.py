"""Who gets a new block at once: as many as have to agree, while they are quick.

    leader  --block-->   the best of the others that make a quorum   at once
            --blocks-->  the rest                                    together, after SPARE_SECONDS at most

Those who are not waited for cost the leader, themselves and whoever shares a machine with them a datagram, a sync and an
acknowledgement for each round; a few rounds together cost them as much as one. A voter whose own write it is waits for the block,
so it gets that at once, too. Where a quorum is not that quick, or a datagram was lost, everybody gets everything at once for a
while: the price of thrift is that one wait. ("Thrifty" in Moraru, Andersen and Kaminsky, There Is More Consensus in Egalitarian
Parliaments, SOSP 2013, section 6.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from consensus_escalation.quorum import Config, majority
from consensus_escalation.types import Voter

SPARE_SECONDS: Final = 0.025
"""One client of three voters on one machine waits 3, 7, 11% less with 5, 10, 25 ms (measured); a heartbeat comes after 30."""
GENEROUS_SECONDS: Final = 10.0
"""After a round that took longer. Guess: links that lose datagrams, or are as slow, stay so for longer than that."""


class Thrift:
    def __init__(self) -> None:
        self._prompt: frozenset[Voter] | None = None
        """Who gets blocks at once; None: everybody."""
        self.due = inf
        """Monotonic seconds at which the others get what they lack."""
        self._awaited = self._told = 0
        """The newest block when they began to wait, and the newest one of those that are due to all."""
        self._generous_until = 0.0
        self._wrote: dict[Voter, int] = {}
        """The newest block with something that this voter wrote."""

    def choose(self, config: Config, me: Voter, there: Sequence[Voter], *, is_agreed: bool = True) -> None:
        """Who has to agree with me, of those that answer, best first: they are to lead next, and need all for that. While voters
        change, or too few answer, everybody. `is_agreed`: this configuration is committed; else others have a say, too."""
        count = majority(len(config.voters)) - 1
        changes = not is_agreed or config.is_joint or config.learners or me not in config.voters
        self._prompt = None if changes or len(there) < count else frozenset(there[:count])

    def wrote(self, voters: Iterable[Voter], index: int) -> None:
        """The block at `index` holds entries of these."""
        self._wrote.update((voter, index) for voter in voters)

    def is_due(self, voter: Voter, next_index: int, now: float) -> bool:
        """Whether it gets the block that it wants next, and all that is new, now."""
        at_once = self._prompt is None or voter in self._prompt or now < self._generous_until
        return at_once or next_index <= max(self._told, self._wrote.get(voter, 0)) or now >= self.due

    def waits(self, last_index: int, now: float) -> None:
        """Somebody is not told of this block yet."""
        if self.due == inf:
            self.due, self._awaited = now + SPARE_SECONDS, last_index

    def told(self, last_index: int, commit: int, now: float) -> None:
        """Everybody is, since that was due."""
        self._told = last_index
        if commit < self._awaited:
            self._generous_until = now + GENEROUS_SECONDS
        self.due = inf
