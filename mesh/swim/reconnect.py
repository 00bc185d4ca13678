"""Calling out to those who are gone, for ever, so that cuts heal.

All living members of one side share the work: together they call about once per `reconnect_interval_seconds`, whatever their
number, so a link that came back is found within a fraction of a second after a cut of any length, and the cost per member
falls with the size of the mesh. Whom to call is drawn by lot, those who went long ago less and less often (weight 1 / (1 +
minutes)), never never. Seeds at whose address no living member is known are called like the dead.

An agent that knows nobody alive (it just started, or its mesh did) calls all seeds and a handful of remembered peers at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from mesh.effects import Address
from mesh.port import Port
from mesh.swim.config import SwimConfig
from mesh.swim.roster import NO_ADDRESS, Record, Roster

FADING_SECONDS: Final = 60.0
"""A member that went so long ago is called half as often as one that just went. Guess."""
SLOWER_AFTER_SECONDS: Final = 3600.0
"""When even the last to go went so long ago, all calling slows down, to half at most. Guess."""
AT_ONCE_MAX: Final = 8
"""Addresses that a lonely agent calls in one go, seeds apart. Guess."""
LONELY_SLOWDOWN: Final = 1.5
LONELY_INTERVAL_MAX: Final = 16.0
"""A lonely agent's pauses grow by the first up to the second times the probe interval. Guess: 5 s with `lan`."""


class Reconnect:
    def __init__(
        self, config: SwimConfig, roster: Roster, port: Port, rng: random.Random, seeds: Iterable[Address], me: Address
    ) -> None:
        self._config, self._roster, self._port, self._rng = config, roster, port, rng
        self._seeds = sorted({seed for seed in seeds if seed != me})
        self._lonely_factor = 1.0
        self._began: float | None = None
        self.deadline = 0.0

    def tick(self, now: float) -> None:
        if now < self.deadline:
            return
        if self._began is None:
            self._began = now
        if self._roster.living:
            self._lonely_factor = 1.0
            self._call_one(now)
        else:
            self._call_many(now)

    def hurry(self, now: float) -> None:
        """Somebody went: the calls of a side that has become small come closer together."""
        self.deadline = min(self.deadline, now + self._pause(now))

    def _call_one(self, now: float) -> None:
        living = set(self._roster.addresses_of_living())
        candidates = [(record.address, record.since) for record in self._callable()]
        candidates += [(seed, self._began or now) for seed in self._seeds if seed not in living]
        if candidates:
            weights = [1.0 / (1.0 + max(0.0, now - since) / FADING_SECONDS) for _, since in candidates]
            self._port.contact(self._rng.choices([address for address, _ in candidates], weights)[0])
            self.deadline = now + self._pause(now, max(since for _, since in candidates))
        else:
            self.deadline = inf

    def _call_many(self, now: float) -> None:
        for seed in self._seeds:
            self._port.contact(seed)
        others = [record.address for record in self._callable() if record.address not in self._seeds]
        for address in self._rng.sample(others, min(AT_ONCE_MAX, len(others))):
            self._port.contact(address)
        if not (self._seeds or others):
            self.deadline = inf
            return
        self.deadline = now + self._config.probe_interval_seconds * self._lonely_factor
        self._lonely_factor = min(self._lonely_factor * LONELY_SLOWDOWN, LONELY_INTERVAL_MAX)

    def _pause(self, now: float, last_gone: float | None = None) -> float:
        """Mine, so that all together keep the pace."""
        pause = max(self._config.probe_interval_seconds, len(self._roster) * self._config.reconnect_interval_seconds)
        if last_gone is not None:
            pause *= 1.0 + min(1.0, max(0.0, now - last_gone) / SLOWER_AFTER_SECONDS)
        return pause * self._rng.uniform(0.5, 1.5)

    def _callable(self) -> Sequence[Record]:
        dead = self._roster.dead
        return [dead[replica] for replica in sorted(dead) if dead[replica].address != NO_ADDRESS]
