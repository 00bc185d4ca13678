"""News: claims on their way to everybody, a limited number of times each (SWIM section 4.1).

Fresh news is pushed at once to a few members, by everyone for whom it is new, and then rides along with pings and acks until
it has been sent factor * log10(n + 1) times. In a small mesh accusers and the accused tell everybody themselves, which takes
one hop and fewer datagrams than gossip; everybody else then passes it on to two, to make good for what was lost. What was
sent least goes first, and of that the newest, so that a flood of old claims cannot starve a new one. A newer claim of one
signer about one subject takes the place of the older one; a new word of the subject ends all accusations against it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import ceil, log10
from typing import Final

from crdt.ids import ReplicaId
from mesh.port import Port
from mesh.swim.claims import Accusation, Signed
from mesh.swim.config import SwimConfig
from mesh.wire.frames import Frame, Lane

DATAGRAM_CLAIM_BYTES: Final = 1_100
"""Claims in a datagram of their own."""
DATAGRAMS_PER_PUSH: Final = 4
"""To one member in one push; the rest waits for the next one."""
FRAME_BYTES: Final = 3

_Key = tuple[ReplicaId, ReplicaId]


def transmissions(factor: int, members: int) -> int:
    return factor * ceil(log10(members + 1))


class News:
    def __init__(self, config: SwimConfig, port: Port, rng: random.Random) -> None:
        self._config, self._port, self._rng = config, port, rng
        self._fresh: dict[_Key, tuple[bytes, int]] = {}
        """Not pushed yet, and to how many to push it."""
        self._levels: list[dict[_Key, bytes]] = []
        """By the number of times sent."""
        self._level_of: dict[_Key, int] = {}
        self._signers: dict[ReplicaId, set[ReplicaId]] = {}
        """By subject."""
        self._pushed_at = -1e18

    def add(self, signed: Signed, fanout: int) -> None:
        """`fanout`: members to push it to; 0 when everybody was sent it already."""
        subject, signer = signed.claim.subject, signed.signer
        if not isinstance(signed.claim, Accusation):
            for other in self._signers.pop(subject, ()):
                self._remove((subject, other))
        self._remove((subject, signer))
        self._signers.setdefault(subject, set()).add(signer)
        if fanout:
            self._fresh[subject, signer] = (signed.raw, fanout)
        else:
            self._put((subject, signer), signed.raw, 0)

    def forget(self, subject: ReplicaId) -> None:
        for signer in self._signers.pop(subject, ()):
            self._remove((subject, signer))

    def forget_what_is_listed(self) -> None:
        """Others have our list, so Alive and Left claims need not be told any more; accusations are in nobody's list."""
        for subject in [subject for subject, signers in self._signers.items() if subject in signers]:
            self._remove((subject, subject))
            self._drop_key((subject, subject))

    @property
    def push_at(self) -> float:
        """Monotonic seconds of the next push; infinite when nothing is fresh."""
        return self._pushed_at + self._config.push_spacing_seconds if self._fresh else float("inf")

    def push(self, members: Sequence[ReplicaId], now: float) -> None:
        """Send fresh news to a few members drawn by lot. `members`: living ones, without me."""
        if not self._fresh or now < self.push_at:
            return
        self._pushed_at = now
        targets = self._rng.sample(members, min(max(fanout for _, fanout in self._fresh.values()), len(members)))
        room = DATAGRAM_CLAIM_BYTES * DATAGRAMS_PER_PUSH
        limit = transmissions(self._config.retransmit_factor, len(members) + 1)
        for key, (raw, fanout) in reversed(list(self._fresh.items())):
            room -= len(raw) + FRAME_BYTES
            if room < 0:
                break
            del self._fresh[key]
            for target in targets[:fanout]:
                self._port.send(target, Lane.LIVENESS, Frame.CLAIM, raw)
            self._put(key, raw, fanout, limit)

    def ride_along(self, peer: ReplicaId, members: int) -> None:
        """Put claims into the datagram that is being made for this peer."""
        room = self._config.claim_bytes_per_datagram
        limit = transmissions(self._config.retransmit_factor, members)
        chosen: list[tuple[_Key, bytes, int]] = []
        for raw, _ in reversed(self._fresh.values()):
            room -= len(raw) + FRAME_BYTES
            if room < 0:
                break
            self._port.send(peer, Lane.LIVENESS, Frame.CLAIM, raw)
        for level, claims in enumerate(self._levels):
            if room < 0:
                break
            for key, raw in reversed(claims.items()):
                room -= len(raw) + FRAME_BYTES
                if room < 0:
                    break
                chosen.append((key, raw, level))
        for key, raw, level in reversed(chosen):
            self._remove_from_levels(key)
            self._port.send(peer, Lane.LIVENESS, Frame.CLAIM, raw)
            self._put(key, raw, level + 1, limit)

    def __len__(self) -> int:
        return len(self._fresh) + len(self._level_of)

    def _put(self, key: _Key, raw: bytes, level: int, limit: int | None = None) -> None:
        if limit is not None and level >= limit:
            self._drop_key(key)
            return
        while len(self._levels) <= level:
            self._levels.append({})
        self._levels[level][key] = raw
        self._level_of[key] = level

    def _drop_key(self, key: _Key) -> None:
        subject, signer = key
        signers = self._signers.get(subject)
        if signers is not None:
            signers.discard(signer)
            if not signers:
                del self._signers[subject]

    def _remove(self, key: _Key) -> None:
        self._fresh.pop(key, None)
        self._remove_from_levels(key)

    def _remove_from_levels(self, key: _Key) -> None:
        level = self._level_of.pop(key, None)
        if level is not None:
            del self._levels[level][key]
