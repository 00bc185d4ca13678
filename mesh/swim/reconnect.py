"""Calling out to those who are gone, for ever, so that cuts heal.

All living members of one side share the work: together they call about once per `reconnect_interval_seconds`, whatever their
number, so a link that came back is found within a fraction of a second after a cut of any length, and the cost per member
falls with the size of the mesh. Whom to call is drawn by lot, those who went long ago less and less often (weight 1 / (1 +
minutes)), never never. Seeds at whose address no living member is known are called like the dead. To whom a session was open
when it went, a ping is sent in it, which needs one round trip to bring the dead back; the others, and strangers, are asked
for a session.

An agent that knows nobody alive (it just started, or its mesh did) calls all seeds and a handful of remembered peers at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

from crdt.ids import ReplicaId
from mesh.effects import Address, Now
from mesh.port import Port
from mesh.swim.config import SwimConfig
from mesh.swim.roster import NO_ADDRESS, Record, Roster

FADING_SECONDS: Final = 60.0
"""A member that went so long ago is called half as often as one that just went. Guess."""
SLOWER_AFTER_SECONDS: Final = 3600.0
"""When even the last to go went so long ago, all calling slows down, to half at most. Guess."""
AT_ONCE_MAX: Final = 8
"""Addresses that an agent calls in one go which just became lonely, seeds apart. Guess."""
LONELY_BURSTS: Final = 4
"""So often, and then ..."""
LONELY_AT_ONCE: Final = 2
"""... so many per probe interval for ever: what it would spend on probes if anybody were there."""


class Reconnect:
    def __init__(
        self,
        config: SwimConfig,
        roster: Roster,
        port: Port,
        rng: random.Random,
        seeds: Iterable[Address],
        me: Address,
        ping: Callable[[ReplicaId, Now], bool],
    ) -> None:
        """`ping`: send one in an open session; False when there is none."""
        self._config, self._roster, self._port, self._rng = config, roster, port, rng
        self._ping = ping
        self._seeds = sorted({seed for seed in seeds if seed != me})
        self._living_at: dict[Address, ReplicaId | None] = {}
        """By seed."""
        self._lonely_calls = 0
        self._began: float | None = None
        self.deadline = 0.0

    def tick(self, now: Now) -> None:
        at = now.monotonic
        if at < self.deadline:
            return
        if self._began is None:
            self._began = at
        if self._roster.living:
            self._lonely_calls = 0
            self._call_one(now)
        else:
            self._call_many(now)

    def hurry(self, now: float) -> None:
        """Somebody came or went: there may be somebody to call now, and a side that has become small must call more often."""
        self.deadline = min(self.deadline, now + self._pause(now))

    def _call_one(self, now: Now) -> None:
        at = now.monotonic
        gone: list[tuple[Record | Address, float]] = [(record, record.since) for record in self._callable()]
        gone += [(seed, self._began or at) for seed in self._seeds if not self._is_lived_at(seed)]
        if not gone:
            self.deadline = inf
            return
        weights = [1.0 / (1.0 + max(0.0, at - since) / FADING_SECONDS) for _, since in gone]
        self._call(self._rng.choices([whom for whom, _ in gone], weights)[0], now)
        self.deadline = at + self._pause(at, max(since for _, since in gone))

    def _is_lived_at(self, seed: Address) -> bool:
        """By a living member: mostly the one that was found there last."""
        found = self._living_at.get(seed, self._roster.residents.get(seed))
        if found is None or not self._roster.lives_at(found, seed):
            found = self._living_at[seed] = self._roster.living_at(seed)
        return found is not None

    def _call_many(self, now: Now) -> None:
        """Nobody is there. At first all seeds and many at once, for a quick start; then a few at a time, by lot."""
        others = [record for record in self._callable() if record.address not in self._seeds]
        if not (self._seeds or others):
            self.deadline = inf
            return
        called: list[Record | Address]
        if self._lonely_calls < LONELY_BURSTS:
            called = [*self._seeds, *self._rng.sample(others, min(AT_ONCE_MAX, len(others)))]
        else:
            called = self._rng.sample([*self._seeds, *others], min(LONELY_AT_ONCE, len(self._seeds) + len(others)))
        for whom in called:
            self._call(whom, now)
        self._lonely_calls += 1
        self.deadline = now.monotonic + self._config.probe_interval_seconds

    def _call(self, whom: Record | Address, now: Now) -> None:
        if isinstance(whom, tuple):
            self._port.contact(whom)
        elif not self._ping(whom.replica, now):
            self._port.contact(whom.address)

    def _pause(self, now: float, last_gone: float | None = None) -> float:
        """Mine, so that all together keep the pace."""
        pause = max(self._config.probe_interval_seconds, len(self._roster) * self._config.reconnect_interval_seconds)
        if last_gone is not None:
            pause *= 1.0 + min(1.0, max(0.0, now - last_gone) / SLOWER_AFTER_SECONDS)
        return pause * self._rng.uniform(0.5, 1.5)

    def _callable(self) -> Sequence[Record]:
        dead = self._roster.dead
        return [dead[replica] for replica in sorted(dead) if dead[replica].address != NO_ADDRESS]
