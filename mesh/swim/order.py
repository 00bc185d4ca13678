"""Whom to probe next, and when.

SWIM's rule is that each member goes through all others in a shuffled round-robin of its own, so that a crash is found after
at most 2n - 1 intervals by a given prober. Seen from the crashed member, probes then arrive at random: one per interval on
average, but the first one only after 4.6 intervals in one crash of a hundred. Here five probes of six follow a tournament
that all members share: in each round, the living in the order of their ids meet in pairs, each time other ones. Each of a pair
picks a moment of the round. Whoever comes first pings; the other has heard of it by then and is content, so two members are
probed for one question and one answer. Who crashed is asked in the next round at the latest, two intervals later at most (but
for the one who is left over where the number of members is odd). Rounds need no clock: each ping carries the number of its
round, and whoever is behind follows.

The sixth probe follows a shuffled round-robin of one's own. Whatever a liar does with the numbers of rounds, every member is
still probed as SWIM does it, at a sixth of the pace.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from math import gcd
from typing import Final

from crdt.ids import ReplicaId

OWN_ORDER_EVERY: Final = 6
"""Guess: a sixth of the rounds is worth independence from what others say."""
ROUNDS: Final = 1 << 16
"""Round numbers wrap around and are compared as serial numbers (RFC 1982)."""


class ProbeOrder:
    def __init__(self, me: ReplicaId, interval: float, rng: random.Random) -> None:
        self._me = me
        self._interval = interval
        self._rng = rng
        self._round = rng.randrange(ROUNDS)
        self._round_at = 0.0
        self._turns = rng.randrange(OWN_ORDER_EVERY)
        self._own: list[ReplicaId] = []

    def round(self, now: float) -> int:
        """The number of the round that is now."""
        passed = int((now - self._round_at) / self._interval)
        if passed > 0:
            self._round = (self._round + passed) % ROUNDS
            self._round_at += passed * self._interval
        return self._round

    def round_began(self, now: float) -> float:
        """Monotonic seconds."""
        self.round(now)
        return self._round_at

    def moment(self, now: float) -> float:
        """When to probe in the next round: at any time of it, so that all members do not speak at once."""
        return self.round_began(now) + self._interval * (1.0 + self._rng.random())

    def heard(self, number: int, now: float) -> None:
        """Another member's ping was of this round: follow it if it is ahead."""
        ahead = (number - self.round(now)) % ROUNDS
        if 0 < ahead < ROUNDS // 2:
            self._round = number % ROUNDS
            self._round_at = now

    @property
    def is_own(self) -> bool:
        """Whether the next probe follows one's own order."""
        return (self._turns + 1) % OWN_ORDER_EVERY == 0

    def partner(self, living: Sequence[ReplicaId], now: float) -> ReplicaId | None:
        """Of this round. `living`: ascending, without me. None for who is left over."""
        mine = bisect_left(living, self._me)  # my place among all, me included
        place = partner(self.round(now), mine, len(living) + 1)
        return None if place is None else living[place - (place > mine)]

    def next(self, living: Sequence[ReplicaId], now: float) -> ReplicaId | None:
        """Whom to probe in this round. None when there is nobody."""
        own = self.is_own
        self.skip()
        if not living:
            return None
        return (None if own else self.partner(living, now)) or self._next_of_own(living)

    def skip(self) -> None:
        """This round's partner has been heard."""
        self._turns += 1

    def another(self, living: Sequence[ReplicaId]) -> ReplicaId | None:
        """In place of one whom it is no use to probe."""
        return self._next_of_own(living) if living else None

    def _next_of_own(self, living: Sequence[ReplicaId]) -> ReplicaId:
        while self._own:
            member = self._draw()
            at = bisect_left(living, member)
            if at < len(living) and living[at] == member:
                return member
        self._own = list(living)
        return self._draw()

    def _draw(self) -> ReplicaId:
        """One step of a shuffle (Fisher and Yates): a large mesh is not shuffled at once."""
        own = self._own
        at = self._rng.randrange(len(own))
        own[at], own[-1] = own[-1], own[at]
        return own.pop()


def partner(number: int, place: int, members: int) -> int | None:
    """The place that this one meets in round `number`, None for who is left over, one in each round of an odd number of members.

    In any `circle` rounds that follow a multiple of it, each pair meets once ("circle method" of tournaments: places whose sum is
    that of the round, and the last place with the one that would meet itself), in another order from cycle to cycle. Members that
    disagree about who is there for a while merely ask more than once.
    """
    circle = members - 1 + members % 2
    cycle, step = divmod(number, circle)
    stride = 1 + (cycle * 7919 + 3 * circle // 7) % circle
    while gcd(stride, circle) != 1:
        stride += 1
    total = (step * stride + cycle) % circle
    if place == circle:  # the last place of an even number
        return total * ((circle + 1) // 2) % circle
    other = (total - place) % circle
    if other != place:
        return other
    return circle if circle < members else None
