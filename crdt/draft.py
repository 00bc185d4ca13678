"""What was written here and is not signed yet.

A draft shows at once and has its dots from the start, so it is cut into pages as it grows: each becomes the body of one
delta, and only the last is open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crdt.body import Encode
from crdt.ids import ShelfId, make_dot
from crdt.ops import NO_RIGHTS, Key, Op, Rights
from crdt.packer import BodyWriter

SAME_TIME_US: Final = 10_000
"""Writes this close together share the time of their body, which saves 5 bytes each (coalescing takes 5 ms)."""


class Page:
    """One body to come."""

    __slots__ = ("bulk", "gc_floor", "writer")

    def __init__(self, writer: BodyWriter) -> None:
        self.writer = writer
        self.bulk = True
        """No user's write in it."""
        self.gc_floor = 0
        """What its delta raises the shelf's to."""


class Draft:
    """The bodies to come, of `shelf` from seq 1 on."""

    def __init__(self, shelf: ShelfId, encode: Encode, limit: int) -> None:
        self.shelf = shelf
        self.rights: Rights = NO_RIGHTS
        self.limit = limit
        """Bytes of a body."""
        self.time = 0
        """Of the last write: the next is not before it."""
        self.pages: list[Page] = []
        self._encode = encode
        self._next_seq = 1
        self._closed_bytes = 0
        self._places: dict[tuple[Key, ShelfId], tuple[Page, int]] = {}
        """Where something is said of a cell, the last time."""

    @property
    def size(self) -> int:
        """Bytes of all bodies as they stand."""
        return self._closed_bytes + self.pages[-1].writer.size if self.pages else 0

    def next_dot(self) -> int:
        """What the next op has at least."""
        return self.pages[-1].writer.next_dot() if self.pages else make_dot(self._next_seq, 0)

    def gc_floor(self) -> int:
        return max((page.gc_floor for page in self.pages), default=0)

    def mentions(self, key: Key, origin: ShelfId) -> bool:
        """Whether something is said of this cell."""
        return (key, origin) in self._places

    def place(self, key: Key, origin: ShelfId) -> tuple[Page, int] | None:
        """Where the open page says something of this cell: only there it can be replaced."""
        found = self._places.get((key, origin))
        return found if found and found[0] is self.pages[-1] else None

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
        """Append the op that `make` makes of its dot, on a new page if need be. None, and nothing changed, when it fits on
        none."""
        page = self.pages[-1] if self.pages else None
        if page is None or page.writer.rights != self.rights or not self._put(page, make, bulk=bulk):
            page = self._turn()
            if not self._put(page, make, bulk=bulk):
                self._turn_back()
                return None
        return page.writer.ops[-1]

    def has_room(self, op: Op) -> bool:
        """Whether the op fits into a body of its own."""
        return BodyWriter(self.shelf, self._next_seq, self.rights, self.time, self._encode).add(op, self.limit)

    def _put(self, page: Page, make: Callable[[int], Op], *, bulk: bool) -> bool:
        op = make(page.writer.next_dot())
        if not page.writer.add(op, self.limit):
            return False
        self._places[op.key, op.origin] = (page, len(page.writer.ops) - 1)
        page.bulk = page.bulk and bulk
        return True

    def _turn(self) -> Page:
        """Close the open page and begin the next."""
        if self.pages:
            self._closed_bytes += self.pages[-1].writer.size
        page = Page(BodyWriter(self.shelf, self._next_seq, self.rights, self.time, self._encode))
        self._next_seq += 1
        self.pages.append(page)
        return page

    def _turn_back(self) -> None:
        """The open page was begun for nothing."""
        self.pages.pop()
        self._next_seq -= 1
        if self.pages:
            self._closed_bytes -= self.pages[-1].writer.size

    def raise_gc_floor(self, gc_floor: int) -> None:
        """With the open page, which comes after all that was drafted before."""
        page = self.pages[-1] if self.pages else self._turn()
        page.gc_floor = max(page.gc_floor, gc_floor)

    def take(self) -> list[Page]:
        if self.pages and not self.pages[-1].writer.ops and not self.pages[-1].gc_floor:
            self._turn_back()  # it was begun for a write that was refused
        pages, self.pages = self.pages, []
        self._places.clear()
        self._closed_bytes = 0
        return pages
