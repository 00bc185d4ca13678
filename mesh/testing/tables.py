"""The disk image of a simulated agent: the rows that mesh.store keeps, in dictionaries.

Written apart from the store on purpose: what a restart finds is defined by the journal's entries alone, and two readings of that
definition find each other's mistakes (tests/sim/test_tables.py holds this one against the SQLite store).
"""

from __future__ import annotations

from collections.abc import Mapping

from crdt.base import Entry
from crdt.delta import header_from_bytes_untrusted
from crdt.ids import ReplicaId, ShelfId, replica_of
from crdt.replica import HeadSet, JournalEntry, LiveSet, LooseSet, ShelfGone
from mesh.overlay import Overlay
from mesh.store.rows import Batch, KnownPeer, Restored

Place = tuple[int, ShelfId, int, bytes]


class Tables:
    def __init__(
        self, peers: Mapping[ReplicaId, KnownPeer] | None = None, statements: Mapping[bytes, bool] | None = None
    ) -> None:
        """`peers`, `statements`: rows that many disks hold alike. They never change again."""
        self._heads: dict[ShelfId, HeadSet] = {}
        self._live: dict[ShelfId, dict[Place, tuple[Entry, bytes | None]]] = {}
        self._loose: dict[tuple[ShelfId, int], LooseSet] = {}
        self._peers = Overlay(peers)
        self._statements = Overlay(statements)
        self._incarnation = 0
        self._meta: dict[str, bytes] = {}

    def apply(self, batch: Batch) -> None:
        for entry in batch.journal:
            self._apply(entry)
        for replica in batch.forgotten:
            self._peers.pop(replica)
        for peer in batch.peers:
            self._peers[peer.replica] = peer
        for statement in batch.statements:
            if statement not in self._statements:
                self._statements[statement] = True
        if batch.incarnation is not None:
            self._incarnation = batch.incarnation
        for name, value in batch.meta.items():
            self._meta[name] = value
            if not value:
                del self._meta[name]

    def _apply(self, change: JournalEntry) -> None:
        if type(change) is HeadSet:  # these two are nearly all
            self._heads[change.shelf] = change
            return
        if type(change) is LiveSet:
            self._set_live(*change)
            return
        match change:
            case LooseSet(shelf, seq, None):
                self._loose.pop((shelf, seq), None)
            case LooseSet(shelf, seq):
                self._loose[shelf, seq] = change
            case ShelfGone(shelf):
                self._heads.pop(shelf, None)
                self._live.pop(shelf, None)
                for name in [name for name in self._loose if name[0] == shelf]:
                    del self._loose[name]

    def _set_live(self, host: ShelfId, entry: Entry, raw: bytes | None) -> None:
        rows = self._live.setdefault(host, {})
        place = (entry.place, entry.shelf, entry.seq, entry.body_hash)  # a fork has two bodies of one number
        if not entry.mask:
            rows.pop(place, None)
            return
        before = rows.get(place)
        rows[place] = (entry, raw if raw is not None or before is None else before[1])

    def copy(self) -> Tables:
        other = Tables()
        other._heads, other._loose, other._peers = dict(self._heads), dict(self._loose), self._peers.copy()
        other._live = {host: dict(rows) for host, rows in self._live.items()}
        other._statements, other._meta = self._statements.copy(), dict(self._meta)
        other._incarnation = self._incarnation
        return other

    def restored(self) -> Restored:
        journal: list[JournalEntry] = [self._heads[shelf] for shelf in sorted(self._heads)]
        for host in sorted(self._live):
            rows = self._live[host]
            journal += [LiveSet(host, *rows[place]) for place in sorted(rows)]
        journal += [self._loose[name] for name in sorted(self._loose)]
        peers = [peer for _, peer in sorted(self._peers.items())]
        return Restored(journal, peers, list(self._statements), self._incarnation, dict(self._meta))

    def floor(self, shelf: ShelfId) -> int:
        """Up to which delta this disk has a shelf; 0 when it does not."""
        head = self._heads.get(shelf)
        return 0 if head is None else header_from_bytes_untrusted(replica_of(shelf), head.header_bytes).seq
