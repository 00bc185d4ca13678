"""Where every live op is found by its key, and every key by its prefix. Nothing here knows what an op means."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from crdt.base import Base, Held, Slot
from crdt.body import Body, is_fresh
from crdt.ids import ShelfId, dot_index, dot_seq
from crdt.limits import CORE_TYPE
from crdt.ops import Key, Op, Path, Segment

Cell = Op | Slot
"""An op that stands where it was first issued, which itself says where that is; or a slot."""
Name = ShelfId | tuple[ShelfId, ShelfId]
"""Of a cell of one key: its origin, on whose own shelf it stands, as nearly all do; or (host, origin)."""
Slots = dict[Name, Cell]

TAIL_SORTED_ONE_BY_ONE: Final = 8
"""Fresh segments that are put in place singly; more are sorted along with the rest (guess: about log2 of a long row)."""


class Over(NamedTuple):
    """An op that is visible but not in a base yet: loose, or drafted."""

    host: ShelfId
    seq: int
    op: Op


class Row:
    """The last segments of the keys of one type below one path. Writers append, readers sort: a bulk load is not sorted key
    by key.

    A segment whose key vanished stays until half of the row is stale; readers ask the index.
    """

    __slots__ = ("_sorted", "_stale", "_tail", "version")

    def __init__(self, segment: Segment) -> None:
        self._sorted: list[Segment] = [segment]
        self._tail: list[Segment] | None = None
        self._stale = 0
        self.version = 0
        """Changes when positions do."""

    def add(self, segment: Segment) -> None:
        if self._tail is None:
            self._tail = [segment]
        else:
            self._tail.append(segment)

    def discard(self) -> bool:
        """One of the keys vanished. True when half of them are stale: `keep` is due."""
        self._stale += 1
        return 2 * self._stale >= len(self._sorted) + len(self._tail or ())

    def keep(self, segments: set[Segment]) -> None:
        self._sorted, self._tail, self._stale = sorted(segments, key=_segment_order), None, 0
        self.version += 1

    def segments(self) -> list[Segment]:
        """Sorted, text before bytes; some twice, some stale. Not to be changed."""
        tail = self._tail
        if tail:
            self._tail = None
            self.version += 1
            if len(tail) <= TAIL_SORTED_ONE_BY_ONE:
                for segment in tail:
                    insort(self._sorted, segment, key=_segment_order)
            else:
                self._sorted += tail
                self._sorted.sort(key=_segment_order)
        return self._sorted

    def walk(self, *, reverse: bool) -> Iterator[Segment]:
        """Each segment once, also when the row grows meanwhile."""
        segments = self.segments()
        version, at = self.version, len(segments) - 1 if reverse else 0
        while 0 <= at < len(segments):
            segment = segments[at]
            yield segment
            segments = self.segments()
            following = (
                segments[at - 1] if reverse and at else segments[at + 1] if not reverse and at + 1 < len(segments) else None
            )
            if version == self.version and following != segment:
                at += -1 if reverse else 1
                continue
            version = self.version
            order = _segment_order(segment)
            if reverse:
                at = bisect_left(segments, order, key=_segment_order) - 1
            else:
                at = bisect_right(segments, order, key=_segment_order)


def _name(host: ShelfId, origin: ShelfId) -> Name:
    """No tuple for what is common: where fifty write one key, to hash and to find them took most of a look at it."""
    return origin if host == origin else (host, origin)


_NO_ROW: Final[tuple[int, Path, Row]] = (CORE_TYPE, (), Row(""))
"""Of a type that has no rows."""


def _segment_order(segment: Segment) -> tuple[bool, Segment]:
    return type(segment) is bytes, segment


class Index:
    """`slots`: what bases hold, one cell per host and origin. `above`: what lies over the bases.

    A fresh op says itself where it is held (its dot is its place and its index), so most cells cost no more than a reference to
    it. One that was issued again is a slot. Several cells of a key are a dict.
    """

    __slots__ = ("_bases", "_children", "_last", "_rows", "_types", "above", "slots")

    def __init__(self, bases: Mapping[ShelfId, Base]) -> None:
        self.slots: dict[Key, Cell | Slots] = {}
        self.above: dict[Key, list[Over]] = {}
        self._bases = bases
        self._rows: dict[tuple[int, Path], Row] = {}
        self._last = _NO_ROW
        """(type, parent, row) of the key that appeared last."""
        self._types: dict[int, int] = {}
        """Rows per type."""
        self._children: dict[Path, dict[Path, int]] = {}
        """Per path the paths one longer that have something below, with the number of rows and children there."""

    def __contains__(self, key: Key) -> bool:
        return key in self.slots or key in self.above

    # --- slots

    def slot_of(self, cell: Cell) -> Slot:
        """Where a cell is held."""
        if isinstance(cell, Op):
            return self._bases[cell.origin].own[dot_seq(cell.dot)], dot_index(cell.dot)
        return cell

    def slot(self, key: Key, host: ShelfId, origin: ShelfId) -> Slot | None:
        found = self.slots.get(key)
        if found is None:
            return None
        if isinstance(found, dict):
            cell = found.get(_name(host, origin))
            return None if cell is None else self.slot_of(cell)
        held, index = self.slot_of(found)
        return (held, index) if held.host == host and held.body.ops[index].origin == origin else None

    def cells(self, key: Key) -> list[Cell]:
        """All of the key, of every host."""
        found = self.slots.get(key)
        if found is None:
            return []
        return list(found.values()) if isinstance(found, dict) else [found]

    def all_slots(self, key: Key) -> list[Slot]:
        return [self.slot_of(cell) for cell in self.cells(key)]

    def put(self, key: Key, held: Held, index: int, op: Op) -> Slot | None:
        """Returns what it replaces: the cell of the same host and origin."""
        found = self.slots.get(key)
        cell: Cell = op if is_fresh(held.host, held.place, index, op) else (held, index)
        if found is None:
            self.slots[key] = cell
            if key not in self.above:
                self.appear(key)
            return None
        if not isinstance(found, dict):
            other, at = self.slot_of(found)
            origin = other.body.ops[at].origin
            if other.host == held.host and origin == op.origin:
                self.slots[key] = cell
                return other, at
            found = self.slots[key] = {_name(other.host, origin): found}
        name = _name(held.host, op.origin)
        former = found.get(name)
        found[name] = cell
        return None if former is None else self.slot_of(former)

    def put_fresh(self, body: Body, changes: dict[Key, None]) -> bool:
        """`put` for a whole plain body, and its keys to `changes`, if all of them are new here; else nothing is done. In bulk,
        because hashing a path costs more than all else: here twice, one by one four times.
        """
        fresh = {(op[1], op[2]): op for op in body.ops}
        if self.above or len(fresh) < len(body.ops) or not fresh.keys().isdisjoint(self.slots.keys()):
            return False
        self.slots.update(fresh)
        changes.update(dict.fromkeys(fresh))
        code, parent, row = self._last
        for key in fresh:
            path = key[1]
            if path[:-1] == parent and key[0] == code:
                row.add(path[-1])
            else:
                self.appear(key)
                code, parent, row = self._last
        return True

    def remove(self, key: Key, host: ShelfId, origin: ShelfId) -> None:
        found = self.slots.get(key)
        if not isinstance(found, dict):
            self.slots.pop(key, None)
            if key not in self.above:
                self.vanish(key)
            return
        found.pop(_name(host, origin), None)
        if len(found) == 1:
            self.slots[key] = next(iter(found.values()))

    # --- what lies above the bases

    def lay(self, key: Key, over: Over) -> None:
        rows = self.above.get(key)
        if rows is None:
            self.above[key] = [over]
            if key not in self.slots:
                self.appear(key)
        else:
            rows.append(over)

    def lift(self, key: Key, host: ShelfId, seq: int) -> None:
        """Take off what delta `seq` of `host` laid at `key`."""
        rows = self.above.get(key)
        if rows is None:
            return
        rows[:] = [row for row in rows if row.seq != seq or row.host != host]
        if not rows:
            del self.above[key]
            if key not in self.slots:
                self.vanish(key)

    # --- the tree of paths

    def appear(self, key: Key) -> None:
        type_code, path = key
        if type_code == CORE_TYPE:
            return
        parent = path[:-1]
        if parent == self._last[1] and type_code == self._last[0]:  # siblings come together: cheaper than to hash a path
            self._last[2].add(path[-1])
            return
        row = self._rows.get((type_code, parent))
        if row is not None:
            row.add(path[-1])
        else:
            row = self._rows[type_code, parent] = Row(path[-1])
            self._types[type_code] = self._types.get(type_code, 0) + 1
            self._count(parent, 1)
        self._last = (type_code, parent, row)

    def vanish(self, key: Key) -> None:
        type_code, path = key
        if type_code == CORE_TYPE:
            return
        parent = path[:-1]
        row = self._rows[type_code, parent]
        if not row.discard():
            return
        segments = {segment for segment in row.segments() if (type_code, (*parent, segment)) in self}
        if segments:
            row.keep(segments)
            return
        del self._rows[type_code, parent]
        self._last = _NO_ROW
        self._types[type_code] -= 1
        if not self._types[type_code]:
            del self._types[type_code]
        self._count(parent, -1)

    def _count(self, path: Path, step: int) -> None:
        """One row or child more or less at `path`; its ancestors learn of the first and of the last."""
        while path:
            siblings = self._children.setdefault(path[:-1], {})
            before = siblings.get(path, 0)
            if before + step:
                siblings[path] = before + step
            else:
                del siblings[path]
                if not siblings:
                    del self._children[path[:-1]]
            if before and before + step:
                return
            path = path[:-1]

    def at(self, path: Path) -> list[Key]:
        """The keys at exactly this path, one per type."""
        return [key for key in ((code, path) for code in sorted(self._types)) if key in self]

    def leaves(self, parent: Path, type_code: int, *, reverse: bool = False) -> Iterator[Key]:
        """The keys of this type one segment below `parent`, sorted by that segment. Lazy."""
        row = self._rows.get((type_code, parent))
        for segment in row.walk(reverse=reverse) if row else ():
            key = (type_code, (*parent, segment))
            if key in self:
                yield key

    def below(self, prefix: Path) -> Iterator[Key]:
        """The keys below `prefix`, in no order."""
        stack = [prefix]
        while stack:
            path = stack.pop()
            for code in self._types:
                yield from self.leaves(path, code)
            stack.extend(self._children.get(path, ()))


def key_order(key: Key) -> tuple[list[tuple[bool, Segment]], int]:
    """Sorts keys by path, text before bytes, then by type."""
    return [_segment_order(segment) for segment in key[1]], key[0]
