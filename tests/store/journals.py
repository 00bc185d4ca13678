"""Journals for tests: synthetic ones in any number, and the tables as a plain dictionary to compare a store with."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache

from crdt.base import Entry
from crdt.delta import Delta, Head, Header
from crdt.ids import ReplicaId, ShelfId
from crdt.journal import HeadSet, JournalEntry, LiveSet, LooseSet, ShelfGone
from crdt.ops import NO_RIGHTS, VALUE, Op
from crdt.packer import BodyWriter
from mesh.store.rows import Batch, KnownPeer, Restored

SHELVES = [ShelfId(bytes([number]) * 11 + b"\xff") for number in (0, 1, 254, 255)]


@cache
def delta(shelf: ShelfId, seq: int, branch: int = 0) -> Delta:
    """`branch`: a fork has two deltas of one (shelf, seq)."""
    writer = BodyWriter(shelf, seq, NO_RIGHTS, 1_700_000_000_000_000)
    assert writer.add(Op(VALUE, 1, ("a", "b"), branch, (), shelf, writer.next_dot(), writer.time, NO_RIGHTS), 1_000)
    body = writer.finish()
    header = Header(shelf, seq, bytes(16) if seq == 1 else b"p" * 16, b"d" * 16, 0, body.hash)
    return Delta(Head(header, header.encoded(), b"s" * 64), body)


def plain(it: Restored) -> tuple[object, ...]:
    """To compare: everything in full, the journal in any order."""
    journal = []
    for entry in it.journal:
        match entry:
            case LooseSet(shelf, seq, held, mask) if held is not None:
                journal.append(repr((shelf, seq, held.header_bytes, held.signature, held.body, mask)))
            case _:
                journal.append(repr(entry))
    return sorted(journal), it.peers, it.statements, it.incarnation, it.meta


class Tables:
    """What the disk should hold: every entry applied one by one, nothing clever."""

    def __init__(self) -> None:
        self.heads: dict[ShelfId, JournalEntry] = {}
        self.lives: dict[tuple[ShelfId, int, ShelfId, int, bytes], LiveSet] = {}
        self.loose: dict[tuple[ShelfId, int], LooseSet] = {}
        self.peers: dict[ReplicaId, KnownPeer] = {}
        self.statements: dict[bytes, None] = {}
        self.incarnation = 0
        self.meta: dict[str, bytes] = {}
        self.bodies: dict[tuple[ShelfId, int, bytes], bytes] = {}

    def apply(self, batch: Batch) -> None:
        for entry in batch.journal:
            match entry:
                case HeadSet(shelf):
                    self.heads[shelf] = entry
                case LiveSet(host, live, raw):
                    if raw is not None:
                        self.bodies[live[1:4]] = raw
                    self.lives.pop((host, *live[:4]), None)
                    if live.mask:
                        self.lives[host, *live[:4]] = LiveSet(host, live, self.bodies[live[1:4]])
                case LooseSet(shelf, seq, None):
                    self.loose.pop((shelf, seq), None)
                case LooseSet(shelf, seq, held):
                    assert held is not None
                    self.bodies[shelf, seq, held.header.body_hash] = held.body
                    self.loose[shelf, seq] = entry
                case ShelfGone(shelf):
                    self.heads.pop(shelf, None)
                    self.lives = {key: live for key, live in self.lives.items() if key[0] != shelf}
                    self.loose = {key: loose for key, loose in self.loose.items() if key[0] != shelf}
        for replica in batch.forgotten:
            self.peers.pop(replica, None)
        self.peers |= {peer.replica: peer for peer in batch.peers}
        self.statements |= dict.fromkeys(batch.statements)
        self.incarnation = self.incarnation if batch.incarnation is None else batch.incarnation
        self.meta = {name: value for name, value in {**self.meta, **batch.meta}.items() if value}

    def bodies_in_use(self) -> int:
        loose = {(key[0], key[1], row.delta.header.body_hash) for key, row in self.loose.items() if row.delta is not None}
        return len({key[2:] for key in self.lives} | loose)

    def restored(self) -> Restored:
        journal = [*self.heads.values(), *self.lives.values(), *self.loose.values()]
        peers = [peer for _, peer in sorted(self.peers.items())]
        return Restored(journal, peers, list(self.statements), self.incarnation, dict(self.meta))


class Author:
    """Makes batches such as a core could make: the bytes of a body come with each new row that refers to it, and only then."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tables = Tables()

    def batches(self, count: int) -> Iterable[Batch]:
        for _ in range(count):
            yield self.batch()

    def batch(self) -> Batch:
        rng = self.rng
        journal: list[JournalEntry] = []
        for _ in range(rng.randint(0, 6)):
            entry = self._entry()
            journal.append(entry)
            self.tables.apply(Batch((entry,)))
        rest = Batch(
            peers=tuple(self._peer() for _ in range(rng.choice((0, 0, 1)))),
            forgotten=tuple(ReplicaId(bytes([rng.randrange(4)]) * 8) for _ in range(rng.choice((0, 0, 0, 1)))),
            statements=tuple(b"statement %d" % rng.randrange(30) for _ in range(rng.choice((0, 0, 1)))),
            incarnation=rng.choice((None, None, rng.randrange(2**32))),
            meta={rng.choice("abc"): rng.choice((b"", b"value", b"other"))} if rng.random() < 0.2 else {},
        )
        self.tables.apply(rest)
        return Batch(tuple(journal), rest.peers, rest.forgotten, rest.statements, rest.incarnation, rest.meta)

    def _peer(self) -> KnownPeer:
        number = self.rng.randrange(4)
        address = (f"192.0.2.{number}", self.rng.randrange(65_536))
        return KnownPeer(
            ReplicaId(bytes([number]) * 8), b"key", address, self.rng.randrange(9), "r\u00f6bot", self.rng.randrange(2**50)
        )

    def _entry(self) -> JournalEntry:
        rng, tables = self.rng, self.tables
        kind, shelf, seq = rng.random(), rng.choice(SHELVES), rng.choice((1, 2, 3, 255, 256, 2**48 - 1))
        if kind < 0.15:
            head = delta(shelf, seq).head
            return HeadSet(shelf, head.header_bytes, head.signature)
        if kind < 0.25:
            return ShelfGone(shelf)
        if kind < 0.35 and tables.loose:
            return LooseSet(*rng.choice(sorted(tables.loose)), None, None)
        if kind < 0.45:
            mask = rng.choice((None, 1, rng.getrandbits(255) | 1))
            return LooseSet(shelf, seq, delta(shelf, seq, rng.randrange(2)), mask)
        if kind < 0.65 and tables.lives:
            former = tables.lives[rng.choice(sorted(tables.lives))]
            return LiveSet(former.shelf, former.entry._replace(mask=0), None)
        body = delta(shelf, seq, rng.randrange(2)).content
        host = rng.choice(SHELVES) if rng.random() < 0.3 else shelf
        place = seq if host == shelf else rng.choice((7, 8))
        entry = Entry(place, shelf, seq, body.hash, rng.choice((1, 1 << 254, rng.getrandbits(255) | 1)))
        return LiveSet(host, entry, None if (host, *entry[:4]) in tables.lives else body.raw)
