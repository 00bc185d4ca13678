"""Pinned listings: S(head) of a shelf as it is being pulled, for as long as somebody pulls it.

The author may write on; the pages and bodies of the listing stay available until newer ones of the same peer push it out. A pin
holds references only, but making one looks at a whole shelf, so every peer has a budget of entries listed for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import crdt
from crdt.ids import ReplicaId, ShelfId
from mesh.sync.messages import ListingEntry, ListingPage
from mesh.sync.pull import ACTIVE_MAX, Ref
from mesh.wire.packer import FRAME_BYTES_MAX, TokenBucket

PINS_PER_PEER: Final = ACTIVE_MAX
"""As many shelves as a peer pulls at once."""
ENTRIES_PER_S: Final = 50_000.0
"""Listed for one peer; about 1 us each, so 5% of a core. Measured: 20,000 entries in 20 ms."""
ENTRIES_BURST: Final = 250_000.0
"""A newcomer to 1,000 shelves, or to one of the largest."""
ENTRIES_AT_LEAST: Final = 16
"""What a short listing costs."""
INTEGER_BYTES_MAX: Final = 9
"""Of a seq in CBOR."""
LISTING_HEAD_BYTES_MAX: Final = 200
"""Shelf, header, signature and counts of a listing page."""

Name = tuple[ShelfId, int, int]
"""(shelf, since, head)."""


class Pinned:
    """A listing that somebody is pulling, with its bodies by name."""

    def __init__(self, listing: crdt.Listing) -> None:
        self.listing = listing
        self.bodies: dict[Ref, crdt.Body] = {(body.shelf, body.seq): body for body in listing.bodies}
        self._per_page = entries_per_page(listing)
        """The same for all pages, so that a receiver knows the offsets to ask for from the first one."""

    @property
    def name(self) -> Name:
        return (self.listing.shelf, self.listing.since, self.listing.head.header.seq)

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


class Pins:
    """`list_shelf(shelf, since)`: what there is to pin now; None when there is nothing more than that. `floor`: its head."""

    def __init__(self, list_shelf: Callable[[ShelfId, int], crdt.Listing | None], floor: Callable[[ShelfId], int]) -> None:
        self._list_shelf = list_shelf
        self._floor = floor
        self._pins: dict[ReplicaId, OrderedDict[Name, Pinned]] = {}
        self._budgets: dict[ReplicaId, TokenBucket] = {}

    def get(self, peer: ReplicaId, name: Name) -> Pinned | None:
        """What this peer is pulling under this name, if it is still pinned."""
        pins = self._pins.get(peer)
        if pins is None or name not in pins:
            return None
        pins.move_to_end(name)
        return pins[name]

    def of(self, peer: ReplicaId, shelf: ShelfId, head: int) -> list[Pinned]:
        """Its pins of one head, whole and suffixes."""
        return [pinned for name, pinned in self._pins.get(peer, {}).items() if (name[0], name[2]) == (shelf, head)]

    def newest(self, peer: ReplicaId, shelf: ShelfId, since: int, now: float) -> Pinned | None:
        """Pin the newest head for this peer; None when there is nothing above `since`, or its budget is spent."""
        pinned = self.get(peer, (shelf, since, self._floor(shelf)))
        if pinned:
            return pinned
        budget = self._budgets.setdefault(peer, TokenBucket(ENTRIES_PER_S, ENTRIES_BURST))
        if budget.refill(now) <= 0:
            return None
        listing = self._list_shelf(shelf, since)
        if listing is None:
            return None
        budget.tokens -= max(len(listing.entries), ENTRIES_AT_LEAST)
        pinned = Pinned(listing)
        pins = self._pins.setdefault(peer, OrderedDict())
        pinned = pins.setdefault(pinned.name, pinned)
        pins.move_to_end(pinned.name)
        if len(pins) > PINS_PER_PEER:
            pins.popitem(last=False)
        return pinned

    def forget(self, peer: ReplicaId) -> None:
        self._pins.pop(peer, None)
        self._budgets.pop(peer, None)
