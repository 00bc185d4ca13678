"""Network coordinates: a point per member such that distances predict round trips to members never pinged.

Vivaldi (Dabek, Cox, Kaashoek, Morris 2004) with what Ledlie, Gardner, Seltzer 2007 ("Network Coordinates in the Wild") found
that real networks need: a height for the access link, a low percentile of the last samples of each peer instead of the
newest, and a weak pull to the origin, so that the whole cloud does not drift away. Constants as in Serf's coordinate client,
whose authors tuned them.

On the wire a coordinate is six half-precision floats in seconds: four dimensions, height, error. 12 bytes; 0.05% off at most.
"""

from __future__ import annotations

import random
import struct
from collections import OrderedDict
from math import isfinite, sqrt
from typing import Final, NamedTuple

from crdt.ids import ReplicaId

DIMENSIONS: Final = 4  # as Serf, after Ledlie
ERROR_MAX: Final = 1.5  # Serf VivaldiErrorMax
CE: Final = 0.25  # Serf VivaldiCE, how fast the error moves
CC: Final = 0.25  # the same, how fast the point moves
HEIGHT_MIN: Final = 10e-6  # Serf HeightMin, seconds
GRAVITY: Final = 150.0  # Serf GravityRho, seconds
SAMPLES: Final = 4  # Ledlie: moving 25th percentile of 4 samples
ROUND_TRIP_MAX: Final = 10.0  # Serf refuses longer ones, too
PEERS_MAX: Final = 4096
"""Peers whose coordinate is kept; the one longest unheard goes first. Guess: 10 times what one agent probes in half an hour."""

_WIRE: Final = struct.Struct(">6e")
COORDINATE_BYTES: Final = _WIRE.size


class Coordinate(NamedTuple):
    point: tuple[float, ...]
    height: float
    error: float
    """0 (sure) to 1.5 (knows nothing), relative."""

    def distance(self, other: Coordinate) -> float:
        """Predicted round trip in seconds."""
        return sqrt(sum((a - b) * (a - b) for a, b in zip(self.point, other.point, strict=True))) + self.height + other.height

    def to_bytes(self) -> bytes:
        return _WIRE.pack(*self.point, self.height, self.error)


ORIGIN: Final = Coordinate((0.0,) * DIMENSIONS, HEIGHT_MIN, ERROR_MAX)


def coordinate_untrusted(raw: bytes) -> Coordinate | None:
    """None for what is no place in this world."""
    if len(raw) != COORDINATE_BYTES:
        return None
    *point, height, error = _WIRE.unpack(raw)
    if not all(isfinite(number) and abs(number) <= ROUND_TRIP_MAX for number in (*point, height, error)):
        return None
    if height < 0 or not error > 0:
        return None
    return Coordinate(tuple(point), max(height, HEIGHT_MIN), min(error, ERROR_MAX))


class Coordinates:
    """My own coordinate, and those that peers told me."""

    def __init__(self, rng: random.Random) -> None:
        self.mine = ORIGIN
        self._rng = rng
        self._peers: OrderedDict[ReplicaId, Coordinate] = OrderedDict()
        self._samples: dict[ReplicaId, list[float]] = {}

    def get(self, peer: ReplicaId) -> Coordinate | None:
        return self._peers.get(peer)

    def estimate(self, peer: ReplicaId) -> float | None:
        """Predicted round trip in seconds; None for a peer that never told where it is."""
        coordinate = self._peers.get(peer)
        return self.mine.distance(coordinate) if coordinate else None

    def forget(self, peer: ReplicaId) -> None:
        self._peers.pop(peer, None)
        self._samples.pop(peer, None)

    def update(self, peer: ReplicaId, theirs: Coordinate, round_trip: float) -> None:
        """A ping took so long, in seconds, and the peer says that it is there."""
        self._peers[peer] = theirs
        self._peers.move_to_end(peer)
        while len(self._peers) > PEERS_MAX:
            self.forget(next(iter(self._peers)))
        if 0 < round_trip <= ROUND_TRIP_MAX:
            self._move(theirs, self._filtered(peer, round_trip))

    def _filtered(self, peer: ReplicaId, round_trip: float) -> float:
        samples = self._samples.setdefault(peer, [])
        samples.append(round_trip)
        del samples[:-SAMPLES]
        return sorted(samples)[(len(samples) - 1) // 4]

    def _move(self, theirs: Coordinate, round_trip: float) -> None:
        mine = self.mine
        distance = mine.distance(theirs)
        weight = mine.error / (mine.error + theirs.error)
        wrong = abs(distance - round_trip) / round_trip
        error = min(ERROR_MAX, wrong * CE * weight + mine.error * (1 - CE * weight))
        force = CC * weight * (round_trip - distance)
        direction, apart = self._direction(mine.point, theirs.point)
        point = tuple(a + force * d for a, d in zip(mine.point, direction, strict=True))
        height = mine.height
        if apart > 0:
            height = max(HEIGHT_MIN, (mine.height + theirs.height) * force / apart + mine.height)
        self.mine = Coordinate(_pulled_home(point), height, max(error, 1e-3))

    def _direction(self, mine: tuple[float, ...], theirs: tuple[float, ...]) -> tuple[tuple[float, ...], float]:
        """Unit vector away from the peer, and how far apart we are; two at one point part in a random direction."""
        away = tuple(a - b for a, b in zip(mine, theirs, strict=True))
        apart = sqrt(sum(a * a for a in away))
        if apart > 1e-9:
            return tuple(a / apart for a in away), apart
        chosen = tuple(self._rng.uniform(-1.0, 1.0) for _ in range(DIMENSIONS))
        length = sqrt(sum(a * a for a in chosen)) or 1.0
        return tuple(a / length for a in chosen), 0.0


def _pulled_home(point: tuple[float, ...]) -> tuple[float, ...]:
    length = sqrt(sum(a * a for a in point))
    if length <= 0:
        return point
    pull = (length / GRAVITY) * (length / GRAVITY) / length
    return tuple(a - a * pull for a in point)
