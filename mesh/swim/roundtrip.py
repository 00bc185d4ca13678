"""How long an answer may take: measured round trips, per peer and over all.

A peer is measured every so many rounds of probes, so what was measured while everything was slow (64 processes that start on two
cores take a third of a second to answer) would stand for a long time. It does not: a peer gets what answers take these days, and
besides only what its own took longer than was usual then, which is its distance.
"""

from __future__ import annotations

from crdt.ids import ReplicaId
from mesh.estimate import Estimate


class RoundTrips:
    def __init__(self, timeout_min: float, timeout_max: float) -> None:
        self._min, self._max = timeout_min, timeout_max
        self._peers: dict[ReplicaId, Estimate] = {}
        self._beyond: dict[ReplicaId, float] = {}
        """Seconds that the newest sample of a peer was above what was usual when it was taken."""
        self._all: Estimate | None = None

    def add(self, peer: ReplicaId, sample: float) -> None:
        usual = self._all
        self._beyond[peer] = max(0.0, sample - usual.smoothed - usual.deviation) if usual else 0.0
        estimate = self._peers.get(peer)
        if estimate is None:
            self._peers[peer] = Estimate(sample)
        else:
            estimate.add(sample)
        if self._all is None:
            self._all = Estimate(sample)
        else:
            self._all.add(sample)

    def forget(self, peer: ReplicaId) -> None:
        self._peers.pop(peer, None)
        self._beyond.pop(peer, None)

    def measured(self, peer: ReplicaId) -> float | None:
        estimate = self._peers.get(peer)
        return estimate.smoothed if estimate else None

    def typical(self) -> float:
        """Smoothed over all peers; the longest timeout before anything was measured."""
        return self._all.smoothed if self._all else self._max

    def timeout(self, peer: ReplicaId, guess: float | None = None, *, first: bool = False) -> float:
        """For one ping. `guess`: a round trip predicted from coordinates, for peers that were never measured. `first`: the
        ping has to wait for another round trip.
        """
        estimate, usual = self._peers.get(peer), self._all
        if usual is None:
            return self._max
        if estimate is not None:
            wanted = min(estimate.patience, max(self._min, usual.patience) + self._beyond[peer])
        else:
            wanted = max(usual.patience, 2 * guess if guess is not None else 0.0)
        return min(self._max, max(self._min, 2 * wanted if first else wanted))
