"""Journal entries and peers as rows, and back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from crdt.base import Entry
from crdt.delta import delta_from_parts_untrusted
from crdt.errors import Malformed
from crdt.ids import SHELF_ID_BYTES as SHELF
from crdt.ids import ReplicaId, ShelfId, replica_of
from crdt.journal import HeadSet, JournalEntry, LiveSet, LooseSet
from mesh.store.rows import KnownPeer, Restored
from mesh.store.schema import (
    BODIES,
    HEADS,
    HOSTED,
    LOOSE,
    META,
    OWN,
    PEERS,
    STATEMENTS,
    DamageError,
    Key,
    Row,
    Table,
)
from mesh.store.schema import PLACE_BYTES as PLACE

INCARNATION: Final = ".incarnation"
"""Name in `meta` of this replica's own. The dot keeps it apart from a caller's names."""

Stored: TypeAlias = Callable[[Table], Iterable[tuple[Key, Row]]]
"""All rows of a table, checked; numbered ones in their order."""


def place(shelf: ShelfId, seq: int) -> bytes:
    return shelf + seq.to_bytes(8, "big")


def ref(shelf: ShelfId, seq: int, body_hash: bytes) -> bytes:
    """Names a body. Two branches of a fork differ in the hash alone."""
    return shelf + seq.to_bytes(8, "big") + body_hash


def mask_bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "big")


def live_row(host: ShelfId, entry: Entry) -> tuple[Table, bytes, Row | None]:
    """Nothing lives in it: the row goes."""
    row = (mask_bytes(entry.mask),) if entry.mask else None
    name = ref(entry.shelf, entry.seq, entry.body_hash)
    if entry.shelf == host and entry.place == entry.seq:
        return OWN, name, row
    return HOSTED, place(host, entry.place) + name, row


def peer_row(peer: KnownPeer) -> Row:
    return (peer.public_key, *peer.address, peer.incarnation, peer.name, peer.last_seen)


def restored(stored: Stored) -> Restored:
    """What a start needs, out of all tables. DamageError when a body is missing, besides what `stored` raises."""
    bodies = {key: raw for key, (raw,) in stored(BODIES)}
    journal: list[JournalEntry] = [HeadSet(ShelfId(shelf), header, signature) for shelf, (header, signature) in stored(HEADS)]
    try:
        journal += [
            LiveSet(ShelfId(key[:SHELF]), _entry(key[SHELF:PLACE], key, mask), bodies[key]) for key, (mask,) in stored(OWN)
        ]
        journal += [
            LiveSet(ShelfId(key[:SHELF]), _entry(key[SHELF:PLACE], key[PLACE:], mask), bodies[key[PLACE:]])
            for key, (mask,) in stored(HOSTED)
        ]
        journal += [_loose(key, header, signature, bodies[body], mask) for key, (header, signature, body, mask) in stored(LOOSE)]
    except KeyError as missing:
        raise DamageError(f"body {missing.args[0].hex()} is missing") from None
    except Malformed as error:
        raise DamageError(f"a loose delta cannot be read: {error}") from error
    meta = {name: value for name, (value,) in stored(META)}
    peers = [
        KnownPeer(ReplicaId(replica), public_key, (host, port), incarnation, name, last_seen)
        for replica, (public_key, host, port, incarnation, name, last_seen) in stored(PEERS)
    ]
    return Restored(journal, peers, [raw for raw, _ in stored(STATEMENTS)], meta.pop(INCARNATION, 0), meta)


def _entry(place_bytes: bytes, body: bytes, mask: bytes) -> Entry:
    return Entry(_number(place_bytes), ShelfId(body[:SHELF]), _number(body[SHELF:PLACE]), body[PLACE:], _number(mask))


def _loose(key: bytes, header: bytes, signature: bytes, body: bytes, mask: bytes | None) -> LooseSet:
    shelf = ShelfId(key[:SHELF])
    delta = delta_from_parts_untrusted(replica_of(shelf), header, signature, body)
    return LooseSet(shelf, _number(key[SHELF:]), delta, None if mask is None else _number(mask))


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")
