"""Where a list item stands: Fugue's tree, each place written as a key that sorts.

Matthew Weidner and Martin Kleppmann, "The Art of the Fugue: Minimizing Interleaving in Collaborative Text Editing" (2023,
arXiv:2305.00583). Items form a binary-branching tree: what is inserted after an item is its right child, or, if something of its
right side is there already, a left child of the item that follows. Concurrent insertions at one place become siblings with whole
subtrees, so two authors' runs stand one after the other and are never mixed, typed forwards or backwards.

Fugue keeps removed items so that others still find their parents. Here each key spells out the whole way from the root, as in
Weidner's position strings, so a removed item leaves nothing behind. Two things keep keys short:

- A *run* is one step of the way: an author's next item after its own last one takes the same key with a higher number instead
  of a step more, and the next before its own first one a lower number. Items 1, 2, 3 of a run are a chain of right children,
  -1, -2, -3 one of left children. So appending 1,000 items makes keys no longer than appending one.
- A shelf is written out once in a key (12 bytes), then referred to by one byte. Each change of author at one place adds about
  5 bytes to the keys below it.

Measured, median key of 1,000 items: 17 bytes appended by one author, 31 put anywhere by one, 54 anywhere by two, 142
anywhere by 16. The price of never mixing runs is paid where many append to the end in turns: 1.3 kB for two authors, 2.4 kB
for 16. That is what a log is for.

    position = step+                    the last number is odd: an item
    step     = shelf number             the run of `shelf` below what precedes
    shelf    = 0xf0, 12 bytes           first mention
             | index (1 byte)           the index-th shelf mentioned in this position
    number   = ordered(2 n + 1)         item n of the run, or what lies to its right
             | ordered(2 n)             what lies to the left of item n

Bytewise order is the order of the list: numbers sort as bytes (`paths.ordered`), no step is a prefix of another, and a
place's right side begins with the place itself. `n` is a number that the shelf never uses twice, so a place is never given
to two items, whatever was removed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from crdt.errors import Malformed
from crdt.ids import SHELF_ID_BYTES, ShelfId
from crdt.types.paths import ordered, read_ordered_untrusted

NEW_SHELF: Final = 0xF0
"""Larger than any index, and unlike the mark of a hash (0xff)."""


class Place(NamedTuple):
    """A position, taken apart."""

    raw: bytes
    run: bytes
    """All but the last number."""
    number: int
    """The last number, still odd."""
    shelf: ShelfId
    """Whose run the last step is."""
    shelves: tuple[ShelfId, ...]
    """Those mentioned, in the order of their first mention."""

    @property
    def left_side(self) -> bytes:
        return self.run + ordered(self.number - 1)


@lru_cache(maxsize=4096)  # a list is sorted again at every read
def read_place_untrusted(raw: bytes) -> Place:
    """Raises Malformed for bytes that `between` would not have made, so that a place has one spelling."""
    at = 0
    shelves: list[ShelfId] = []
    shelf, run, number = ShelfId(b""), b"", 0
    while at < len(raw):
        shelf, at = _read_shelf_untrusted(raw, at, shelves)
        run = raw[:at]
        number, at = read_ordered_untrusted(raw, at)
    if not number % 2:  # also for no bytes at all
        raise Malformed("a position ends beside an item, not at one")
    return Place(raw, run, number, shelf, tuple(shelves))


def _read_shelf_untrusted(raw: bytes, at: int, shelves: list[ShelfId]) -> tuple[ShelfId, int]:
    if raw[at] < NEW_SHELF:
        if raw[at] >= len(shelves):
            raise Malformed("a position refers to a shelf that it does not mention")
        return shelves[raw[at]], at + 1
    end = at + 1 + SHELF_ID_BYTES
    shelf = ShelfId(raw[at + 1 : end])
    if raw[at] != NEW_SHELF or end > len(raw) or shelf in shelves[:NEW_SHELF]:
        raise Malformed("not a shelf in a position")
    if shelf not in shelves:
        shelves.append(shelf)
    return shelf, end


def between(left: Place | None, right: Place | None, shelf: ShelfId, fresh: int) -> bytes:
    """A new position of `shelf` after `left` and before `right`, which are neighbours; None is an end of the list.

    `fresh`: from 1, higher than in any position that this shelf made before.
    """
    if right is not None and (left is None or _descends(right, left)):
        if right.shelf == shelf and not (left and left.raw.startswith(right.run)):
            return right.run + ordered(1 - 2 * fresh)
        return right.left_side + _step(right.shelves, shelf, fresh)
    if left is None:
        return _step((), shelf, fresh)
    if left.shelf == shelf and not (right and right.raw.startswith(left.run)):
        return left.run + ordered(1 + 2 * fresh)
    return left.raw + _step(left.shelves, shelf, fresh)


def _descends(right: Place, left: Place) -> bool:
    """`right`, which follows `left`, is in the subtree to its right: below it, or further on in its run (a chain of right
    children)."""
    return right.raw.startswith(left.raw if left.number < 0 else left.run)


def _step(shelves: tuple[ShelfId, ...], shelf: ShelfId, fresh: int) -> bytes:
    known = shelves.index(shelf) if shelf in shelves else NEW_SHELF
    name = bytes((known,)) if known < NEW_SHELF else bytes((NEW_SHELF,)) + shelf
    return name + ordered(1 + 2 * fresh)
