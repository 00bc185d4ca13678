"""Frames of members on their way to whom they concern: what each may cost, what may wait, what was wrong with it. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from crdt.ids import ReplicaId
from mesh.allowance import MALFORMED_MICROSECONDS, UNASKED_MICROSECONDS, Allowance
from mesh.effects import Now
from mesh.errors import Malformed, Refused
from mesh.quorum.quorum import Quorum
from mesh.swim import Swim
from mesh.sync.messages import only_tells_untrusted
from mesh.sync.sync import Sync
from mesh.wire.frames import Frame

DROP_REASON_MAX: Final = 80
DROP_REASONS_MAX: Final = 256
"""Different reasons that are counted apart: some quote what came, so a liar could think of new ones for ever."""
TRAILS_MAX: Final = 64
"""Floors beside deltas that wait for the turn at once; with more they are taken in as they come. What all others push in
`REST_SECONDS` where they write as fast as they may; 75 kB at most."""


class Intake:
    def __init__(self, sync: Sync, quorum: Quorum, swim: Swim, drops: Counter[str]) -> None:
        self._sync, self._quorum, self._swim = sync, quorum, swim
        self._drops = drops
        self.allowance = Allowance()
        self._counters = sync.counters
        self.trails: list[tuple[ReplicaId, bytes]] = []
        """What was put off."""

    def take_untrusted(self, peer: ReplicaId, kind: Frame, payload: bytes, now: Now) -> None:
        """One frame. Never raises for what it holds."""
        if not self.allowance.take(peer, kind, now.monotonic):
            self._drops["over_allowance"] += 1
            return
        unasked = self._counters.repairs_unasked
        try:
            if not (
                self._sync.handle_untrusted(peer, kind, payload, now) or self._quorum.handle_untrusted(peer, kind, payload, now)
            ):
                self._swim.handle_untrusted(peer, kind, payload, now)
        except (Malformed, Refused) as error:
            self.allowance.charge(peer, MALFORMED_MICROSECONDS)
            self._drop(f"{kind.name.lower()}: {error}"[:DROP_REASON_MAX])
        if self._counters.repairs_unasked != unasked:
            self.allowance.charge(peer, UNASKED_MICROSECONDS)

    def puts_off(self, peer: ReplicaId, payload: bytes) -> bool:
        """Whether a floor that came beside a delta waits for the turn. It says where others' shelves should be everywhere by now,
        and where nothing is lost they are. To look at it costs as much as to open the datagram, and where many agents share a
        machine, each of them has the delta sooner when none does. Where something may be lost, it is what tells.
        """
        may_wait = self._sync.losses.calm and len(self.trails) < TRAILS_MAX and only_tells_untrusted(payload)
        if may_wait:
            self.trails.append((peer, payload))
        return may_wait

    def settle(self, now: Now) -> None:
        """Take in what was put off."""
        trails, self.trails = self.trails, []
        for peer, payload in trails:
            self.take_untrusted(peer, Frame.FLOOR, payload, now)

    def forget(self, peer: ReplicaId) -> None:
        """It is no member any more."""
        self.allowance.forget(peer)
        self.trails = [each for each in self.trails if each[0] != peer]

    def _drop(self, reason: str) -> None:
        known = reason in self._drops or len(self._drops) < DROP_REASONS_MAX
        self._drops[reason if known else "other"] += 1
