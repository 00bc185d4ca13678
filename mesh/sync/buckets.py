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
LOWEST: Final = bytes(12)
HIGHEST: Final = b"\xff" * 12


def bucket_of(shelf: ShelfId) -> int:
    return blake2b(shelf, digest_size=1).digest()[0] % BUCKETS


def _hash(floor: Floor) -> int:
    text = b"".join((floor.shelf, floor.seq.to_bytes(8, "big"), floor.hash4, *(x.to_bytes(8, "big") for x in floor.loose)))
    return int.from_bytes(blake2b(text, digest_size=BUCKET_HASH_BYTES).digest(), "big")


class FloorTable:
    """The floors of one replica by bucket. `read(shelf)` tells where a shelf stands now, with all that is loose of it; None when
    it was let go.
    """

    def __init__(self, read: Callable[[ShelfId], Floor | None]) -> None:
        self._read = read
        self._hashes = [0] * BUCKETS
        self._floors: list[dict[ShelfId, Floor]] = [{} for _ in range(BUCKETS)]
        self._moved: dict[ShelfId, None] = {}

    def moved(self, shelf: ShelfId) -> None:
        """Something about this shelf changed; looked at when the hashes are asked for next."""
        self._moved[shelf] = None

    def _settle(self) -> None:
        for shelf in self._moved:
            bucket = bucket_of(shelf)
            floors = self._floors[bucket]
            old = floors.pop(shelf, None)
            new = self._read(shelf)
            if old:
                self._hashes[bucket] ^= _hash(old)
            if new:
                floors[shelf] = new
                self._hashes[bucket] ^= _hash(new)
        self._moved.clear()

    def hashes(self) -> bytes:
        self._settle()
        return b"".join(value.to_bytes(BUCKET_HASH_BYTES, "big") for value in self._hashes)

    def differing(self, theirs: bytes, explained: Iterable[Floor] = ()) -> list[int]:
        """Buckets in which the other side differs, beyond the floors that it named itself (`explained`). One that may name only
        part of what is loose explains nothing.
        """
        self._settle()
        assume = list(self._hashes)
        for floor in explained:
            if len(floor.loose) >= LOOSE_PER_FLOOR:
                continue
            bucket = bucket_of(floor.shelf)
            mine = self._floors[bucket].get(floor.shelf)
            assume[bucket] ^= _hash(floor) ^ (_hash(mine) if mine else 0)
        size = BUCKET_HASH_BYTES
        return [i for i in range(BUCKETS) if assume[i] != int.from_bytes(theirs[i * size : i * size + size], "big")]

    def pages(self, bucket: int, rng: random.Random) -> list[BucketPage]:
        """All my floors of a bucket, ascending, in pages that each fit a datagram and together cover every shelf id. Of what is
        loose, as much as is named at once, from anywhere.
        """
        self._settle()
        chunks = framed([_part_of(floor, rng) for floor in sorted(self._floors[bucket].values())]) or [()]
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
        return sorted(floor for shelf, floor in self._floors[bucket].items() if low < shelf <= high)


def lacking_there(mine: Floor, theirs: Floor) -> tuple[int, ...]:
    """What is loose here and not there. A list that may be cut short says something about its range only."""
    named, low, high = set(theirs.loose), theirs.seq, inf
    if len(named) == LOOSE_PER_FLOOR:  # the lowest
        high = max(named)
    elif len(named) >= LOOSE_PER_PAGE:  # from anywhere
        low, high = max(low, min(named)), max(named)
    return tuple(seq for seq in mine.loose if low < seq <= high and seq not in named)


def _part_of(floor: Floor, rng: random.Random) -> Floor:
    if len(floor.loose) <= LOOSE_PER_PAGE:
        return floor
    start = rng.randrange(len(floor.loose) - LOOSE_PER_PAGE + 1)
    return floor._replace(loose=floor.loose[start : start + LOOSE_PER_PAGE])


def ahead_of(theirs: Iterable[Floor], read: Callable[[ShelfId], Floor | None]) -> list[Floor]:
    """My floors of shelves of which I have more, with what is loose here and not there."""
    ahead = []
    for floor in theirs:
        mine = read(floor.shelf)
        if mine is not None:
            lacking = lacking_there(mine, floor)
            if mine.seq > floor.seq or lacking:
                ahead.append(mine._replace(loose=lacking[:LOOSE_PER_PAGE]))
    return ahead


class Differed:
    """Which buckets differed in the last digest of each peer: one number a peer, a bit a bucket."""

    def __init__(self) -> None:
        self._last: dict[ReplicaId, int] = {}

    def again(self, peer: ReplicaId, differing: Collection[int]) -> list[int]:
        """Those of them that differed last time, too."""
        before = self._last.get(peer, 0)
        self._last[peer] = sum(1 << bucket for bucket in differing)
        return [bucket for bucket in sorted(differing) if before >> bucket & 1]

    def suspect_all(self, peer: ReplicaId) -> None:
        """Whatever differs the next time is looked at without waiting for a second one."""
        self._last[peer] = (1 << BUCKETS) - 1

    def forget(self, peer: ReplicaId) -> None:
        self._last.pop(peer, None)
