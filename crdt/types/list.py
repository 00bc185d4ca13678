"""List: one path per item, the last segment being the item's place in Fugue's tree (see `crdt.types.fugue`).

An item is a register: replacing it (`items[2] = v`) keeps its place, concurrent replacements are settled as in a register, and
a replacement beats a removal that has not seen it. Removed items leave nothing behind in the keys of others. A place of more
than 64 bytes is named by its hash, and the payload carries it beside the value.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, overload

from crdt.errors import Malformed
from crdt.ids import Dot
from crdt.ops import Op, Path, Value
from crdt.types.base import ViewType, declare
from crdt.types.cells import by_path, newest, only_newest, plain
from crdt.types.fugue import Place, between, read_place_untrusted
from crdt.types.handle import Handle
from crdt.types.paths import is_hashed, named_segment


class Item(NamedTuple):
    """Sorted by place: raw bytes come first and differ."""

    raw: bytes
    value: Value
    path: Path

    @property
    def place(self) -> Place:
        return read_place_untrusted(self.raw)


def placed_untrusted(op: Op) -> tuple[bytes, Value]:
    """Position and value of a cell. Raises Malformed."""
    segment, payload = op.path[-1], op.payload
    if not isinstance(segment, bytes):
        raise Malformed("a text segment is no position")
    if not is_hashed(segment):
        return read_place_untrusted(segment).raw, payload
    if not isinstance(payload, tuple | list) or len(payload) != 2:
        raise Malformed("no position beside the value")
    raw, value = payload
    if not isinstance(raw, bytes) or named_segment(raw) != segment:
        raise Malformed("not the position that the segment names")
    return read_place_untrusted(raw).raw, value


def _placed(op: Op) -> tuple[bytes, Value] | None:
    try:
        return placed_untrusted(op)
    except Malformed:
        return None


def items_of(shown: Iterable[Op]) -> list[Item]:
    items = []
    for path, ops in by_path(shown).items():
        fit = {op.origin: placed for op in ops if (placed := _placed(op))}
        if fit:
            raw, value = fit[newest([op for op in ops if op.origin in fit]).origin]
            items.append(Item(raw, value, path))
    return sorted(items, key=lambda item: item.raw)


def view(shown: Sequence[Op]) -> list[Any]:
    return [plain(item.value) for item in items_of(shown)]


def verdicts(shown: Sequence[Op]) -> list[str]:
    reasons: dict[int, str] = {}
    for ops in by_path(shown).values():
        fit = [op for op in ops if _placed(op)]
        reasons.update(zip(map(id, fit), only_newest(fit), strict=True))
    return [reasons.get(id(op), "ignored: no position") for op in shown]


LIST: Final = declare(ViewType(code=11, name="list", covers="all", view=view, verdicts=verdicts, per_element=True))


class List(Handle["list[Any]"], Sequence[Any]):
    """Reads like a Python list; `append`, `insert`, `extend`, `items[i] = v`, `del items[i]` and `pop` write.

    An index means what is shown here at this moment.
    """

    TYPE = LIST
    __slots__ = ()

    def append(self, value: Value, *, while_alive: bool | None = None) -> Dot:
        """Costs the same however long the list is."""
        return self.extend([value], while_alive=while_alive)[0]

    def extend(self, values: Iterable[Value], *, while_alive: bool | None = None) -> list[Dot]:
        return self._insert(self._last(), None, values, while_alive)

    def insert(self, index: int, value: Value, *, while_alive: bool | None = None) -> Dot:
        """Before what is at `index` now; beyond either end is at that end, as in Python."""
        items, index = self._items(), operator.index(index)
        index = max(0, index + len(items)) if index < 0 else min(index, len(items))
        left = items[index - 1].place if index else None
        right = items[index].place if index < len(items) else None
        return self._insert(left, right, [value], while_alive)[0]

    def pop(self, index: int = -1) -> Any:
        """Remove an item and return its value. Raises IndexError."""
        item = self._items()[index]
        self._remove(item.path)
        return plain(item.value)

    def remove(self, value: Value) -> Dot:
        """Remove the first item that equals `value`. Raises ValueError."""
        for item in self._items():
            if plain(item.value) == plain(value):
                dot = self._remove(item.path)
                assert dot is not None, "an item is shown"
                return dot
        raise ValueError(f"{value!r} is not in {self!r}")

    def clear(self) -> list[Dot]:
        """Remove every item seen here."""
        return self._remove_all(self._items())

    def __setitem__(self, index: int, value: Value) -> None:
        item = self._items()[index]
        self._draft(_payload(item.raw, value), path=item.path)

    def __delitem__(self, index: int | slice) -> None:
        items = self._items()
        self._remove_all(items[index] if isinstance(index, slice) else [items[index]])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.value[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def _items(self) -> list[Item]:
        return items_of(self._shown())

    def _last(self) -> Place | None:
        """The place of the last item. Keys that spell out their place are sorted like the list; those named by a hash come
        after them."""
        raw = b""
        for key in self._store.leaves(self._path, LIST.code, reverse=True):
            items = items_of(self._store.shown(key))
            raw = max([raw, *(item.raw for item in items)])
            if items and not is_hashed(key[1][-1]):
                break
        return read_place_untrusted(raw) if raw else None

    def _insert(self, left: Place | None, right: Place | None, values: Iterable[Value], while_alive: bool | None) -> list[Dot]:
        dots = []
        for value in values:
            raw = between(left, right, self._store.shelf, self._store.next_dot)
            dots.append(self._draft(_payload(raw, value), path=(*self._path, named_segment(raw)), while_alive=while_alive))
            left = read_place_untrusted(raw)
        return dots

    def _remove_all(self, items: Iterable[Item]) -> list[Dot]:
        return [dot for item in items if (dot := self._remove(item.path)) is not None]


def _payload(raw: bytes, value: Value) -> Value:
    return (raw, value) if is_hashed(named_segment(raw)) else value
