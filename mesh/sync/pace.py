"""When the next digest is due: often while out of step, ever more rarely while nothing is missing."""

from __future__ import annotations

import random
from math import inf
from typing import Final

from mesh.effects import Now
from mesh.presets import SyncConfig

QUIET_SHARE_MIN: Final = 0.1
QUIET_SHARE_MAX: Final = 0.4
"""Of digest_quiet_seconds, from news to the next digest: longer than it takes to everybody, not all at once, and soon enough for
two stories that one agent each was told. Measured (`measure trust`, 21 of 71 hostile): a fork took 1.4 s at 1.0, 0.7 s at 0.4."""
FLOWING_SHARE: Final = 0.5
"""Of digest_max_seconds, from one digest to the next while others write and nothing seems to be lost: deltas and the floors
beside them bring all there is, and gaps in them show what they do not. Guess."""


class Pace:
    def __init__(self, config: SyncConfig, rng: random.Random) -> None:
        self._config, self._rng = config, rng
        self._interval = config.digest_min_seconds
        self._news = False  # something changed here since the last digest, ...
        self._flows = False  # ... and so it was before that one, and nothing seems to be lost
        self.due = inf
        """Monotonic seconds."""

    def begin_anew(self, now: Now) -> None:
        """Out of step, perhaps."""
        self._interval = self._config.digest_min_seconds
        self.look_again(now)

    def look_again(self, now: Now) -> None:
        """Soon, once."""
        self.due = min(self.due, now.monotonic + self._config.digest_min_seconds)

    def news(self, now: Now) -> None:
        """Something changed here. That hurries the first digest after a quiet time; where somebody always writes, none."""
        self._news = True
        if self._interval > self._config.digest_quiet_seconds and not self._flows:
            self._interval = self._config.digest_quiet_seconds
            self.due = min(self.due, now.monotonic + self._interval * self._rng.uniform(QUIET_SHARE_MIN, QUIET_SHARE_MAX))

    def sent(self, now: Now, *, alone: bool, lossy: bool) -> None:
        """A digest went out, or was due with nobody within reach. `alone`: there is nobody at all. `lossy`: something may be lost
        on the way."""
        self.due = inf if alone else now.monotonic + self._interval * self._rng.uniform(0.75, 1.25)
        longest = self._config.digest_max_seconds
        self._flows = self._news and not lossy
        if self._news:
            longest = longest * FLOWING_SHARE if self._flows else self._config.digest_quiet_seconds
        self._interval = min(self._interval * 2, longest)
        self._news = False
