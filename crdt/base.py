"""S(n): a shelf exactly as its author had it after delta n, as one replica holds it.

A base is a head (the signed header n) and, for every body with live ops, its place in the chain and a mask of those that
live. Own bodies stand at their own seq; what came with a takeover stands at the seq of the takeover, and keeps the name of
its former shelf.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from crdt.body import Body
from crdt.delta import NO_HASH, Head
from crdt.digest import SetHash
from crdt.ids import ShelfId
from crdt.limits import HASH_BYTES
from crdt.ops import Op

RECENT_HASHES: Final = 256
"""Header hashes remembered per shelf, to tell a fork from an old delta (DESIGN section 2)."""
UNHASHED_MAX: Final = 8
"""Headers of one shelf that wait to be hashed, half a kilobyte each. Guess: what most write between two looks at it."""


class Entry(NamedTuple):
    """The live ops of one body on a shelf. Sorts as lists of entries must: by place, then body."""

    place: int
    """Seq in the host's chain: that of the body itself, or of the takeover that brought it."""
    shelf: ShelfId
    seq: int
    body_hash: bytes
    mask: int


class Listing(NamedTuple):
    """A statement: these are all live ops of S(head) above `since`. `entries` ascend strictly; `bodies` are theirs, in the
    same order."""

    shelf: ShelfId
    since: int
    head: Head
    entries: tuple[Entry, ...]
    bodies: tuple[Body, ...]


class Held:
    """A body in a base. `mask` says which of its ops live; `digested` and `journaled` what the digest and the store know of
    it."""

    __slots__ = ("body", "digested", "host", "journaled", "mask", "place", "void")

    def __init__(self, host: ShelfId, place: int, body: Body, mask: int, void: int) -> None:
        self.host = host
        self.place = place
        self.body = body
        self.mask = mask
        self.void = void
        """Which of its ops count as dropped: faulty, or outside their author's rights. They stay in mask and digest."""
        self.digested = 0
        self.journaled = 0

    @property
    def name(self) -> Place:
        return (self.place, self.body.shelf, self.body.seq)

    @property
    def entry(self) -> Entry:
        return Entry(self.place, self.body.shelf, self.body.seq, self.body.hash, self.mask)

    def live(self) -> Iterator[tuple[int, Op]]:
        """The live ops with their index in the body."""
        mask = self.mask
        return ((index, op) for index, op in enumerate(self.body.ops) if mask >> index & 1)


Place = tuple[int, ShelfId, int]
"""A held body's name in its base: place, body shelf, body seq."""
Slot = tuple[Held, int]
"""One live op: where it is held, and its index there."""


class Base:
    """One shelf of a `State`, which alone changes it: every op here is in the state's index too."""

    __slots__ = (
        "_digest",
        "_hashes",
        "_hashes_first",
        "_set",
        "_unhashed",
        "absent",
        "body_bytes",
        "dirty",
        "head",
        "hosted",
        "live_ops",
        "own",
        "shelf",
    )

    def __init__(self, shelf: ShelfId) -> None:
        self.shelf = shelf
        self.head: Head | None = None
        self.own: dict[int, Held] = {}
        """Bodies of this shelf by seq, ascending: chains grow at their end."""
        self.hosted: dict[Place, Held] = {}
        """Bodies of former shelves, ascending too."""
        self.absent: deque[Slot] = deque()
        """Removed and dropped cells by place, to find what gc_floor passes; some may have been replaced since."""
        self.dirty: list[Held] = []
        """Whose mask may not be the one in the digest, some several times: a list takes one with less ado than a set."""
        self.body_bytes = 0
        """Of all bodies held."""
        self.live_ops = 0
        self._set = SetHash()
        self._digest: bytes | None = None
        """Of `_set`, where it has not changed since somebody asked."""
        self._hashes = bytearray()
        self._hashes_first = 0
        self._unhashed: list[Head] = []
        """The newest, whose hashes are still to be appended: with the next digest, not while many wait for the delta."""

    @property
    def floor(self) -> int:
        return self.head.header.seq if self.head else 0

    @property
    def gc_floor(self) -> int:
        return self.head.header.gc_floor if self.head else 0

    def get(self, place: int, shelf: ShelfId, seq: int) -> Held | None:
        return self.own.get(seq) if shelf == self.shelf else self.hosted.get((place, shelf, seq))

    def put(self, held: Held) -> None:
        """Hold it, if it is not held already."""
        own = held.body.shelf == self.shelf
        known = self.own.setdefault(held.place, held) if own else self.hosted.setdefault(held.name, held)
        if known is held:
            self.body_bytes += len(held.body.raw)

    def forget(self, held: Held) -> None:
        self.body_bytes -= len(held.body.raw)
        if held.body.shelf == self.shelf:
            del self.own[held.place]
        else:
            del self.hosted[held.name]

    def above(self, since: int) -> list[Held]:
        """What stands above `since`, ascending, without a look at the rest."""
        found = []
        for held in reversed(self.own.values()):
            if held.place <= since:
                break
            found.append(held)
        found.reverse()
        if not self.hosted:
            return found
        for held in reversed(self.hosted.values()):
            if held.place <= since:
                break
            found.append(held)
        return sorted(found, key=_name)

    def everything(self) -> list[Held]:
        return self.above(0)

    def order(self) -> None:
        """Restore ascending order after a jump, which may put something in between."""
        if any(former > place for former, place in pairwise(self.own)):
            self.own = dict(sorted(self.own.items()))
        if any(former > name for former, name in pairwise(self.hosted)):
            self.hosted = dict(sorted(self.hosted.items()))
        self.absent = deque(
            sorted((slot for slot in self.absent if slot[0].mask >> slot[1] & 1), key=lambda slot: (slot[0].name, slot[1]))
        )

    # --- header hashes

    def advance(self, head: Head, *, same_chain: bool = True) -> None:
        """`head` is the successor of ours, or where a jump led: by a suffix, which proves that it is the same chain, or by a
        whole list."""
        gap = head.header.seq - self.floor - 1
        if not self.head or not same_chain or not 0 <= gap < RECENT_HASHES:
            self._unhashed.clear()
            self._hashes = bytearray()
            self._hashes_first = head.header.seq
        elif gap:
            self._note_hashes()
            self._hashes += bytes(gap * HASH_BYTES)
        self._unhashed.append(head)
        if len(self._unhashed) >= UNHASHED_MAX:
            self._note_hashes()
        self.head = head

    def _note_hashes(self) -> None:
        for head in self._unhashed:
            self._hashes += head.hash
        self._unhashed.clear()
        if len(self._hashes) >= 2 * RECENT_HASHES * HASH_BYTES:
            self._hashes_first += RECENT_HASHES
            del self._hashes[: RECENT_HASHES * HASH_BYTES]

    def recent_hash(self, seq: int) -> bytes | None:
        """The hash of header `seq`, where it is still remembered (at least the last 256, if they came in order)."""
        self._note_hashes()
        at = (seq - self._hashes_first) * HASH_BYTES
        found = bytes(self._hashes[at : at + HASH_BYTES]) if 0 <= at < len(self._hashes) else NO_HASH
        return None if found == NO_HASH else found

    def recent_hashes(self) -> list[tuple[int, bytes]]:
        """(seq, header hash) of all that are remembered, ascending."""
        self._note_hashes()
        hashes, first = self._hashes, self._hashes_first
        rows = ((first + at // HASH_BYTES, bytes(hashes[at : at + HASH_BYTES])) for at in range(0, len(hashes), HASH_BYTES))
        return [(seq, found) for seq, found in rows if found != NO_HASH]

    # --- digest

    def digest(self) -> bytes:
        """Of the live ops as they are. Costs a hash per body whose mask changed since the last call."""
        self._note_hashes()
        if self._digest is not None and not self.dirty:
            return self._digest
        for held in self.dirty:
            body = held.body
            if held.digested != held.mask:
                if held.digested:
                    self._set.remove(held.place, body.shelf, body.seq, body.hash, held.digested)
                if held.mask:
                    self._set.add(held.place, body.shelf, body.seq, body.hash, held.mask)
                held.digested = held.mask
        self.dirty.clear()
        self._digest = self._set.digest()
        return self._digest

    def digest_with(self, changes: Iterable[tuple[Entry | None, Entry | None]]) -> bytes:
        """What the digest would be with these (before, after) in place: to try a jump without making it."""
        self.digest()
        trial = self._set.copy()
        for before, after in changes:
            if before:
                trial.remove(*before)
            if after:
                trial.add(*after)
        return trial.digest()


def digest_of(entries: Iterable[Entry]) -> bytes:
    """The digest of a shelf with exactly these entries."""
    trial = SetHash()
    for entry in entries:
        trial.add(*entry)
    return trial.digest()


def _name(held: Held) -> Place:
    return held.name
