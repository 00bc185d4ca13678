"""Names of replicas, shelves and writes.

A *replica* is an agent's persistent identity, a *shelf* is what one start of it writes, a *dot* names one write for ever
(DESIGN: signed shelves). Ids are plain `bytes`: hashing is cached, order is total, and the wire carries them as they are.
"""

from __future__ import annotations

from typing import Final, NamedTuple, NewType

ReplicaId = NewType("ReplicaId", bytes)
"""8 bytes: BLAKE2b of the replica's public key."""

ShelfId = NewType("ShelfId", bytes)
"""12 bytes: replica id, then the birth, a random u32, big-endian."""

REPLICA_ID_BYTES: Final = 8
SHELF_ID_BYTES: Final = 12

INDEX_BITS: Final = 8
"""A dot is an integer, seq << INDEX_BITS | index. A delta of 1,200 bytes cannot hold 256 ops of 5 bytes."""
OPS_PER_DELTA_MAX: Final = (1 << INDEX_BITS) - 1


class Dot(NamedTuple):
    """One write, named for ever: the shelf that wrote it, its delta there (from 1), the op's place in the delta (from 0)."""

    origin: ShelfId
    seq: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use on a dot

    def __str__(self) -> str:
        return f"{replica_of(self.origin).hex()}.{birth_of(self.origin):08x}:{self.seq}.{self.index}"


def shelf_id(replica: ReplicaId, birth: int) -> ShelfId:
    return ShelfId(replica + birth.to_bytes(4, "big"))


def replica_of(shelf: ShelfId) -> ReplicaId:
    return ReplicaId(shelf[:REPLICA_ID_BYTES])


def birth_of(shelf: ShelfId) -> int:
    return int.from_bytes(shelf[REPLICA_ID_BYTES:], "big")


def make_dot(seq: int, index: int) -> int:
    return seq << INDEX_BITS | index


def dot_seq(dot: int) -> int:
    return dot >> INDEX_BITS


def dot_index(dot: int) -> int:
    return dot & (1 << INDEX_BITS) - 1
