"""Whether critical writes can go on, as far as this agent sees: told to the operator when it changes, not at every hiccup."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from mesh.effects import Now
from mesh.events import Event, QuorumLost, QuorumRegained

LOST_ELECTIONS: Final = 8.0
"""Without a leader for so many election time-outs, it is told. Guess: two elections that fail happen."""


class Outlook:
    def __init__(self, patience_seconds: float, notify: Callable[[Event], None], now: Now) -> None:
        self._patience, self._notify = patience_seconds, notify
        self._good_at = self._looked_at = now.monotonic
        self._is_good = self._is_lost = False

    @property
    def deadline(self) -> float:
        return inf if self._is_lost or self._is_good else max(self._good_at + self._patience, self.look_at)

    @property
    def look_at(self) -> float:
        """No need to look before: it is only told after a while anyway."""
        return self._looked_at + (0.0 if self._is_lost else self._patience / 8)

    def tick(self, has_quorum: Callable[[], bool], now: Now) -> None:
        if now.monotonic >= self.look_at:
            self.look(has_quorum(), now)

    def look(self, is_good: bool, now: Now) -> None:
        self._is_good, self._looked_at = is_good, now.monotonic
        if is_good:
            self._good_at = now.monotonic
            if self._is_lost:
                self._is_lost = False
                self._notify(QuorumRegained())
        elif not self._is_lost and now.monotonic >= self._good_at + self._patience:
            self._is_lost = True
            self._notify(QuorumLost())
