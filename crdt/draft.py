"""What was written here and is not signed yet.

A draft is visible at once and has its dots from the start, so it is cut into bodies as it grows: the first that is full is closed and the
next seq begun.
"""

from __future__ import annotations

from collections.abc import Callable

from crdt.body import BodyWriter, Encode
from crdt.ids import ShelfId
from crdt.ops import NO_RIGHTS, Key, Op, Rights

SAME_TIME_US = 10_000
"""Ops of one body this close together share its time, which saves 5 bytes each (coalescing takes 5 ms)."""


class Page:
    """One body of the draft."""

    __slots__ = ("bulk", "gc_floor", "places", "writer")

    def __init__(self, writer: BodyWriter) -> None:
        self.writer = writer
        self.bulk = True
        self.gc_floor = 0
        """Raised by this delta, if above the shelf's."""
        self.places: dict[tuple[Key, ShelfId], int] = {}


class Draft:
    """The bodies to come, of `shelf` from `seq` on."""

    def __init__(self, shelf: ShelfId, encode: Encode, limit: int) -> None:
        self.shelf = shelf
        self.rights: Rights = NO_RIGHTS
        self.limit = limit
        self.time = 0
        """Of the last write: the next is later."""
        self.pages: list[Page] = []
        self._encode = encode
        self._seq = 1

    @property
    def size(self) -> int:
        """Bytes of the body that is still open."""
        return self.pages[-1].writer.size if self.pages else 0

    def place_of(self, key: Key, origin: ShelfId) -> tuple[Page, int] | None:
        """Where the open body says something of this origin at this key."""
        page = self.pages[-1] if self.pages else None
        at = page.places.get((key, origin)) if page else None
        return (page, at) if page is not None and at is not None else None

    def time_of_write(self, now_wall: int) -> int:
        """For a fresh write: that of its body, when it is near, else later than all before."""
        page = self.pages[-1] if self.pages else None
        if page and not page.bulk and now_wall < page.writer.time + SAME_TIME_US:
            return page.writer.time
        self.time = max(now_wall, self.time + 1)
        if page and page.bulk and not page.writer.retime(self.time, self.limit):
            self._turn()
        return self.time

    def add(self, make: Callable[[int], Op], *, bulk: bool) -> Op | None:
        """Append the op that `make` makes of its dot, on a new body if need be. None, and nothing changed, when it fits into none."""
        page = self.pages[-1] if self.pages else None
        if page is None or page.writer.rights != self.rights or not self._put(page, make, bulk=bulk):
            page = self._turn()
            if not self._put(page, make, bulk=bulk):
                self.pages.pop()
                self._seq -= 1
                return None
        return page.writer.ops[-1]

    def _put(self, page: Page, make: Callable[[int], Op], *, bulk: bool) -> bool:
        op = make(page.writer.next_dot())
        if not page.writer.add(op, self.limit):
            return False
        page.places[op.key, op.origin] = len(page.writer.ops) - 1
        page.bulk = page.bulk and bulk
        return True

    def _turn(self) -> Page:
        """Close the open body and begin the next."""
        page = Page(BodyWriter(self.shelf, self._seq, self.rights, self.time, self._encode))
        self._seq += 1
        self.pages.append(page)
        return page

    def last_page(self) -> Page:
        """The open body, begun if there is none."""
        return self.pages[-1] if self.pages else self._turn()

    def take(self) -> list[Page]:
        pages, self.pages = self.pages, []
        return pages
