"""Serve: the other side of pull. What a peer asks for is answered from the deltas still at hand, else from the base.

A listing is pinned while somebody pulls it: the author may write on, yet the pages and bodies of S(head) stay
available until newer listings push it out. A pinned listing holds references only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import crdt
from crdt.ids import ReplicaId, ShelfId
from mesh.effects import Now
from mesh.port import Port
from mesh.sync.messages import REPAIRS_PER_WANT, BodyNote, Floor, Want, WantBodies, WantListing
from mesh.sync.pins import Pinned, Pins
from mesh.sync.pull import BODIES_PUSHED_MAX
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame, Lane

RECENT_MAX: Final = 4096
"""Deltas kept as they were sent, over all shelves: about 1.5 MB. A gap of a few deltas then closes in one round
trip.
"""
ENTRIES_PER_REPAIR: Final = 8
"""Of a listing, that count as one frame of that budget: about what finding and hashing them costs. Measured: a listing of 275
entries takes 0.4 ms, so one WANT for 40 of them took 45 ms.
"""


class RecentDeltas:
    """The newest deltas of all shelves, as bytes for the wire, first in first out."""

    def __init__(self, limit: int = RECENT_MAX) -> None:
        self._limit = limit
        self._order: deque[tuple[ShelfId, int]] = deque()
        self._raw: dict[tuple[ShelfId, int], bytes] = {}
        self._quiet: set[tuple[ShelfId, int]] = set()
        """Those that nobody pushed."""

    def add(self, shelf: ShelfId, seq: int, raw: bytes, *, news: bool = True) -> None:
        """`news`: as `crdt.Body.is_news`."""
        name = (shelf, seq)
        if name in self._raw:
            return
        self._raw[name] = raw
        self._order.append(name)
        if not news:
            self._quiet.add(name)
        if len(self._order) > self._limit:
            oldest = self._order.popleft()
            del self._raw[oldest]
            self._quiet.discard(oldest)

    def was_pushed(self, shelf: ShelfId, seq: int) -> bool:
        """By somebody, and it is still at hand."""
        return (shelf, seq) in self._raw and (shelf, seq) not in self._quiet

    def get(self, shelf: ShelfId, seq: int) -> bytes | None:
        return self._raw.get((shelf, seq))


class Server:
    """Answers WANT, WANT_LISTING and WANT_BODIES."""

    def __init__(self, replica: crdt.Replica, port: Port, recent: RecentDeltas, shown_floor: Callable[[ShelfId], int]) -> None:
        """`shown_floor`: how far others may know a shelf."""
        self._shown_floor = shown_floor
        self._replica = replica
        self._port = port
        self._recent = recent
        self.pins = Pins(self._listing, shown_floor)

    def want_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> bool:
        """Whether it asks for something that was pushed."""
        budget, pushed = REPAIRS_PER_WANT, False
        for floor in Want.decode_untrusted(payload).floors:
            if budget <= 0:
                break
            budget -= self._answer(peer, floor, budget, now)
            pushed = pushed or self._lacks_what_was_pushed(floor)
        return pushed

    def _lacks_what_was_pushed(self, floor: Floor) -> bool:
        end = min(self._shown_floor(floor.shelf), floor.seq + REPAIRS_PER_WANT) + 1
        return any(self._recent.was_pushed(floor.shelf, seq) for seq in range(floor.seq + 1, end) if seq not in floor.loose)

    def _answer(self, peer: ReplicaId, floor: Floor, budget: int, now: Now) -> int:
        """What it cost, in frames."""
        replica = self._replica
        head = self._shown_floor(floor.shelf)
        have = set(floor.loose)
        first = max(floor.seq, head) + 1
        loose = [seq for seq in sorted(replica.loose_seqs(floor.shelf)) if seq >= first and seq not in have]
        if head > floor.seq:
            repairs = self._repairs(floor, head, have, budget)
            if not repairs:  # not at hand, or all there and yet its base stands still: then deltas cannot help
                return self._list(peer, self.pins.newest(peer, floor.shelf, floor.seq, now.monotonic))
        else:
            repairs = []
        for raw in repairs:
            self._port.send(peer, Lane.FRESH, Frame.REPAIR, raw)
        for seq in loose[: budget - len(repairs)]:
            self._port.send(peer, Lane.FRESH, Frame.REPAIR, delta_bytes(replica.loose[floor.shelf][seq].delta))
        return max(1, len(repairs) + len(loose))

    def _repairs(self, floor: Floor, head: int, have: set[int], budget: int) -> list[bytes] | None:
        """All deltas above the floor that the asker lacks, as they were sent; None when some are not at hand or there are too
        many.
        """
        if head - floor.seq > budget + len(have):
            return None
        repairs = []
        for seq in range(floor.seq + 1, head + 1):
            raw = None if seq in have else self._recent.get(floor.shelf, seq)
            if raw is not None:
                repairs.append(raw)
            elif seq not in have:
                return None
        return repairs

    def _listing(self, shelf: ShelfId, since: int) -> crdt.Listing | None:
        listing = self._replica.listing(shelf, since)
        return None if listing is None or listing.head.header.seq > self._shown_floor(shelf) else listing

    def _list(self, peer: ReplicaId, pinned: Pinned | None) -> int:
        if pinned is None:
            return 1
        self._port.send(peer, Lane.BULK, Frame.LISTING, pinned.page(0).encode())
        if len(pinned.listing.entries) > BODIES_PUSHED_MAX:
            return 1 + len(pinned.listing.entries) // ENTRIES_PER_REPAIR
        for body in pinned.bodies.values():
            self._send_body(peer, body)
        return 1 + len(pinned.bodies)

    def want_listing_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        want = WantListing.decode_untrusted(payload)
        pinned = self.pins.get(peer, (want.shelf, want.since, want.head))
        if pinned is None:  # never asked for, or pushed out: the first page of the newest starts the pull over
            self._list(peer, self.pins.newest(peer, want.shelf, want.since, now.monotonic))
        elif want.offset < len(pinned.listing.entries):
            self._port.send(peer, Lane.BULK, Frame.LISTING, pinned.page(want.offset).encode())

    def want_bodies_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        want = WantBodies.decode_untrusted(payload)
        pinned = self.pins.of(peer, want.host, want.head)
        found = 0
        for ref in want.bodies:
            body = next((p.bodies[ref] for p in pinned if ref in p.bodies), None) or self._live_body(*ref)
            if body:
                found += 1
                self._send_body(peer, body)
        if not found and not pinned:  # all died since their listing was pushed out: a newer one starts the pull over
            self._list(peer, self.pins.newest(peer, want.host, 0, now.monotonic))

    def _live_body(self, shelf: ShelfId, seq: int) -> crdt.Body | None:
        """Out of the replica itself: of a listing that was pushed out most bodies are still here."""
        if shelf == self._replica.shelf and seq > self._shown_floor(shelf):
            return None
        return self._replica.body(shelf, seq)

    def _send_body(self, peer: ReplicaId, body: crdt.Body) -> None:
        self._port.send(peer, Lane.BULK, Frame.BODY, BodyNote(body.shelf, body.seq, body.raw).encode())
