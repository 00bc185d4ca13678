"""Serve: the other side of pull. What a peer asks for is answered from the deltas still at hand, else from the base.

A listing is pinned while somebody pulls it: the author may write on, yet the pages and bodies of S(head) stay
available until newer listings push it out. A pinned listing holds references only.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

import crdt
from crdt.ids import ReplicaId, ShelfId
from mesh.port import Port
from mesh.sync.messages import BodyNote, Floor, ListingEntry, ListingPage, Want, WantBodies, WantListing
from mesh.sync.pull import BODIES_PUSHED_MAX, Ref
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame, Lane
from mesh.wire.packer import FRAME_BYTES_MAX

RECENT_MAX: Final = 4096
"""Deltas kept as they were sent, over all shelves: about 1.5 MB. A gap of a few deltas then closes in one round
trip.
"""
REPAIRS_PER_WANT: Final = 64
"""Frames sent for one WANT at most; the rest is asked for again. Bounds what one small datagram can cause."""
ENTRIES_PER_REPAIR: Final = 8
"""Of a listing, that count as one frame of that budget: about what finding and hashing them costs. Measured: a listing of 275
entries takes 0.4 ms, so one WANT for 40 of them took 45 ms.
"""
PINNED_MAX: Final = 16
"""Listings kept for peers that pull them. Guess: concurrent newcomers rarely ask one replica for more shelves at
once.
"""
INTEGER_BYTES_MAX: Final = 9
"""Of a seq in CBOR."""
LISTING_HEAD_BYTES_MAX: Final = 200
"""Shelf, header, signature and counts of a listing page."""


class RecentDeltas:
    """The newest deltas of all shelves, as bytes for the wire, first in first out."""

    def __init__(self, limit: int = RECENT_MAX) -> None:
        self._limit = limit
        self._order: deque[tuple[ShelfId, int]] = deque()
        self._raw: dict[tuple[ShelfId, int], bytes] = {}

    def add(self, shelf: ShelfId, seq: int, raw: bytes) -> None:
        name = (shelf, seq)
        if name in self._raw:
            return
        self._raw[name] = raw
        self._order.append(name)
        if len(self._order) > self._limit:
            del self._raw[self._order.popleft()]

    def get(self, shelf: ShelfId, seq: int) -> bytes | None:
        return self._raw.get((shelf, seq))


class Pinned:
    """A listing that somebody is pulling, with its bodies by name."""

    def __init__(self, listing: crdt.Listing) -> None:
        self.listing = listing
        self.bodies: dict[Ref, crdt.Body] = {(body.shelf, body.seq): body for body in listing.bodies}
        self._per_page = entries_per_page(listing)
        """The same for all pages, so that a receiver knows the offsets to ask for from the first one."""

    def page(self, offset: int) -> ListingPage:
        listing = self.listing
        entries = tuple(ListingEntry(*entry) for entry in listing.entries[offset : offset + self._per_page])
        head = listing.head
        return ListingPage(listing.shelf, listing.since, head.header_bytes, head.signature, len(listing.entries), offset, entries)


def entries_per_page(listing: crdt.Listing) -> int:
    """As many as fit a frame whichever they are, by the largest fields of this listing."""
    mask_bytes = max(((entry.mask.bit_length() + 7) // 8 for entry in listing.entries), default=1)
    hosted = any(entry.shelf != listing.shelf for entry in listing.entries)
    entry_bytes = 1 + INTEGER_BYTES_MAX + 17 + 2 + mask_bytes + (13 + INTEGER_BYTES_MAX) * hosted
    return (FRAME_BYTES_MAX - LISTING_HEAD_BYTES_MAX) // entry_bytes


class Server:
    """Answers WANT, WANT_LISTING and WANT_BODIES."""

    def __init__(self, replica: crdt.Replica, port: Port, recent: RecentDeltas, shown_floor: Callable[[ShelfId], int]) -> None:
        """`shown_floor`: how far others may know a shelf."""
        self._shown_floor = shown_floor
        self._replica = replica
        self._port = port
        self._recent = recent
        self._pinned: OrderedDict[tuple[ShelfId, int, int], Pinned] = OrderedDict()

    def want_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        budget = REPAIRS_PER_WANT
        for floor in Want.decode_untrusted(payload).floors:
            if budget <= 0:
                return
            budget -= self._answer(peer, floor, budget)

    def _answer(self, peer: ReplicaId, floor: Floor, budget: int) -> int:
        """What it cost, in frames."""
        replica = self._replica
        head = self._shown_floor(floor.shelf)
        have = set(floor.loose)
        first = max(floor.seq, head) + 1
        loose = [seq for seq in sorted(replica.loose_seqs(floor.shelf)) if seq >= first and seq not in have]
        if head > floor.seq:
            repairs = self._repairs(floor, head, have, budget)
            if not repairs:  # not at hand, or all there and yet its base stands still: then deltas cannot help
                return self._list(peer, self._pin(floor.shelf, floor.seq, 0))
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

    def _pin(self, shelf: ShelfId, since: int, head: int) -> Pinned | None:
        """The pinned listing at `head`; a new one of the newest head when that is 0 or no longer at hand."""
        pinned = self._pinned.get((shelf, since, head or self._replica.floor(shelf)))
        if pinned is None:
            listing = self._replica.listing(shelf, since)
            if listing is None or listing.head.header.seq > self._shown_floor(shelf):
                return None
            name = (shelf, listing.since, listing.head.header.seq)
            pinned = self._pinned.get(name) or Pinned(listing)
            self._pinned[name] = pinned
        name = (shelf, pinned.listing.since, pinned.listing.head.header.seq)
        self._pinned.move_to_end(name)
        if len(self._pinned) > PINNED_MAX:
            self._pinned.popitem(last=False)
        return pinned

    def _list(self, peer: ReplicaId, pinned: Pinned | None) -> int:
        if pinned is None:
            return 1
        self._port.send(peer, Lane.BULK, Frame.LISTING, pinned.page(0).encode())
        if len(pinned.listing.entries) > BODIES_PUSHED_MAX:
            return 1 + len(pinned.listing.entries) // ENTRIES_PER_REPAIR
        for body in pinned.bodies.values():
            self._send_body(peer, body)
        return 1 + len(pinned.bodies)

    def want_listing_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        want = WantListing.decode_untrusted(payload)
        if not want.head:
            self._list(peer, self._pin(want.shelf, want.since, 0))
            return
        pinned = self._pin(want.shelf, want.since, want.head)
        if pinned and pinned.listing.head.header.seq != want.head:
            self._list(peer, pinned)  # what was asked for is gone: the first page of a newer one starts the pull over
        elif pinned and want.offset < len(pinned.listing.entries):
            self._port.send(peer, Lane.BULK, Frame.LISTING, pinned.page(want.offset).encode())

    def want_bodies_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        want = WantBodies.decode_untrusted(payload)
        pinned = [p for (host, _, head), p in self._pinned.items() if (host, head) == (want.host, want.head)]
        found = 0
        for ref in want.bodies:
            body = next((p.bodies[ref] for p in pinned if ref in p.bodies), None) or self._live_body(*ref)
            if body:
                found += 1
                self._send_body(peer, body)
        if not found and not pinned:  # all died since their listing was pushed out: a newer one starts the pull over
            self._list(peer, self._pin(want.host, 0, 0))

    def _live_body(self, shelf: ShelfId, seq: int) -> crdt.Body | None:
        """Out of the replica itself: of a listing that was pushed out most bodies are still here."""
        if shelf == self._replica.shelf and seq > self._shown_floor(shelf):
            return None
        return self._replica.body(shelf, seq)

    def _send_body(self, peer: ReplicaId, body: crdt.Body) -> None:
        self._port.send(peer, Lane.BULK, Frame.BODY, BodyNote(body.shelf, body.seq, body.raw).encode())
