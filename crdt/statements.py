"""Statements: "these are the live ops of S(m) above n" (DESIGN section 1, rule 7). Made of a base, checked against the
author's digest, jumped to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from crdt.base import Base, Entry, Held, Listing, Place, digest_of
from crdt.body import Body
from crdt.delta import Head
from crdt.ids import OPS_PER_DELTA_MAX, ShelfId
from crdt.ops import TAKEOVER, Key
from crdt.shelves import Shelves
from crdt.state import Fault, State
from crdt.takeover import former_of

_MASK_LIMIT = 1 << OPS_PER_DELTA_MAX


def listing(state: State, shelf: ShelfId, floor: int) -> Listing | None:
    base = state.bases.get(shelf)
    if base is None or base.head is None or base.floor <= floor or not is_sound(state, base):
        return None
    since = 0 if "FULL" in state.rules and floor < base.gc_floor else floor
    held = base.above(since)
    return Listing(shelf, since, base.head, tuple([one.entry for one in held]), tuple([one.body for one in held]))


def is_sound(state: State, base: Base) -> bool:
    """Whether our base is what its author signed. In-order receipt does not look; nothing is served before somebody did."""
    assert base.head is not None
    if "VERIFY" not in state.rules or base.digest() == base.head.header.shelf_digest:
        return True
    if state.unsound.get(base.shelf) != base.floor:
        state.unsound[base.shelf] = base.floor
        state.faults.append(Fault(base.shelf, "digest", f"S({base.floor}) is not what its author signed", (base.head,)))
    return False


def is_list_untrusted(shelf: ShelfId, seq: int, since: int, entries: Sequence[Entry]) -> bool:
    """Whether entries could be those of a base at all: ascending, within (since, seq], own bodies at their own place."""
    for entry in entries:
        if not since < entry.place <= seq or not 0 < entry.mask < _MASK_LIMIT or entry.seq < 1:
            return False
        if entry.shelf == shelf and entry.seq != entry.place:
            return False
    return all(former[:3] < entry[:3] for former, entry in pairwise(entries))


def matches(head: Head, entries: Sequence[Entry]) -> bool:
    header = head.header
    return is_list_untrusted(header.shelf, header.seq, 0, entries) and digest_of(entries) == header.shelf_digest


def find_body(state: State, shelf: ShelfId, seq: int, body_hash: bytes | None) -> Body | None:
    base = state.bases.get(shelf)
    held = base.own.get(seq) if base else None
    if held is None:
        held = state.hosted_bodies.get((shelf, seq))
    if held and body_hash in (None, held.body.hash):
        return held.body
    loose = state.loose.get(shelf, {}).get(seq)
    return loose.delta.content if loose and body_hash in (None, loose.delta.content.hash) else None


class Jump:
    """A base as a statement would make it, beside the base as it is."""

    def __init__(self, state: Shelves, base: Base) -> None:
        self.state = state
        self.base = base
        self.added: dict[Place, tuple[Body, int]] = {}
        """Ops that are not live here yet."""
        self.cleared: dict[Held, int] = {}
        """Ops that are, and will not be."""

    def clear(self, held: Held, mask: int) -> None:
        if mask:
            self.cleared[held] = self.cleared.get(held, 0) | mask

    def plan(self, entries: Sequence[Entry], bodies: Sequence[Body]) -> bool:
        """False when two live ops share a key, which no honest author's shelf has."""
        named: set[tuple[Key, ShelfId]] = set()
        slot_of, host = self.state.index.slot, self.base.shelf
        is_new = not (self.base.own or self.base.hosted)
        for entry, body in zip(entries, bodies, strict=True):
            held = self.base.get(entry.place, entry.shelf, entry.seq)
            if held and held.body.hash != body.hash:
                self.clear(held, held.mask)
                held = None
            have = held.mask if held else 0
            if entry.mask & ~have:
                self.added[entry[:3]] = (body, entry.mask & ~have)
            if is_new and body.plain and entry.mask == body.every:  # as most are that a newcomer takes
                before = len(named)
                named.update([((op[1], op[2]), op[5]) for op in body.ops])
                if len(named) < before + len(body.ops):
                    return False
                continue
            for index, op in enumerate(body.ops):
                if not entry.mask >> index & 1:
                    continue
                name = (op.key, op.origin)
                if name in named:
                    return False
                named.add(name)
                slot = slot_of(op.key, host, op.origin)
                if slot and (slot[0] is not held or slot[1] != index):
                    self.clear(slot[0], 1 << slot[1])
        return True

    def clear_unlisted(self, entries: Sequence[Entry]) -> None:
        """A full list: what it does not name is let go."""
        listed = {entry[:3]: entry.mask for entry in entries}
        for held in self.base.everything():
            self.clear(held, held.mask & ~listed.get(held.name, 0))

    def clear_absent(self, gc_floor: int) -> None:
        """A suffix: what its head's gc_floor passes leaves."""
        if "FLOORGC" not in self.state.rules:
            return
        for held, index in self.base.absent:
            if held.place > gc_floor:
                return
            self.clear(held, held.mask & 1 << index)

    def digest(self) -> bytes:
        changes: list[tuple[Entry | None, Entry | None]] = []
        for held, mask in self.cleared.items():
            added = self.added.get(held.name)
            after = held.mask & ~mask | (added[1] if added and added[0].hash == held.body.hash else 0)
            changes.append((held.entry, held.entry._replace(mask=after) if after else None))
        for name, (body, mask) in self.added.items():
            existing = self.base.get(*name)
            if existing in self.cleared and existing is not None and existing.body.hash == body.hash:
                continue
            entry = Entry(*name, body.hash, mask)
            if existing and existing.body.hash == body.hash:
                changes.append((existing.entry, entry._replace(mask=existing.mask | mask)))
            else:
                changes.append((None, entry))
        return self.base.digest_with(changes)

    def takes_over(self) -> bool:
        """Whether it says that another shelf which is here is part of it now."""
        return any(
            op.kind == TAKEOVER and mask >> index & 1 and former_of(op) in self.state.bases
            for body, mask in self.added.values()
            for index, op in enumerate(body.ops)
        )

    def commit(self, head: Head, *, same_chain: bool) -> None:
        state, base = self.state, self.base
        state.bases[base.shelf] = base
        cleared = {held: mask & held.mask for held, mask in self.cleared.items()}
        for held, mask in cleared.items():
            for index in _bits(mask):
                state.remove(held, index)
        for name, (body, mask) in sorted(self.added.items()):
            known = base.get(*name)
            void = known.void if known else state.judge(body)
            state.report_void(body, void & mask)
            if known is None and body.plain and name[1] == base.shelf and mask == body.every:
                state.take_whole(base, Held(base.shelf, name[0], body, mask, void))
                continue
            held = known or Held(base.shelf, name[0], body, 0, void)
            state.hold(base, held)
            for index in _bits(mask):
                state.put(held, index)
                state.changes[body.ops[index].key] = None
        base.order()
        base.advance(head, same_chain=same_chain)


def _bits(mask: int) -> list[int]:
    return [index for index in range(mask.bit_length()) if mask >> index & 1]


def plan_jump(state: Shelves, head: Head, since: int, entries: Sequence[Entry], bodies: Iterable[Body]) -> Jump | None:
    """What would change; None when a body is missing or the result is not what the author signed."""
    header = head.header
    base = state.bases.get(header.shelf) or Base(header.shelf)
    if since > base.floor or not is_list_untrusted(header.shelf, header.seq, since, entries):
        return None
    if header.seq < base.floor or (header.seq == base.floor and is_sound(state, base)):
        return None
    given = {(body.shelf, body.seq, body.hash): body for body in bodies}
    needed = []
    for entry in entries:
        body = given.get((entry.shelf, entry.seq, entry.body_hash)) or find_body(state, entry.shelf, entry.seq, entry.body_hash)
        if body is None or entry.mask >> len(body.ops):
            return None
        needed.append(body)
    change = Jump(state, base)
    if not change.plan(entries, needed):
        return None
    if since:
        change.clear_absent(header.gc_floor)
    else:
        change.clear_unlisted(entries)
    if "VERIFY" in state.rules and change.digest() != header.shelf_digest:
        return None
    return change
