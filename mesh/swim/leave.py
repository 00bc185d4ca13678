"""Saying good-bye: the signed Left claim goes to a few members, who confirm it and pass it on.

It is over when `leave_confirmations` members (or all there are, if fewer) have confirmed, at once when there are none, and in
any case after three probe intervals: then the agent goes *unconfirmed*, and the others find out by probing.
"""

from __future__ import annotations

import random
from math import inf
from typing import Final

from crdt.ids import ReplicaId
from mesh.errors import Malformed
from mesh.port import Port
from mesh.swim.claims import Signed
from mesh.swim.config import SwimConfig
from mesh.swim.roster import Roster
from mesh.wire.cbor import decode_untrusted, encode
from mesh.wire.frames import Frame, Lane

INTERVALS: Final = 3
"""Probe intervals after which the agent goes, heard or not (DESIGN section 5)."""
ASKED_PER_CONFIRMATION: Final = 2
"""Members told directly for each confirmation wanted: some are slow, some datagrams are lost. Guess."""
REPEATS_PER_INTERVAL: Final = 2
"""How often those who have not confirmed are told again. Guess."""


class Farewell:
    def __init__(self, config: SwimConfig, roster: Roster, port: Port, rng: random.Random) -> None:
        self._config, self._roster, self._port, self._rng = config, roster, port, rng
        self._claim: Signed | None = None
        self._wanted = 0
        self._told: list[ReplicaId] = []
        self._confirmed: set[ReplicaId] = set()
        self._ends_at = self.deadline = inf
        self.over = False

    def begin(self, claim: Signed, now: float) -> None:
        living = self._roster.living
        self._claim = claim
        self._wanted = min(self._config.leave_confirmations, len(living))
        self._told = self._rng.sample(living, min(len(living), ASKED_PER_CONFIRMATION * self._wanted))
        self._ends_at = now + INTERVALS * self._config.probe_interval_seconds
        self.deadline = now
        self.tick(now)

    @property
    def confirmed(self) -> bool:
        """Enough members have said that they know."""
        return self._claim is not None and len(self._confirmed) >= self._wanted

    def tick(self, now: float) -> None:
        if self._claim is None or self.over or now < self.deadline:
            return
        if self.confirmed or now >= self._ends_at:
            self._finish()
            return
        for peer in self._told:
            if peer not in self._confirmed:
                self._port.send(peer, Lane.LIVENESS, Frame.CLAIM, self._claim.raw)
        self.deadline = min(self._ends_at, now + self._config.probe_interval_seconds / REPEATS_PER_INTERVAL)

    def confirm(self, member: ReplicaId) -> None:
        """A member said good-bye to us: tell it that we know."""
        record = self._roster.get(member)
        if record is not None and record.left is not None:
            self._port.send(member, Lane.LIVENESS, Frame.LEAVE_CONFIRM, encode([record.left.claim.incarnation]))

    def confirm_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        """Raises Malformed."""
        match decode_untrusted(payload):
            case (int(incarnation),):
                if self._claim is not None and incarnation == self._claim.claim.incarnation:
                    self._confirmed.add(peer)
                    if self.confirmed:
                        self._finish()
            case _:
                raise Malformed("not a leave confirmation")

    def _finish(self) -> None:
        self.over = True
        self.deadline = inf
