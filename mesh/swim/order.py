"""Whom to probe next.

SWIM's rule is that each member goes through all others in a shuffled round-robin of its own, so that a crash is found after
at most 2n - 1 intervals by a given prober. Seen from the crashed member, probes then arrive at random: one per interval on
average, but the first one only after 4.6 intervals in one crash of a hundred. Here three probes of four follow a round-robin
that all members share: the living in the order of their ids form a ring, and in round r everybody probes the member offset(r)
places further on. So each member is probed by exactly one other in each round, each time another one, and 1.5 intervals pass
at most. Rounds need no clock: each ping carries the number of its round, and whoever is behind follows.

The fourth probe follows a shuffled round-robin of one's own. Whatever a liar does with the numbers of rounds, every member is
still probed as SWIM does it, at a quarter of the pace.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from math import gcd
from typing import Final

from crdt.ids import ReplicaId

OWN_ORDER_EVERY: Final = 6
"""Guess: a quarter of the probes is worth independence from what others say."""
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

    def heard(self, number: int, now: float) -> None:
        """Another member's ping was of this round: follow it if it is ahead."""
        ahead = (number - self.round(now)) % ROUNDS
        if 0 < ahead < ROUNDS // 2:
            self._round = number % ROUNDS
            self._round_at = now

    def next(self, living: Sequence[ReplicaId], now: float) -> ReplicaId | None:
        """`living`: ascending, without me. None when there is nobody."""
        if not living:
            return None
        self._turns += 1
        if self._turns % OWN_ORDER_EVERY == 0:
            return self._next_of_own(living)
        mine = bisect_left(living, self._me)  # my place in the ring that includes me
        return living[(mine + offset(self.round(now), len(living)) - 1) % len(living)]

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


def offset(number: int, others: int) -> int:
    """Places to go on in round `number`: in any `others` rounds that follow a multiple of it, each of 1 .. others exactly once.

    An affine permutation, other ones from cycle to cycle; members that disagree about the number of members for a while merely
    probe somebody twice.
    """
    cycle, step = divmod(number, others)
    stride = 1 + (cycle * 7919 + 3 * others // 7) % others
    while gcd(stride, others) != 1:
        stride += 1
    return 1 + (step * stride + cycle) % others
