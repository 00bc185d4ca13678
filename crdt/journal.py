"""What a store has to keep of a replica, and how a replica comes back from it.

An entry replaces what was stored under its key before. Applied in order, a batch as a whole, the rows that remain are the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from crdt.base import Base, Entry, Held, Place
from crdt.body import Body, body_from_bytes_untrusted
from crdt.delta import Delta, Head, header_from_bytes_untrusted, seq_of_header
from crdt.digest import digest_16
from crdt.ids import ShelfId, replica_of
from crdt.shelves import Shelves
from crdt.state import Fault, Loose
from crdt.statements import is_list_untrusted


class HeadSet(NamedTuple):
    """The head of a base. Key: shelf."""

    shelf: ShelfId
    header_bytes: bytes
    signature: bytes

    @property
    def seq(self) -> int:
        """What the header says."""
        return seq_of_header(self.header_bytes)


class LiveSet(NamedTuple):
    """The live ops of one body on one shelf. Key: shelf, entry.place, entry.shelf, entry.seq. entry.mask 0: the row goes."""

    shelf: ShelfId
    """The host."""
    entry: Entry
    raw: bytes | None
    """The body, where the row is new; None: as stored before."""


class LooseSet(NamedTuple):
    """A delta above the floor. Key: shelf, seq. delta None: the row goes."""

    shelf: ShelfId
    seq: int
    delta: Delta | None
    mask: int | None


class ShelfGone(NamedTuple):
    """Every row of this shelf goes: head, live and loose."""

    shelf: ShelfId


JournalEntry: TypeAlias = HeadSet | LiveSet | LooseSet | ShelfGone


def take_journal(state: Shelves) -> list[JournalEntry]:
    """What changed since the last call."""
    unsaved = state.unsaved
    if not (unsaved.heads or unsaved.held or unsaved.loose or unsaved.gone):
        return []
    entries: list[JournalEntry] = [ShelfGone(shelf) for shelf in sorted(unsaved.gone)]
    unsaved.heads.update(shelf for shelf in unsaved.gone if shelf in state.bases)
    unsaved.loose.update((shelf, seq) for shelf in unsaved.gone for seq in state.loose_seqs(shelf))
    changed = {held for held in unsaved.held if held.mask != held.journaled}
    for held in sorted(changed, key=lambda held: (held.mask > 0, held.host, held.name)):
        if held.mask or held.host not in unsaved.gone:
            entries.append(LiveSet(held.host, held.entry, None if held.journaled else held.body.raw))
        held.journaled = held.mask
    for shelf in sorted(unsaved.heads):
        head = state.head(shelf)
        if head:
            entries.append(HeadSet(shelf, head.header_bytes, head.signature))
    for shelf, seq in sorted(unsaved.loose):
        loose = state.loose.get(shelf, {}).get(seq)
        entries.append(LooseSet(shelf, seq, loose.delta if loose else None, loose.mask if loose else None))
    unsaved.held.clear()
    for rows in (unsaved.heads, unsaved.loose, unsaved.gone):
        rows.clear()
    return entries


class _Rows:
    """The rows that remain of a sequence of entries."""

    def __init__(self, entries: Iterable[JournalEntry]) -> None:
        self.heads: dict[ShelfId, HeadSet] = {}
        self.live: dict[ShelfId, dict[Place, tuple[Entry, bytes | None]]] = {}
        self.loose: dict[tuple[ShelfId, int], Loose] = {}
        for entry in entries:
            match entry:
                case HeadSet():
                    self.heads[entry.shelf] = entry
                case LiveSet():
                    self._set_live(entry)
                case LooseSet(shelf, seq, None):
                    self.loose.pop((shelf, seq), None)
                case LooseSet(shelf, seq, delta, mask):
                    assert delta is not None
                    self.loose[shelf, seq] = Loose(delta, mask, 0)
                case ShelfGone(shelf):
                    self.heads.pop(shelf, None)
                    self.live.pop(shelf, None)
                    self.loose = {name: loose for name, loose in self.loose.items() if name[0] != shelf}

    def _set_live(self, change: LiveSet) -> None:
        rows = self.live.setdefault(change.shelf, {})
        place = change.entry[:3]
        if not change.entry.mask:
            rows.pop(place, None)
            return
        before = rows.get(place)
        rows[place] = (change.entry, change.raw if change.raw is not None or before is None else before[1])


def restore(state: Shelves, entries: Iterable[JournalEntry]) -> set[ShelfId]:
    """Take up what a store kept, before anything else happens here. Returns the shelves that came back.

    A shelf whose rows are not what its author signed is left out and reported in `faults`: peers have it.
    """
    rows = _Rows(entries)
    restored: set[ShelfId] = set()
    for shelf in sorted(rows.heads.keys() | rows.live.keys()):
        complaint = _restore_base(state, shelf, rows)
        if complaint:
            state.faults.append(Fault(shelf, "stored", complaint))
            state.unsaved.gone.add(shelf)
        else:
            restored.add(shelf)
    for held in state.unsaved.held:
        held.journaled = held.mask
    state.unsaved.held.clear()
    for (shelf, seq), loose in sorted(rows.loose.items()):
        if seq > state.floor(shelf):
            loose = loose._replace(void=state.judge(loose.delta.content))
            state.loose.setdefault(shelf, {})[seq] = loose
            state.lay(loose)
            restored.add(shelf)
    state.settle_takeovers()
    state.changes.clear()
    return restored


def _restore_base(state: Shelves, shelf: ShelfId, rows: _Rows) -> str:
    """What is wrong with the stored rows; "" when the base is here again."""
    head_row = rows.heads.get(shelf)
    if head_row is None:
        return "live ops without a head"
    held_rows = [row for _, row in sorted(rows.live.get(shelf, {}).items())]
    try:
        header = header_from_bytes_untrusted(replica_of(shelf), head_row.header_bytes)
        bodies = [_stored_body(state, entry, raw) for entry, raw in held_rows]
    except Exception as error:  # noqa: BLE001  # an injected decoder has errors of its own; the disk is not to be trusted more than the wire
        return f"a stored row cannot be read: {error}"
    entries = [entry for entry, _ in held_rows]
    if header.shelf != shelf or not is_list_untrusted(shelf, header.seq, 0, entries):
        return "rows that cannot be those of one shelf"
    base = state.bases[shelf] = Base(shelf)
    for entry, body in zip(entries, bodies, strict=True):
        if body.plain and entry.shelf == shelf and entry.mask + 1 == 1 << len(body.ops):  # as nearly all: in bulk
            state.take_whole(base, Held(shelf, entry.place, body, entry.mask, state.judge(body)))
            continue
        held = Held(shelf, entry.place, body, 0, state.judge(body))
        state.hold(base, held)
        for index in range(len(body.ops)):
            if entry.mask >> index & 1:
                state.put(held, index)
    base.advance(Head(header, head_row.header_bytes, head_row.signature))
    if base.digest() != header.shelf_digest:
        state.forget_base(shelf)
        return f"S({header.seq}) as stored is not what its author signed"
    return ""


def _stored_body(state: Shelves, entry: Entry, raw: bytes | None) -> Body:
    if raw is None:
        raise ValueError(f"the body {entry.seq} is missing")
    if digest_16(raw) != entry.body_hash:
        raise ValueError(f"the body {entry.seq} has another hash")
    body = body_from_bytes_untrusted(entry.shelf, entry.seq, raw, state.decode)
    if entry.mask >> len(body.ops):
        raise ValueError(f"the body {entry.seq} has fewer ops")
    return body
