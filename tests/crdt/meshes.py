"""Replicas in memory, and the shortest ways to make one know what another knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from crdt import Delta, Head, Header, Key, Op, Replica, ReplicaId, Rights, ShelfId, delta_from_parts_untrusted, shelf_id
from crdt.ids import replica_of
from crdt.packer import BodyWriter

REGISTER = 1
KEY: Key = (REGISTER, ("k",))


def shelf_of(name: str, birth: int = 1) -> ShelfId:
    return shelf_id(ReplicaId(name.encode() * 8), birth)


def replica(name: str, birth: int = 1, **options: Any) -> Replica:
    return Replica(shelf_of(name, birth), **options)


def reread(delta: Delta) -> Delta:
    """As it comes from the wire."""
    return delta_from_parts_untrusted(replica_of(delta.shelf), delta.header_bytes, delta.signature, delta.body)


def pull(reader: Replica, peer: Replica) -> None:
    for shelf in peer.shelves():
        if shelf != reader.shelf and peer.floor(shelf) > reader.reached(shelf):
            listing = peer.listing(shelf, reader.floor(shelf))
            assert listing is not None
            assert reader.jump(listing.head, listing.since, listing.entries, listing.bodies)
        for _, loose in sorted(peer.loose.get(shelf, {}).items()):
            reader.receive(reread(loose.delta), loose.mask)


def meet(*replicas: Replica) -> None:
    """Everybody seals, then pulls from everybody, until all know the same."""
    for one in replicas:
        one.seal()
    for _ in replicas:
        for reader in replicas:
            for peer in replicas:
                if reader is not peer:
                    pull(reader, peer)


def give(deltas: Iterable[Delta], *receivers: Replica) -> None:
    for delta in deltas:
        for receiver in receivers:
            receiver.receive(reread(delta))


def shown(one: Replica, key: Key = KEY) -> list[Any]:
    return [op.payload for op in one.shown(key)]


def live(one: Replica, shelf: ShelfId) -> list[Op]:
    """The live ops of a base, by place."""
    return [op for held in one.bases[shelf].everything() for _, op in held.live()]


def sound(one: Replica) -> bool:
    """Whether every base is what its author signed."""
    return all(one.digest(shelf) == base.head.header.shelf_digest for shelf, base in one.bases.items() if base.head)


def keep_house(*replicas: Replica, rounds: int = 4) -> None:
    """Until nothing is left to do."""
    chores: list[Callable[[Replica], int]] = [lambda one: one.drop(1e9, 0.0), lambda one: one.retire(), lambda one: one.repack()]
    for _ in range(rounds):
        for chore in chores:
            for one in replicas:
                chore(one)
            meet(*replicas)


def forge(shelf: ShelfId, ops: list[Op], seq: int = 1, previous: Head | None = None, digest: bytes = bytes(16)) -> Delta:
    """A delta that no honest replica of this code would write."""
    writer = BodyWriter(shelf, seq, Rights(0, 0), 0)
    for op in ops:
        assert writer.add(op, 1000)
    body = writer.finish()
    header = Header(shelf, seq, previous.hash if previous else bytes(16), digest, 0, body.hash)
    return Delta(Head(header, header.encoded(), b""), body)
