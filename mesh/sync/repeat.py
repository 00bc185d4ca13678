"""Repeats: after a burst its author, and every relay, says again where the shelf stands, so that a lost last delta is
found.

A delta that is lost in the middle shows as a gap at the next one; the last one shows in nothing that follows. On a
link that loses nothing one repeat after four round trips is enough and costs little. After any sign of loss the
repeats ask for an answer, go on at 2, 4, 8 ... round trips, and stop for whoever has answered: a lost delta, floor or
answer then costs one more round, not a wait for the next digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

from crdt.ids import ReplicaId, ShelfId
from mesh.effects import Now
from mesh.port import Port
from mesh.sync.messages import Floor, FloorNote, Purpose
from mesh.wire.frames import Frame, Lane

CALM_FACTORS: Final = (4,)
"""Round trips after the last delta. DESIGN section 6 has (2, 4, 8); without loss two of them only cost datagrams."""
LOSSY_FACTORS: Final = (2, 4, 8, 16, 32, 64)
"""At 20% loss each way a round of asking finds 64%, so six rounds leave 0.2% to the digests."""


@dataclass(slots=True)
class Repeat:
    waiting: set[ReplicaId]
    times: list[float]
    purpose: Purpose


class Repeats:
    def __init__(self, port: Port, floor_of: Callable[[ShelfId], Floor | None], round_trip_min: float) -> None:
        self._port = port
        self._floor_of = floor_of
        self._round_trip_min = round_trip_min
        self._repeats: dict[ShelfId, Repeat] = {}

    def schedule(self, shelf: ShelfId, targets: Iterable[ReplicaId], round_trip: float, *, lossy: bool, now: Now) -> None:
        """A delta of this shelf went to these; what was planned for an earlier one is off."""
        round_trip = max(round_trip, self._round_trip_min)
        factors, purpose = (LOSSY_FACTORS, Purpose.ASK_RECEIVED) if lossy else (CALM_FACTORS, Purpose.TELL)
        times = [now.monotonic + round_trip * factor for factor in factors]
        self._repeats[shelf] = Repeat(set(targets), times, purpose)

    def received(self, peer: ReplicaId, floor: Floor) -> None:
        """`peer` said where it stands."""
        repeat = self._repeats.get(floor.shelf)
        mine = self._floor_of(floor.shelf)
        if repeat and mine and floor.seq >= mine.seq:
            repeat.waiting.discard(peer)
            if not repeat.waiting:
                del self._repeats[floor.shelf]

    def forget(self, peer: ReplicaId) -> None:
        for repeat in self._repeats.values():
            repeat.waiting.discard(peer)

    def tick(self, now: Now) -> None:
        for shelf, repeat in [(s, r) for s, r in self._repeats.items() if r.times[0] <= now.monotonic]:
            repeat.times.pop(0)
            if not repeat.times:
                del self._repeats[shelf]
            floor = self._floor_of(shelf)
            if floor:
                note = FloorNote((floor._replace(loose=()),), repeat.purpose).encode()
                for peer in sorted(repeat.waiting):
                    self._port.send(peer, Lane.FRESH, Frame.FLOOR, note)

    @property
    def deadline(self) -> float:
        return min((repeat.times[0] for repeat in self._repeats.values()), default=inf)
