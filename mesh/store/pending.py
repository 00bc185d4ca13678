"""What waits for the disk: of each row the newest state, whatever number of batches touched it. Pure.

Batches collapse as they come. So a register that is set a thousand times within a commit is written once; and while a disk is
full, what waits is bounded by the state itself and by what the disk holds of it, however long that lasts. Writing all of it
in one transaction leaves the disk as if each batch had been applied in its order.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final, TypeAlias, assert_never

from crdt.ids import SHELF_ID_BYTES, ShelfId
from crdt.journal import HeadSet, JournalEntry, LiveSet, LooseSet, ShelfGone
from mesh.store.layout import INCARNATION, live_row, mask_bytes, peer_row, place, ref
from mesh.store.rows import Batch
from mesh.store.schema import BODIES, HEADS, HOSTED, LOOSE, META, OWN, PEERS, PLACE_BYTES, STATEMENTS, TABLES, Key, Row, Table

Rows: TypeAlias = dict[Key, Row | None]
"""By key; None: the row goes."""

_REFERRING: Final = (OWN, HOSTED, LOOSE)
_OF_SHELVES: Final = (HEADS, *_REFERRING)

ROW_BYTES: Final = 230
"""What a waiting row takes beside the bytes in it: key, tuple, dictionary slot (measured with tracemalloc)."""
GONE_BYTES: Final = 100
"""What it takes to remember that a row goes (measured likewise)."""


class Pending:
    """Shelves whose every stored row goes first, then rows by table."""

    __slots__ = ("_fresh", "_loose_stored", "_references", "bytes", "gone", "rows")

    def __init__(self, loose_stored: AbstractSet[bytes]) -> None:
        """`loose_stored`: keys of the loose deltas that may be on the disk, or on their way there, whenever it is looked at."""
        self.gone: dict[ShelfId, None] = {}
        self.rows: dict[Table, Rows] = {table: {} for table in TABLES}
        self.bytes = 0
        """Estimate of the memory that waits here."""
        self._references: dict[bytes, int] = {}
        """By body, how many waiting rows refer to it."""
        self._fresh: dict[Table, set[Key]] = {table: set() for table in _OF_SHELVES}
        """Keys of waiting rows that the disk does not have: if they go, there is nothing to remember of them."""
        self._loose_stored = loose_stored

    def __bool__(self) -> bool:
        return bool(self.gone) or any(self.rows.values())

    @property
    def unwritten_loose(self) -> AbstractSet[bytes]:
        """Keys of waiting loose deltas of which the disk certainly has nothing."""
        return self._fresh[LOOSE]

    def add(self, batch: Batch) -> None:
        """As if this batch were applied after all that is here."""
        for entry in batch.journal:
            self._add_entry(entry)
        for replica in batch.forgotten:
            self._put(PEERS, replica, None)
        for peer in batch.peers:
            self._put(PEERS, peer.replica, peer_row(peer))
        for raw in batch.statements:
            self._put(STATEMENTS, raw, ())
        if batch.incarnation is not None:
            self._put(META, INCARNATION, (batch.incarnation,))
        for name, value in batch.meta.items():
            self._put(META, name, (value,) if value else None)

    def absorb(self, newer: Pending) -> None:
        """As if everything that waits in `newer` had been added here."""
        for shelf in newer.gone:
            self._drop_shelf(shelf)
        for table, rows in newer.rows.items():
            for key, row in rows.items():
                self._put(table, key, row, fresh=key in newer._fresh.get(table, ()))

    def _add_entry(self, entry: JournalEntry) -> None:
        match entry:
            case LiveSet(host, live, raw):
                table, key, row = live_row(host, live)
                self._put(table, key, row, fresh=raw is not None)
                if raw is not None and row is not None:
                    self._put(BODIES, ref(live.shelf, live.seq, live.body_hash), (raw,))
            case HeadSet(shelf, header_bytes, signature):
                self._put(HEADS, shelf, (header_bytes, signature))
            case LooseSet(shelf, seq, delta, mask):
                key = place(shelf, seq)
                if delta is None:
                    self._put(LOOSE, key, None)
                else:
                    body = ref(shelf, seq, delta.header.body_hash)
                    loose = (delta.header_bytes, delta.signature, body, None if mask is None else mask_bytes(mask))
                    self._put(LOOSE, key, loose, fresh=key not in self._loose_stored)
                    self._put(BODIES, body, (delta.body,))
            case ShelfGone(shelf):
                self._drop_shelf(shelf)
            case _:
                assert_never(entry)

    def _drop_shelf(self, shelf: ShelfId) -> None:
        """What waits of this shelf is of no use; what the disk has of it goes."""
        self.gone[shelf] = None
        for table, unwritten in self._fresh.items():
            for key in [key for key in self.rows[table] if key[:SHELF_ID_BYTES] == shelf]:
                unwritten.discard(key)
                self._forget(table, key, self.rows[table].pop(key))

    def _put(self, table: Table, key: Key, row: Row | None, *, fresh: bool = False) -> None:
        """`fresh`: before this, the disk, once it has all that waits, has no such row."""
        rows, unwritten = self.rows[table], self._fresh.get(table)
        if row is not None and table in _REFERRING:
            body = _body(table, key, row)
            self._references[body] = self._references.get(body, 0) + 1
        if key in rows:
            self._forget(table, key, rows[key])
        elif unwritten is not None and (fresh or key[:SHELF_ID_BYTES] in self.gone):
            unwritten.add(key)
        if row is None and unwritten is not None and key in unwritten:
            unwritten.discard(key)
            rows.pop(key, None)
        else:
            rows[key] = row
            self.bytes += _cost(row)

    def _forget(self, table: Table, key: Key, row: Row | None) -> None:
        """A row that waited does not any more. With the last one that refers to a body, the body need not be written."""
        self.bytes -= _cost(row)
        if row is None or table not in _REFERRING:
            return
        body = _body(table, key, row)
        self._references[body] -= 1
        if not self._references[body]:
            del self._references[body]
            self.bytes -= _cost(self.rows[BODIES].pop(body)) if body in self.rows[BODIES] else 0


class Backlog:
    """All that is not known to be on the disk: what waits, and what is on its way.

    backlog.add(batch) ...; taken = backlog.take(); write it; then backlog.wrote(taken) or backlog.failed(taken)
    """

    def __init__(self, loose_stored: set[bytes]) -> None:
        """`loose_stored`: keys of the loose deltas that the disk holds now. Kept in step here."""
        self._loose_stored = loose_stored
        self._waiting = Pending(loose_stored)
        self._under_way_bytes = 0

    @property
    def bytes(self) -> int:
        return self._waiting.bytes + self._under_way_bytes

    def add(self, batch: Batch) -> None:
        self._waiting.add(batch)

    def take(self) -> Pending:
        """All that waits. Batches that are added from now on are another transaction."""
        taken, self._waiting = self._waiting, Pending(self._loose_stored)
        self._under_way_bytes = taken.bytes
        self._loose_stored.update(key for key, row in taken.rows[LOOSE].items() if row is not None)
        return taken

    def wrote(self, taken: Pending) -> None:
        rows = taken.rows[LOOSE]
        self._loose_stored.difference_update([key for key, row in rows.items() if row is None])
        if taken.gone:
            self._loose_stored.difference_update(
                [key for key in self._loose_stored if key[:SHELF_ID_BYTES] in taken.gone and rows.get(key) is None]
            )
        self._under_way_bytes = 0

    def failed(self, taken: Pending) -> None:
        """None of it is on the disk: it waits again, under what came meanwhile."""
        self._loose_stored.difference_update(taken.unwritten_loose)
        taken.absorb(self._waiting)
        self._waiting = taken
        self._under_way_bytes = 0


def _body(table: Table, key: Key, row: Row) -> bytes:
    """The body that a row refers to."""
    body: bytes = row[2] if table is LOOSE else key[PLACE_BYTES:] if table is HOSTED else key
    return body


def _cost(row: Row | None) -> int:
    return GONE_BYTES if row is None else ROW_BYTES + sum(len(cell) for cell in row if isinstance(cell, bytes))
