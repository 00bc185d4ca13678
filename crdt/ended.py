"""Shelves that have ended, by a proof of forking or by a cut, and how they are closed (DESIGN section 1, "Ended shelves").

Nothing more is taken of an ended shelf, so replicas may hold different states of it for good: branches of a fork, or one chain
up to different deltas. Whoever may speak for it (a new shelf of the same replica, or the host that a cut names) collects them as
`Copy`s, issues again what survives, and says last, in one takeover, that it speaks for the whole shelf. From then on everybody
lets it go.

    per key the newest dot of all copies, with the covers of all of them
    but a write that another copy has seen replaced, by somebody else, is not the newest
    but a cell that two copies have both known lives only if both still hold it: one of them took it off for a reason

The rules, and what each is for: tests/crdt/ended_model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from crdt.base import Base, Entry
from crdt.body import Body
from crdt.chores import Name
from crdt.delta import Delta, Head
from crdt.errors import ValueTooLarge
from crdt.ids import ShelfId, dot_seq
from crdt.index import key_order
from crdt.limits import COVERS_MAX
from crdt.ops import DROPPED, KIND_MASK, LARGE, TAKEOVER, Cover, Op
from crdt.state import State, check_of
from crdt.takeover import NOTHING, Record, former_of, record_of
from crdt.writer import Writer

Judge: TypeAlias = Callable[[Body], int]
"""Mask of the ops of a body that do not count."""
SHORT_HASH_BYTES: Final = 4
"""Of header hashes: enough to find where two chains part."""


class Copy(NamedTuple):
    """What somebody holds of an ended shelf: a base, or one loose delta."""

    head: Head
    cells: Mapping[Name, Op]
    """Live ops that count, by key and origin. Dropped ones and takeovers are not among them."""
    records: Mapping[ShelfId, Record]
    """What it says of shelves that it had taken over itself."""
    hashes: Mapping[int, bytes]
    """The first bytes of header hashes of this chain, by seq, as far as they are remembered."""
    is_base: bool
    """What it had known and does not hold is dead. A loose delta says nothing of what came before it."""
    takeovers: tuple[Op, ...] = ()

    @property
    def shelf(self) -> ShelfId:
        return self.head.header.shelf

    def knew(self, op: Op, common: int) -> bool:
        """Whether this chain had that write. `common`: up to where it is the chain that the write comes from."""
        if op.origin == self.shelf:
            return dot_seq(op.dot) <= common
        record = self.records.get(op.origin)
        return record is not None and record.speaks(dot_seq(op.dot))


def copy_of_base(base: Base, hashes: Mapping[int, bytes]) -> Copy | None:
    """Of our own base; None when there is none yet."""
    if base.head is None:
        return None
    live = [(op, held.void >> index & 1) for held in base.everything() for index, op in held.live()]
    return _copy(base.head, live, hashes, is_base=True)


def copy_of_listing(
    head: Head, entries: Sequence[Entry], bodies: Mapping[tuple[ShelfId, int], Body], hashes: Mapping[int, bytes], judge: Judge
) -> Copy | None:
    """Of a full list that its digest vouches for, and its bodies; None when one is missing."""
    live: list[tuple[Op, int]] = []
    for entry in entries:
        body = bodies.get((entry.shelf, entry.seq))
        if body is None or body.hash != entry.body_hash or entry.mask >> len(body.ops):
            return None
        void = judge(body)
        live += [(op, void >> index & 1) for index, op in enumerate(body.ops) if entry.mask >> index & 1]
    return _copy(head, live, hashes, is_base=True)


def copy_of_delta(delta: Delta, mask: int | None, judge: Judge) -> Copy:
    """Of a delta above the floor of whoever holds it."""
    void = judge(delta.content)
    live = [(op, void >> at & 1) for at, op in enumerate(delta.ops) if mask is None or mask >> at & 1]
    header = delta.header
    hashes = {header.seq: delta.header_hash[:SHORT_HASH_BYTES], header.seq - 1: header.prev_hash[:SHORT_HASH_BYTES]}
    return _copy(delta.head, [pair for pair in live if pair[0].kind != TAKEOVER], hashes, is_base=False)


def _copy(head: Head, live: Iterable[tuple[Op, int]], hashes: Mapping[int, bytes], *, is_base: bool) -> Copy:
    cells: dict[Name, Op] = {}
    records: dict[ShelfId, Record] = {}
    takeovers: list[Op] = []
    for op, void in live:
        if void or op.kind & KIND_MASK == DROPPED:
            continue
        if op.kind == TAKEOVER:
            former = former_of(op)
            records[former] = records.get(former, NOTHING).join(record_of(op.payload))
            takeovers.append(op)
        else:
            cells[op.key, op.origin] = op
    known = {**hashes, head.header.seq: head.hash[:SHORT_HASH_BYTES]}
    return Copy(head, cells, records, known, is_base, tuple(takeovers))


def remembered(base: Base) -> dict[int, bytes]:
    """Of our own base: `Copy.hashes`."""
    return {seq: found[:SHORT_HASH_BYTES] for seq, found in base.recent_hashes()}


def common_seq(one: Copy, other: Copy) -> int:
    """A seq up to which both are surely one chain; 0 when nothing tells. Too low a number only lets a cell live that might have
    been dead."""
    known = {seq for seq, found in one.hashes.items() if other.hashes.get(seq) == found}
    # One body at one place is one write of one process, before the branches parted.
    mine = {(op.origin, op.dot): op for op in one.cells.values() if op.origin == one.shelf}
    known.update(dot_seq(op.dot) for op in other.cells.values() if mine.get((op.origin, op.dot)) == op)
    return max(known, default=0)


def newest_of_each_branch(copies: Sequence[Copy]) -> list[Copy]:
    """Bases without those that are earlier states of another one, and loose deltas without those that are part of a base."""
    found: list[Copy] = []
    for copy in sorted(_with_all_hashes(copies), key=lambda each: (not each.is_base, -each.head.header.seq, each.head.hash)):
        seq, short = copy.head.header.seq, copy.head.hash[:SHORT_HASH_BYTES]
        if not any(other.hashes.get(seq) == short and (other.is_base or other.head.hash == copy.head.hash) for other in found):
            found.append(copy)
    return found


def _with_all_hashes(copies: Sequence[Copy]) -> list[Copy]:
    """What is remembered of one chain by any of those who hold its head."""
    known: dict[bytes, dict[int, bytes]] = {}
    for copy in copies:
        known.setdefault(copy.head.hash, {}).update(copy.hashes)
    return [copy._replace(hashes=known[copy.head.hash]) for copy in copies]


def merge(copies: Sequence[Copy], rules: frozenset[str], state: State) -> list[Op]:
    """What survives, sorted: per key and origin the newest dot, with the covers of all copies; then the takeovers."""
    copies = newest_of_each_branch(copies)
    commons = {(one, other): common_seq(copies[one], copies[other]) for one in range(len(copies)) for other in range(len(copies))}
    alive: dict[Name, list[Op]] = {}
    for at, copy in enumerate(copies):
        for name, op in copy.cells.items():
            others = [(each, commons[at, number]) for number, each in enumerate(copies) if each.is_base and number != at]
            dead = any(each.knew(op, common) and not _holds(each, name, op, state) for each, common in others)
            if not (dead and "BOTH" in rules):
                alive.setdefault(name, []).append(op)
    survivors = [
        _newest(ops, rules, state) for _, ops in sorted(alive.items(), key=lambda item: (key_order(item[0][0]), item[0][1]))
    ]
    return survivors + _takeovers(copies)


def _holds(copy: Copy, name: Name, op: Op, state: State) -> bool:
    mine = copy.cells.get(name)
    return mine is not None and mine.dot == op.dot and check_of(mine, state.encode) == check_of(op, state.encode)


def _newest(ops: list[Op], rules: frozenset[str], state: State) -> Op:
    """Branches use one dot twice: then the content decides."""
    if len(ops) == 1:
        return ops[0]
    newest = max(ops, key=lambda op: (not _is_older(op, ops, rules, state), op.dot, check_of(op, state.encode)))
    if "UNION" not in rules or newest.kind & LARGE:
        return newest  # covers of a large op are in its chunks, which are named by their content
    covers: set[Cover] = {cover for op in ops for cover in state.covers_of(op) if cover.origin != newest.origin}
    own = [cover for cover in newest.covers if cover in covers]
    return newest._replace(covers=tuple(sorted([*own, *sorted(covers.difference(own))][:COVERS_MAX])))


def _is_older(op: Op, others: list[Op], rules: frozenset[str], state: State) -> bool:
    """Whether another branch has seen somebody replace this write: one of `others` covers a write that covers it."""
    if "ORDER" not in rules:
        return False
    over = [cell for cell in state.cells(op.key) if state.is_covered(op, [cell])]
    return any(state.is_covered(cell, [other]) for cell in over for other in others)


def _takeovers(copies: Sequence[Copy]) -> list[Op]:
    """One op per former shelf of the ended one, that says what all copies say together."""
    newest: dict[ShelfId, Op] = {}
    records: dict[ShelfId, Record] = {}
    for copy in copies:
        for op in copy.takeovers:
            former = former_of(op)
            records[former] = records.get(former, NOTHING).join(record_of(op.payload))
            if former not in newest or op.dot > newest[former].dot:
                newest[former] = op
    return [newest[former]._replace(payload=records[former].payload()) for former in sorted(newest)]


def close(writer: Writer, shelf: ShelfId, copies: Sequence[Copy]) -> int:
    """Issue again on our shelf what survives of `shelf`, and speak for all of it. The takeover comes last: before it, nothing
    counts.

    Seals at once. Returns how many ops were too large for a delta of ours, and are lost.
    """
    unfit = 0
    writer.seal_pages()
    for op in merge(copies, writer.rules, writer):
        if _is_known(writer, op):
            continue
        try:
            writer.draft_again(op)
        except ValueTooLarge:
            unfit += 1
    writer.seal_pages()
    old = writer.records.of(shelf, writer.shelf) or NOTHING
    highest = max((copy.head.header.seq for copy in copies if copy.is_base), default=0)
    whole = Record(finished=True, whole=True) if "WHOLE" in writer.rules else Record(highest, finished=True)
    writer.draft_takeover(shelf, old.join(whole))
    writer.seal_pages()
    return unfit


def _is_known(writer: Writer, op: Op) -> bool:
    """Our shelf has spoken for this write before: then what became of it here counts."""
    if op.kind == TAKEOVER:
        slot = writer.index.slot(op.key, writer.shelf, op.origin)
        mine = slot[0].body.ops[slot[1]] if slot else None
        return mine is not None and record_of(mine.payload).join(record_of(op.payload)) == record_of(mine.payload)
    record = writer.records.of(op.origin, writer.shelf)
    slot = writer.index.slot(op.key, writer.shelf, op.origin)
    return (record is not None and record.speaks(dot_seq(op.dot))) or (
        slot is not None and slot[0].body.ops[slot[1]].dot >= op.dot
    )


def stays_covered(writer: Writer, op: Op, cells: Sequence[Op]) -> bool:
    """Whether an op of an ended shelf that is covered may leave ours: who had covered one copy of it did not know what the others
    cover, so all of that must be covered by those who cover it, or be gone."""
    if "KEEP" not in writer.rules or not op.covers:
        return True
    over = [cell for cell in cells if writer.is_covered(op, [cell])]
    heirs = {cover for cell in over for cover in writer.covers_of(cell)}
    own = {cell.origin for cell in over}
    return all(cover in heirs or cover.origin in own or writer.gone(op.key, cover) for cover in op.covers)
