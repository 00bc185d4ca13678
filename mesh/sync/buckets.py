"""Buckets: the floors of all shelves, summed up so that two replicas find where they differ with one datagram.

Each shelf falls into one of BUCKETS by its id. The hash of a bucket is the XOR of one short hash per shelf over
(shelf, floor, header hash, loose seqs), kept up to date in O(1) when a shelf moves. XOR is no defence against a liar,
and need not be: what a liar can make two replicas overlook is only what it holds back itself, and the next honest
peer shows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from hashlib import blake2b
from math import inf
from operator import attrgetter
from typing import Final

from crdt.ids import ReplicaId, ShelfId
from mesh.sync.messages import BucketPage, Floor, framed

BUCKETS: Final = 64
"""64 hashes of 6 bytes are 384 bytes: they fit beside the rest; at 1,000 authors a bucket holds 16 shelves, one
datagram.
"""
BUCKET_HASH_BYTES: Final = 6
LOOSE_PER_FLOOR: Final = 8
"""Loose seqs named beside a floor in passing: the lowest."""
LOOSE_PER_PAGE: Final = 64
"""Named where two replicas differ: other ones each time, so that all are found, however many there are."""
DIGESTS_BETWEEN_MAX: Final = 32
"""Between two times that a peer is told of a bucket that goes on differing. Guess: some seconds, in which much was pulled."""
LOWEST: Final = bytes(12)
HIGHEST: Final = b"\xff" * 12


_BUCKET_BITS: Final = 8 * BUCKET_HASH_BYTES
_NO_DIFFERENCE: Final = bytes(BUCKET_HASH_BYTES)
_SHELF: Final = attrgetter("shelf")


def bucket_of(shelf: ShelfId) -> int:
    return blake2b(shelf, digest_size=1).digest()[0] % BUCKETS


def _hash(floor: Floor) -> int:
    text = floor.shelf + floor.seq.to_bytes(8, "big") + floor.hash4
    if floor.loose:
        text += b"".join([x.to_bytes(8, "big") for x in floor.loose])
    return int.from_bytes(blake2b(text, digest_size=BUCKET_HASH_BYTES).digest(), "big")


class _Row:
    """A shelf in the table: where it stood when it was last looked at, and the hash of that. None, 0: it was let go."""

    __slots__ = ("bucket", "floor", "hash", "shift")

    def __init__(self, shelf: ShelfId) -> None:
        self.bucket = bucket_of(shelf)
        self.shift = (BUCKETS - 1 - self.bucket) * _BUCKET_BITS
        self.floor: Floor | None = None
        self.hash = 0


class FloorTable:
    """The floors of one replica by bucket. `read(shelf)` tells where a shelf stands now, with all that is loose of it; None when
    it was let go.
    """

    def __init__(self, read: Callable[[ShelfId], Floor | None]) -> None:
        self._read = read
        self._hashes = 0
        """Of all buckets, side by side as they travel: bucket 0 in front."""
        self._rows: dict[ShelfId, _Row] = {}
        self._floors: list[dict[ShelfId, Floor]] = [{} for _ in range(BUCKETS)]
        self._moved: dict[ShelfId, None] = {}

    def moved(self, shelf: ShelfId) -> None:
        """Something about this shelf changed; looked at when the hashes are asked for next."""
        self._moved[shelf] = None

    def _settle(self) -> None:
        for shelf in self._moved:
            row = self._rows.get(shelf)
            if row is None:
                row = self._rows[shelf] = _Row(shelf)
            new = row.floor = self._read(shelf)
            before, row.hash = row.hash, _hash(new) if new else 0
            self._hashes ^= (before ^ row.hash) << row.shift
            if new:
                self._floors[row.bucket][shelf] = new
            else:
                self._floors[row.bucket].pop(shelf, None)
                del self._rows[shelf]
        self._moved.clear()

    def hashes(self) -> bytes:
        self._settle()
        return self._hashes.to_bytes(BUCKETS * BUCKET_HASH_BYTES, "big")

    def differing(self, theirs: bytes, explained: Iterable[Floor] = ()) -> list[int]:
        """Buckets in which the other side differs, beyond the floors that it named itself (`explained`). One that may name only
        part of what is loose explains nothing. `theirs`: as long as `hashes`.
        """
        self._settle()
        difference = self._hashes ^ int.from_bytes(theirs, "big")
        for floor in explained:
            if len(floor.loose) >= LOOSE_PER_FLOOR:
                continue
            row = self._rows.get(floor.shelf)
            if row is None:
                difference ^= _hash(floor) << (BUCKETS - 1 - bucket_of(floor.shelf)) * _BUCKET_BITS
            elif row.floor != floor:  # else both have it: nothing to explain
                difference ^= (_hash(floor) ^ row.hash) << row.shift
        if not difference:
            return []
        size, parts = BUCKET_HASH_BYTES, difference.to_bytes(BUCKETS * BUCKET_HASH_BYTES, "big")
        return [i for i in range(BUCKETS) if parts[i * size : i * size + size] != _NO_DIFFERENCE]

    def pages(self, bucket: int, rng: random.Random) -> list[BucketPage]:
        """All my floors of a bucket, ascending, in pages that each fit a datagram and together cover every shelf id. Of what is
        loose, as much as is named at once, from anywhere.
        """
        self._settle()
        chunks = framed([_part_of(floor, rng) for floor in sorted(self._floors[bucket].values(), key=_SHELF)]) or [()]
        pages, low = [], LOWEST
        for i, chunk in enumerate(chunks):
            last = i == len(chunks) - 1
            high = HIGHEST if last else chunk[-1].shelf
            pages.append(BucketPage(bucket, low, high, chunk))
            low = high
        return pages

    def within(self, bucket: int, low: bytes, high: bytes) -> list[Floor]:
        """My floors of a bucket with ids in (low, high], ascending."""
        self._settle()
        return sorted((floor for shelf, floor in self._floors[bucket].items() if low < shelf <= high), key=_SHELF)


def lacking_there(mine: Floor, theirs: Floor) -> tuple[int, ...]:
    """What is loose here and not there. A list that may be cut short says something about its range only."""
    named = set(theirs.loose)
    low, high = float(theirs.seq), inf
    if len(named) == LOOSE_PER_FLOOR:  # the lowest
        high = float(max(named))
    elif len(named) >= LOOSE_PER_PAGE:  # from anywhere
        low, high = max(low, float(min(named))), float(max(named))
    return tuple(seq for seq in mine.loose if low < seq <= high and seq not in named)


def _part_of(floor: Floor, rng: random.Random) -> Floor:
    if len(floor.loose) <= LOOSE_PER_PAGE:
        return floor
    start = rng.randrange(len(floor.loose) - LOOSE_PER_PAGE + 1)
    return floor.naming(floor.loose[start : start + LOOSE_PER_PAGE])


def ahead_of(theirs: Iterable[Floor], read: Callable[[ShelfId], Floor | None]) -> list[Floor]:
    """My floors of shelves of which I have more, with what is loose here and not there."""
    ahead = []
    for floor in theirs:
        mine = read(floor.shelf)
        if mine is not None:
            lacking = lacking_there(mine, floor)
            if mine.seq > floor.seq or lacking:
                ahead.append(mine.naming(lacking[:LOOSE_PER_PAGE]))
    return ahead


class Differed:
    """Which buckets differed in the last digest of each peer: one number a peer, a bit a bucket. And which of them that peer was
    told of: one that goes on differing, because what it lacks takes a while to come, is told of more and more rarely.
    """

    def __init__(self) -> None:
        self._last: dict[ReplicaId, int] = {}
        self._told: dict[ReplicaId, dict[int, tuple[int, int]]] = {}
        """Per bucket the digests that it still waits, and how many it waited last."""

    def again(self, peer: ReplicaId, differing: Collection[int]) -> list[int]:
        """Those of them that differed last time, too, and that it is time to tell of."""
        before, told = self._last.get(peer, 0), self._told.pop(peer, None)
        self._last[peer] = sum(1 << bucket for bucket in differing)
        lasting = [bucket for bucket in sorted(differing) if before >> bucket & 1]
        if not told:
            return lasting
        kept = {bucket: (told[bucket][0] - 1, told[bucket][1]) for bucket in lasting if bucket in told}
        if kept:
            self._told[peer] = kept
        return [bucket for bucket in lasting if bucket not in kept or kept[bucket][0] <= 0]

    def tells(self, peer: ReplicaId, bucket: int) -> None:
        """It is told of now: next after 1, 2, 4 ... further digests in which it differs."""
        told = self._told.setdefault(peer, {})
        span = min(2 * told[bucket][1], DIGESTS_BETWEEN_MAX) if bucket in told else 1
        told[bucket] = (span, span)

    def suspect_all(self, peer: ReplicaId) -> None:
        """Whatever differs the next time is looked at without waiting for a second one."""
        self._last[peer] = (1 << BUCKETS) - 1
        self._told.pop(peer, None)

    def forget(self, peer: ReplicaId) -> None:
        self._last.pop(peer, None)
        self._told.pop(peer, None)
