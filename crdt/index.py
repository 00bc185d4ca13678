"""Where every live op is found by its key, and every key by its prefix. Nothing here knows what an op means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crdt.base import Slot
from crdt.body import CORE_TYPE
from crdt.ids import ShelfId
from crdt.ops import Key, Op, Path, Segment

Slots = dict[tuple[ShelfId, ShelfId], Slot]
"""By (host, origin)."""


class Over(NamedTuple):
    """An op that is visible but not in a base yet: loose, or drafted."""

    host: ShelfId
    seq: int
    op: Op


class Index:
    """`slots`: what bases hold, one (host, origin) as a bare slot because most keys have one writer (a dict costs 230 bytes), else by name.
    `above`: what lies over the bases. `children` and `leaves`: the tree of paths."""

    __slots__ = ("_children", "_leaves", "_types", "above", "slots")

    def __init__(self) -> None:
        self.slots: dict[Key, Slot | Slots] = {}
        self.above: dict[Key, list[Over]] = {}
        self._children: dict[Path, set[Path]] = {}
        self._leaves: dict[Path, set[Key]] = {}
        self._types: dict[int, int] = {}

    def slot(self, key: Key, host: ShelfId, origin: ShelfId) -> Slot | None:
        found = self.slots.get(key)
        if found is None:
            return None
        if isinstance(found, dict):
            return found.get((host, origin))
        held, index = found
        return (held, index) if held.host == host and held.body.ops[index].origin == origin else None

    def all_slots(self, key: Key) -> list[Slot]:
        found = self.slots.get(key)
        if found is None:
            return []
        return list(found.values()) if isinstance(found, dict) else [found]

    def remove(self, key: Key, host: ShelfId, origin: ShelfId) -> None:
        found = self.slots.get(key)
        if not isinstance(found, dict):
            self.slots.pop(key, None)
            if key not in self.above:
                self.vanish(key)
            return
        found.pop((host, origin), None)
        if len(found) == 1:
            self.slots[key] = next(iter(found.values()))

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
        self._types[type_code] = self._types.get(type_code, 0) + 1
        parent = path[:-1]
        leaves = self._leaves.get(parent)
        if leaves is not None:
            leaves.add(key)
            return
        self._leaves[parent] = {key}
        while parent:
            path, parent = parent, parent[:-1]
            siblings = self._children.get(parent)
            if siblings is not None:
                siblings.add(path)
                return
            self._children[parent] = {path}

    def vanish(self, key: Key) -> None:
        type_code, path = key
        if type_code == CORE_TYPE:
            return
        self._types[type_code] -= 1
        if not self._types[type_code]:
            del self._types[type_code]
        parent = path[:-1]
        leaves = self._leaves[parent]
        leaves.discard(key)
        if leaves:
            return
        del self._leaves[parent]
        while parent and parent not in self._leaves and parent not in self._children:
            path, parent = parent, parent[:-1]
            siblings = self._children[parent]
            siblings.discard(path)
            if siblings:
                return
            del self._children[parent]

    def at(self, path: Path) -> list[Key]:
        """The keys at exactly this path, one per type."""
        return [key for key in ((code, path) for code in sorted(self._types)) if key in self.slots or key in self.above]

    def below(self, prefix: Path) -> Iterator[Key]:
        """The keys below `prefix`, in no order."""
        stack = [prefix]
        while stack:
            path = stack.pop()
            yield from self._leaves.get(path, ())
            stack.extend(self._children.get(path, ()))


def key_order(key: Key) -> tuple[list[tuple[bool, Segment]], int]:
    """Sorts keys by path, text before bytes, then by type."""
    return [(type(segment) is bytes, segment) for segment in key[1]], key[0]
