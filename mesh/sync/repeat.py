"""Repeats: after a burst its author, and every relay, says again where the shelf stands, so that a lost last delta is
found.

A delta that is lost in the middle shows as a gap at the next one; the last one shows in nothing that follows. On a link that
loses nothing one repeat after four round trips is enough, and where other authors write meanwhile, the floor rides along with
their deltas instead (`Sync` puts a few floors that have settled beside each delta that it pushes) and no datagram is made for
it. After any sign of loss the delta itself asks for an answer, if no burst of deltas shows gaps earlier, and whoever gives none
gets it again after 2, 4, 8 ... round trips: what was lost arrives one way later, and no question costs a datagram of its own.
Where a handshake is under way, that brings it along as often as it takes (mesh.wire.early).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Final, Protocol

from crdt.ids import ReplicaId, ShelfId
from mesh.effects import Now
from mesh.port import Port
from mesh.sync.messages import Floor, FloorNote, Purpose
from mesh.wire.frames import Frame, Lane

SETTLED_FACTOR: Final = 4
"""Round trips after which a delta is where it was sent, or lost. DESIGN section 6 repeats after 2, 4 and 8; without loss two of
them only cost datagrams."""
RIDE_SECONDS: Final = 0.25
"""How much longer a repeat waits for others' deltas to take it along. Guess: at 10 writes a second two of them come by."""
RIDES_ENOUGH: Final = 1
"""Deltas that carried the floor past here. As many carried it past everybody else, by other ways. Measured against 2, one seed
each, among 96 agents with 30 writes/s and 0.1 or 0.5% loss: a write is everywhere in 221 and 203 ms (p99; with 2: 284 and 212),
at worst after 834 and 356 ms (718 and 300). Where nothing is lost, each tenth datagram is spared."""
LOSSY_SECONDS: Final = 30.0
"""After the start and any sign of loss, how long floors are repeated until they are answered, ..."""
CLEAN_ENOUGH: Final = 150
"""... unless so many datagrams came without such a sign. At 2% loss one in twenty runs of 150 shows none; an agent of 32 has as
many three seconds after their start (measured)."""
LOSSY_FACTORS: Final = (2, 4, 8, 16, 32, 64)
"""At 20% loss each way a round finds 64% who lack nothing, and brings 80% of the others what they lack."""


class Traffic(Protocol):
    """What the transport counts."""

    @property
    def sealed_received(self) -> int:
        """Datagrams of members."""

    @property
    def sealed_skipped(self) -> int:
        """Datagrams of members that had not come when a later one did."""

    @property
    def sealed_late(self) -> int:
        """Those of them that came after all."""


class Losses:
    """Whether something is lost between this agent and the others, as far as it can tell. `overtaken`: seconds by which a
    datagram that is not lost may come behind a later one.
    """

    def __init__(self, traffic: Traffic, overtaken: Callable[[], float], now: Now) -> None:
        self._traffic = traffic
        self._overtaken = overtaken
        self._lost = 0
        self._seen_at, self._seen, self._seen_before = now.monotonic, 0, 0
        """When it looked last, how many had been skipped by then, and by the look before that, which was long enough ago."""
        self._received = 0
        self._until = now.monotonic + LOSSY_SECONDS
        self.calm = False
        """Nothing was likely to be lost when `likely` was asked last, at the latest with the last digest, and no sign of it came
        since. Costs nothing to look at."""

    def saw(self, now: Now) -> None:
        """A peer asked for a delta that was pushed, or one had to be asked for here. What nobody pushes (chunks, housekeeping) is
        always asked for, and says nothing."""
        self._until, self._received = now.monotonic + LOSSY_SECONDS, self._traffic.sealed_received
        self.calm = False

    def likely(self, now: Now) -> bool:
        self._look(now)
        self.calm = now.monotonic >= self._until or self._traffic.sealed_received - self._received >= CLEAN_ENOUGH
        return not self.calm

    def _look(self, now: Now) -> None:
        """Of what had been skipped long enough ago, at least what has not come late by now is lost; of all that was skipped, at
        most as much."""
        skipped, late = self._traffic.sealed_skipped, self._traffic.sealed_late
        if now.monotonic - self._seen_at >= self._overtaken():
            self._seen_at, self._seen, self._seen_before = now.monotonic, skipped, self._seen
        known, lost = min(self._lost, skipped - late), self._seen_before - late
        if lost > known:
            self.saw(now)
        self._lost = max(known, lost)


@dataclass(slots=True)
class Repeat:
    waiting: set[ReplicaId]
    times: list[float]
    purpose: Purpose
    flow: int
    """How many deltas had come by when this was planned."""
    since: float
    asked: bool = False
    """Who waits did not answer, so it probably lacks the delta."""
    rides: int = 0


class Repeats:
    def __init__(
        self,
        port: Port,
        floor_of: Callable[[ShelfId], Floor | None],
        raw_of: Callable[[ShelfId, int], bytes | None],
        is_open: Callable[[ReplicaId], bool],
        round_trip_min: float,
    ) -> None:
        self._port = port
        self._floor_of = floor_of
        self._raw_of = raw_of
        self._is_open = is_open
        self._round_trip_min = round_trip_min
        self._repeats: dict[ShelfId, Repeat] = {}
        self._timers: list[tuple[float, int, ShelfId, Repeat]] = []
        self._order = 0
        self.flow = 0
        """Deltas that came by, of whatever shelf. Own ones are counted by `Sync`."""
        self._heard = (-inf, -inf)
        """When others' last two deltas came."""

    def heard(self, now: Now) -> None:
        """A delta of somebody else was pushed to here."""
        self._heard = (self._heard[1], now.monotonic)
        self.flow += 1

    def schedule(
        self, shelf: ShelfId, targets: Iterable[ReplicaId], round_trip: float, *, lossy: bool, now: Now, late: bool = False
    ) -> None:
        """A delta of this shelf goes to these; what was planned for an earlier one is off. `late`: it does not go to them, since
        it came here by a detour: they are told at once.
        """
        round_trip, at = max(round_trip, self._round_trip_min), now.monotonic
        before = self._repeats.pop(shelf, None)
        if lossy or late:
            times = [at + round_trip * factor for factor in LOSSY_FACTORS]
            repeat = Repeat(set(targets), times, Purpose.ASK_RECEIVED, self.flow, at)
        else:
            settled = at + round_trip * SETTLED_FACTOR
            times = [settled + RIDE_SECONDS] if self._others_write else [settled, settled + RIDE_SECONDS]
            repeat = Repeat(set(targets), times, Purpose.TELL, self.flow, at)
        if repeat.waiting:
            self._repeats[shelf] = repeat
            self._arm(shelf, repeat)
            if late or (lossy and (before is None or before.since + round_trip * LOSSY_FACTORS[0] <= at)):
                self._send(shelf, repeat)

    def received(self, peer: ReplicaId, floor: Floor) -> None:
        """`peer` said where it stands."""
        repeat = self._repeats.get(floor.shelf)
        mine = self._floor_of(floor.shelf) if repeat else None
        if repeat and mine and floor.seq >= mine.seq:
            repeat.waiting.discard(peer)
            if not repeat.waiting:
                del self._repeats[floor.shelf]

    def rode(self, floor: Floor) -> None:
        """This floor went by beside a delta, sent from here or received."""
        repeat = self._repeats.get(floor.shelf)
        if repeat:
            mine = self._floor_of(floor.shelf)
            repeat.rides += mine is not None and floor.seq >= mine.seq
            if repeat.purpose is Purpose.TELL and repeat.rides >= RIDES_ENOUGH:
                del self._repeats[floor.shelf]  # at once: nobody wakes up for it

    def forget(self, peer: ReplicaId) -> None:
        for repeat in self._repeats.values():
            repeat.waiting.discard(peer)

    def tick(self, now: Now) -> None:
        while self.deadline <= now.monotonic:
            _, _, shelf, repeat = heappop(self._timers)
            repeat.times.pop(0)
            if self._may_ride(repeat):
                self._arm(shelf, repeat)
                continue
            if repeat.purpose is Purpose.TELL or not repeat.times:
                del self._repeats[shelf]
            else:
                self._arm(shelf, repeat)
            self._send(shelf, repeat)

    def _may_ride(self, repeat: Repeat) -> bool:
        """Whether others take it along."""
        may_wait = repeat.purpose is Purpose.TELL and bool(repeat.times)
        return may_wait and (self.flow > repeat.flow or self._others_write)

    @property
    def _others_write(self) -> bool:
        return self._heard[1] - self._heard[0] < RIDE_SECONDS

    def _send(self, shelf: ShelfId, repeat: Repeat) -> None:
        floor = self._floor_of(shelf)
        if not floor:
            return
        note = FloorNote((floor.naming(()),), repeat.purpose).encode()
        raw = self._raw_of(shelf, floor.seq) if repeat.asked else None
        for peer in sorted(repeat.waiting):
            if raw is not None:
                if not self._is_open(peer):
                    continue
                self._port.send(peer, Lane.FRESH, Frame.DELTA, raw)
            self._port.send(peer, Lane.FRESH, Frame.FLOOR, note)
        repeat.asked = repeat.purpose is Purpose.ASK_RECEIVED

    def _arm(self, shelf: ShelfId, repeat: Repeat) -> None:
        self._order += 1  # two may be due at once; they are never compared
        heappush(self._timers, (repeat.times[0], self._order, shelf, repeat))

    @property
    def deadline(self) -> float:
        timers = self._timers
        while timers and self._repeats.get(timers[0][2]) is not timers[0][3]:  # answered or planned anew meanwhile
            heappop(timers)
        return timers[0][0] if timers else inf
