"""Rules 4, 5, 6 and 8 for the own shelf: drop, retire, repack, take over. All are safe at any moment; waiting is politeness.

Ops go into the draft and travel with the next own delta. Nothing here looks at the whole state: `crdt.chores` says where to look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crdt.base import Base, Held
from crdt.chores import OP_COVER_BYTES, Name
from crdt.chunks import chunk_key
from crdt.ended import stays_covered
from crdt.ids import ShelfId, dot_seq, replica_of
from crdt.index import key_order
from crdt.limits import CORE_TYPE
from crdt.ops import DROPPED, KIND_MASK, REMOVED, TAKEOVER, VALUE, Op
from crdt.takeover import NOTHING, Record, runs_of
from crdt.writer import Writer

WASTE_MAX: Final = 0.06
"""Repack when dead, lonely and superfluous bytes are this much of the live ones. Guess."""
WASTE_LEFT: Final = 0.03
"""Repack until that little is left: half of the trigger, so that each round pays."""
WASTE_SHARE_MIN: Final = 0.1
"""Bodies with less waste than this share are left alone."""
REPACK_BYTES: Final = 8192
"""Issued again in one round, or a 32nd of what lives if that is more: with a round every 10 s about 1 kB/s, however the
writes come."""
REPACK_SHARE: Final = 1 / 32
WASTE_SLACK_BYTES: Final = 2048
"""So much more waste is left alone while it is young: what is written again and again leaves by itself, and costs nothing to wait
for (guess: 25 single-op deltas)."""
SETTLED_WASTE_MAX: Final = 0.04
SETTLED_WASTE_LEFT: Final = 0.02
SETTLED_SLACK_BYTES: Final = 256
"""The same for bodies that have stood for some time: they will go on standing. An op that is issued again takes 2 to 7 bytes
more (dot and time), a tenth of an op of 20 bytes, so a state that is to rest below 1.2 times a fresh one has little room for
waste."""
ENTRY_BYTES: Final = 48
"""What a body costs beside its bytes in lists and stores: place, name, hash, mask."""
BODY_OVERHEAD_BYTES: Final = 20
"""Rights, time and arrays of a body."""
SHARE_OF_FULL: Final = 1 + (ENTRY_BYTES + BODY_OVERHEAD_BYTES) / 900
"""What an op costs in a full body, by its own bytes."""


LOST_SHELVES_MAX: Final = 8
"""Former shelves that nobody holds and only covers name, declared finished at a time: each costs a record, and a liar may
invent them."""


# --- drop


def notice(writer: Writer, now: float) -> None:
    """Which cells of our shelf a cell of some base covers, or a newer write of their origin replaced, since the last look."""
    chores = writer.chores
    suspects, chores.suspects = chores.suspects, {}
    for name in suspects:
        key, origin = name
        if writer.is_drafted(key, origin):
            chores.suspects[name] = None  # to be seen when it is sealed
            continue
        slot = writer.index.slot(key, writer.shelf, origin)
        if slot is None or chores.noticed.get(name) == slot[0].body.ops[slot[1]].dot:
            continue  # where many write one key, each of their writes makes the same cells suspect again
        op = superfluous(writer, name)
        if op is not None:
            chores.noticed[name] = op.dot
            chores.patient.append((now, name, op.dot))


def drop(writer: Writer, now: float, patience: float) -> int:
    """Take off our shelf what a cell of some base covers or a newer write of its origin replaced, `patience` seconds after
    that was seen. A later write at the same place has its own patience.

    Returns the number of cells.
    """
    notice(writer, now)
    chores = writer.chores
    count = 0
    while chores.patient and chores.patient[0][0] <= now - patience:
        _, name, dot = chores.patient.popleft()
        if chores.noticed.get(name) != dot:
            continue  # a later write took its place meanwhile
        del chores.noticed[name]
        op = superfluous(writer, name)
        if op is not None and op.dot == dot:
            writer.draft_dropped(op)
            count += 1
        elif writer.is_drafted(*name):
            chores.suspects[name] = None
    return count + _drop_chunks(writer)


def superfluous(writer: Writer, name: Name) -> Op | None:
    """The op of our shelf at `name`, if it may go."""
    key, origin = name
    slot = writer.index.slot(key, writer.shelf, origin)
    if slot is None or key[0] == CORE_TYPE or writer.is_drafted(key, origin):
        return None
    op = slot[0].body.ops[slot[1]]
    if op.kind == DROPPED or (op.kind & KIND_MASK == REMOVED and not writer.covers_of(op)):
        return None  # it leaves with gc_floor
    ranked = writer.ranked(key, over=False)
    newest = ranked.get(origin)
    if newest and newest[0] > op.dot:
        return op
    cells = [cell for _, _, cell in ranked.values() if cell is not None]
    if not writer.is_covered(op, cells):
        return None
    if origin != writer.shelf and writer.records.is_closed(origin) and not stays_covered(writer, op, cells):
        writer.chores.suspects[name] = None  # to be looked at again: what it covers will be gone one day
        return None
    return op


def _drop_chunks(writer: Writer) -> int:
    """Chunks that no large op of our shelf needs any more. Those of a former shelf stay until it is finished: a stray may
    need them."""
    chores = writer.chores
    if not chores.orphans or writer.has_large_draft():
        return 0
    count = 0
    for origin, chunk in sorted(chores.orphans):
        record = writer.records.of(origin, writer.shelf)
        if record and not record.finished:
            continue
        del chores.orphans[origin, chunk]
        key = chunk_key(chunk)
        slot = writer.index.slot(key, writer.shelf, origin)
        if slot is None or (origin, chunk) in chores.references or writer.is_drafted(key, origin):
            continue
        op = slot[0].body.ops[slot[1]]
        if op.kind == VALUE:
            writer.draft_dropped(op)
            count += 1
    return count


# --- retire


def retire(writer: Writer, acknowledged: Callable[[int], bool]) -> int:
    """Raise gc_floor past absent cells that nobody needs and that `acknowledged` (of their place) allows; what is still
    needed below is issued again.

    Returns the number of cells that go.
    """
    base = writer.bases.get(writer.shelf)
    if base is None:
        return 0
    _check_covers(writer)
    chores = writer.chores
    raised = max(base.gc_floor, writer.drafted_gc_floor())
    if not any(name in chores.absent and chores.absent[name] > raised for name in chores.free):
        return 0
    places = sorted(
        ((place, name) for name, place in chores.absent.items() if place > raised),
        key=lambda item: (item[0], key_order(item[1][0]), item[1][1]),
    )
    gc_floor, freed = _best_floor(places, chores.free, acknowledged)
    if not freed:
        return 0
    for place, (key, origin) in places:
        if place <= gc_floor and (key, origin) not in chores.free and not writer.is_drafted(key, origin):
            slot = writer.index.slot(key, writer.shelf, origin)
            assert slot is not None, "chores follow the base"
            writer.draft_again(slot[0].body.ops[slot[1]])
    writer.raise_gc_floor(gc_floor)
    return freed


def _best_floor(places: list[tuple[int, Name]], free: set[Name], acknowledged: Callable[[int], bool]) -> tuple[int, int]:
    """(gc_floor, cells that it frees) where most is freed for what must be issued again; frees 0 when that is not worth it."""
    best, gain, freed, freed_best = 0, 0, 0, 0
    balance = 0
    for at, (place, name) in enumerate(places):
        is_free = name in free
        freed += is_free
        balance += 1 if is_free else -1
        last_of_place = at + 1 == len(places) or places[at + 1][0] != place
        if last_of_place and freed and balance >= gain:
            if not acknowledged(place):
                break
            best, gain, freed_best = place, balance, freed
    return best, freed_best


def _check_covers(writer: Writer) -> None:
    """Which cells of our shelf cover only what is gone."""
    chores = writer.chores
    for name in chores.to_check():
        key, origin = name
        slot = writer.index.slot(key, writer.shelf, origin)
        assert slot is not None, "chores follow the base"
        op = slot[0].body.ops[slot[1]]
        needed = None
        if "RETIRE" in writer.rules:
            needed = next((cover.origin for cover in writer.covers_of(op) if not writer.gone(key, cover)), None)
        if needed is None:
            chores.release(name)
        else:
            chores.wait(name, needed)


# --- repack


def repack(writer: Writer, settled: int) -> int:
    """Issue the live ops of sparse and of small bodies again, packed, when there is too much waste. What stands up to the place
    `settled` is looked at more sternly. Returns the number of ops.
    """
    base = writer.bases.get(writer.shelf)
    if base is None:
        return 0
    chores = writer.chores
    _check_covers(writer)
    for held in chores.worn:
        chores.wasted_bytes -= chores.waste.pop(held, 0)
        if held.mask:
            chores.waste[held] = _waste(writer, held)
            chores.wasted_bytes += chores.waste[held]
    chores.worn.clear()
    all_bytes = base.body_bytes + ENTRY_BYTES * (len(base.own) + len(base.hosted))
    live_bytes = all_bytes - chores.wasted_bytes
    budget = max(REPACK_BYTES, REPACK_SHARE * live_bytes)
    if chores.wasted_bytes > WASTE_SLACK_BYTES + WASTE_MAX * live_bytes:
        return reissue(writer, _worth_it(chores.waste, chores.wasted_bytes - WASTE_LEFT * live_bytes, budget))
    too_much = SETTLED_SLACK_BYTES + SETTLED_WASTE_MAX * live_bytes
    if chores.wasted_bytes <= too_much:
        return 0
    waste = {held: wasted for held, wasted in chores.waste.items() if held.place <= settled}
    wasted_bytes = sum(waste.values())
    if wasted_bytes <= too_much:
        return 0
    return reissue(writer, _worth_it(waste, wasted_bytes - SETTLED_WASTE_LEFT * live_bytes, budget))


def _waste(writer: Writer, held: Held) -> int:
    """Bytes of this body beyond what its live ops would take in a full one, without covers that are gone."""
    raw = len(held.body.raw)
    op_bytes = max(raw - BODY_OVERHEAD_BYTES, 0) * held.mask.bit_count() / len(held.body.ops)
    superfluous_bytes = 0
    for _, op in held.live():
        if op.covers and (op.key, op.origin) in writer.chores.free:
            superfluous_bytes += OP_COVER_BYTES * len(op.covers)
    return max(0, round(raw + ENTRY_BYTES - (op_bytes - superfluous_bytes) * SHARE_OF_FULL))


def _worth_it(waste: dict[Held, int], excess: float, budget: float) -> list[Held]:
    """Bodies with much waste until `excess` is made up for or the budget is used, the oldest first: what is young may soon be
    gone."""
    chosen = []
    for held, wasted in sorted(waste.items(), key=lambda item: item[0].name):
        if excess <= 0 or budget <= 0:
            break
        size = len(held.body.raw) + ENTRY_BYTES
        if wasted < WASTE_SHARE_MIN * size or any(op.kind == DROPPED for _, op in held.live()):
            continue  # dropped cells leave by themselves soon
        chosen.append(held)
        excess -= wasted
        budget -= size - wasted
    return chosen


def reissue(writer: Writer, chosen: list[Held]) -> int:
    """Ordered so that ops that once stood side by side do so again: that is what the encoding of a body makes cheap."""
    ops = [op for held in chosen for _, op in held.live() if not writer.is_drafted(op.key, op.origin)]
    ops.sort(key=lambda op: (op.origin, op.dot))
    for op in ops:
        if op.covers and (op.key, op.origin) in writer.chores.free:
            op = op._replace(covers=())
        writer.draft_again(op)
    return len(ops)


# --- take over


def take_over(writer: Writer, *, final: bool, from_disk: set[ShelfId]) -> int:
    """Make what this replica's former shelves held part of ours. `final`: a day has passed, their gaps will not close any more.

    Seals at once, since a takeover is of a base as it is now. Returns the number of takeovers.
    """
    count = 0
    for former in _formers(writer, final=final):
        old = writer.records.of(former, writer.shelf) or NOTHING
        loose = sorted(seq for seq in writer.loose_seqs(former) if not old.speaks(seq)) if final else []
        new = old.join(Record(writer.floor(former), final, former in from_disk, runs_of(loose)))
        if new == old:
            continue
        writer.seal_pages()
        if new.n > old.n:
            _follow(writer, former)
        for op in _unfinished(writer, former, loose):
            writer.draft_again(op)
        writer.draft_takeover(former, new)
        writer.seal_pages()
        count += 1
    return count


def _formers(writer: Writer, *, final: bool) -> list[ShelfId]:
    """Other shelves of our replica: those that are here, those that we speak for, and those that only covers still name."""
    mine = replica_of(writer.shelf)
    known = {*writer.bases, *writer.loose, *writer.records.spoken_by(writer.shelf)}
    lost = sorted(shelf for shelf in writer.chores.kin if shelf not in known)[:LOST_SHELVES_MAX] if final else []
    kin = (shelf for shelf in known if shelf != writer.shelf and replica_of(shelf) == mine)
    return sorted(shelf for shelf in kin if shelf not in writer.ended) + lost  # those are closed, see crdt.ended


def _follow(writer: Writer, former: ShelfId) -> None:
    """The former shelf turns out to be further than what we took over. What it has taken off meanwhile, we take off too: a
    restored backup would bring it back, when those who had covered it have forgotten it."""
    base, mine = writer.bases[former], writer.bases.get(writer.shelf)
    if "FOLLOW" not in writer.rules or mine is None:
        return
    for held in list(mine.everything()):
        for _, op in [*held.live()]:
            if op.origin == writer.shelf or op.kind in (DROPPED, TAKEOVER) or not _spoke_for(writer, former, base, op):
                continue
            if writer.index.slot(op.key, former, op.origin) is None and not writer.is_drafted(op.key, op.origin):
                writer.draft_dropped(op)


def _spoke_for(writer: Writer, former: ShelfId, base: Base, op: Op) -> bool:
    """Whether S(n) of the former would hold this write of its own, or of one that it had taken over, if it still stood."""
    if op.origin == former:
        return dot_seq(op.dot) <= base.floor
    record = writer.records.of(op.origin, former)
    return record is not None and dot_seq(op.dot) <= record.n


def _unfinished(writer: Writer, former: ShelfId, loose: list[int]) -> list[Op]:
    """The ops of the former's loose deltas that nothing newer replaces, to be issued again here."""
    newest: dict[Name, Op] = {}
    for seq in loose:
        delta, mask, void = writer.loose[former][seq]
        for index, op in enumerate(delta.ops):
            if op.kind & KIND_MASK in (DROPPED, TAKEOVER) or void >> index & 1 or not (mask is None or mask >> index & 1):
                continue
            if writer.counts(former, op) and writer.chunks.complete(op):  # without its chunks it never was received
                newest[op.key, op.origin] = op
    found = []
    for (key, origin), op in newest.items():
        held = [writer.index.slot(key, host, origin) for host in (former, writer.shelf)]
        if not any(slot and slot[0].body.ops[slot[1]].dot >= op.dot for slot in held):
            found.append(op)
    return sorted(found, key=lambda op: (op.origin, op.dot))
