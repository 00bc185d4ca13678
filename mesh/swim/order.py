"""Whom to probe next, and when.

SWIM's rule is that each member goes through all others in a shuffled round-robin of its own, so that a crash is found after
at most 2n - 1 intervals by a given prober. Seen from the crashed member, probes then arrive at random: one per interval on
average, but the first one only after 4.6 intervals in one crash of a hundred. Here five probes of six follow a tournament
that all members share: in each round, the living in the order of their ids meet in pairs, each time other ones. Each of a pair
picks a moment of the round. Whoever comes first pings; the other has heard of it by then and is content, so two members are
probed for one question and one answer. Who crashed is asked in the next round at the latest, two intervals later at most (but
for the one who is left over where the number of members is odd).

Rounds need no clock: each ping says how far its round is, and whoever is behind follows. Who has just started names no round
until it was told one: else every second start would drag the whole mesh along to a number of its own, and for seconds, while
some have followed and others have not, pairs do not match and a crash waits for luck. Where nobody tells one, all have just
started; then the wall clocks say where to begin, and where they are wrong the rule above mends it.

In every sixth round one more probe follows a shuffled round-robin of one's own. Whatever a liar does with the numbers of rounds,
every member is still probed as SWIM does it, at a sixth of the pace.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from math import gcd
from typing import Final

from crdt.ids import ReplicaId
from mesh.effects import Now

OWN_ORDER_EVERY: Final = 6
"""Guess: a sixth of the rounds is worth independence from what others say."""
ROUNDS: Final = 1 << 16
"""Round numbers wrap around and are compared as serial numbers (RFC 1982)."""
STEPS: Final = 256
"""Of a round: how far it is, as a ping names it. Fine enough for all to be in step within a hundredth of an interval."""
PLACES: Final = ROUNDS * STEPS
UNTOLD_TURNS: Final = 3
"""Turns of one's own without being told a round, before one begins it. Guess: its partners should have pinged it by then."""


class ProbeOrder:
    def __init__(self, me: ReplicaId, interval: float, rng: random.Random) -> None:
        self._me = me
        self._interval = interval
        self._rng = rng
        self._round = 0
        self._round_at = 0.0
        self._untold = UNTOLD_TURNS
        """Turns left to wait for somebody who names a round; 0: one is known."""
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

    def are_of_one_round(self, one: float, other: float) -> bool:
        return (one - self._round_at) // self._interval == (other - self._round_at) // self._interval

    def moment(self, now: float) -> float:
        """When to probe in the next round: at any time of it, so that all members do not speak at once."""
        return self.round_began(now) + self._interval * (1.0 + self._rng.random())

    def place(self, now: float) -> int | None:
        """What a ping says: the round and how far it is, in `STEPS`. None while no round is known."""
        if self._untold:
            return None
        step = int((now - self.round_began(now)) / self._interval * STEPS)
        return self._round * STEPS + min(max(step, 0), STEPS - 1)

    def heard(self, place: int, now: float) -> None:
        """Where another member's ping is: follow it if it is ahead, or if we have just started."""
        mine = self.place(now)
        if mine is None or 0 < (place - mine) % PLACES < PLACES // 2:
            self._untold = 0
            self._round, step = divmod(place % PLACES, STEPS)
            self._round_at = now - self._interval * step / STEPS

    def begin(self, now: Now, living: Sequence[ReplicaId]) -> None:
        """A turn of one's own has come. When nobody has named a round for long enough, all begin it, by their wall clocks."""
        if not living:
            return
        if self._untold == 1:
            place = now.wall * STEPS // round(self._interval * 1_000_000)
            self.heard(place, now.monotonic)
        elif self._untold:
            self._untold -= 1

    @property
    def is_own(self) -> bool:
        """Whether the next probe follows one's own order."""
        return (self._turns + 1) % OWN_ORDER_EVERY == 0

    def partner(self, living: Sequence[ReplicaId], now: float) -> ReplicaId | None:
        """Of this round. `living`: ascending, without me. None for who is left over, and while no round is known."""
        if self._untold:
            return None
        mine = bisect_left(living, self._me)  # my place among all, me included
        place = partner(self.round(now), mine, len(living) + 1)
        return None if place is None else living[place - (place > mine)]

    def next(self, living: Sequence[ReplicaId], now: float) -> tuple[ReplicaId | None, ReplicaId | None]:
        """Whom to probe in this round: the partner, and somebody of one's own order. None where there is nobody."""
        own = self.is_own
        self.skip()
        if not living:
            return None, None
        partner = self.partner(living, now)
        return partner, self._next_of_own(living) if own or partner is None else None

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
