"""How long an answer may take: measured round trips, per peer and over all."""

from __future__ import annotations

from crdt.ids import ReplicaId
from mesh.estimate import Estimate


class RoundTrips:
    def __init__(self, timeout_min: float, timeout_max: float) -> None:
        self._min, self._max = timeout_min, timeout_max
        self._peers: dict[ReplicaId, Estimate] = {}
        self._all: Estimate | None = None

    def add(self, peer: ReplicaId, sample: float) -> None:
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
        estimate = self._peers.get(peer)
        if estimate is not None:
            wanted = estimate.patience
        elif self._all is not None:
            wanted = max(self._all.patience, 2 * guess if guess is not None else 0.0)
        else:
            return self._max
        return min(self._max, max(self._min, 2 * wanted if first else wanted))
