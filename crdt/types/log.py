"""Log: grow-only, one path per entry, so that entries never overwrite each other.

An entry's position is one above every entry that its author saw in this log, so what was written after something stands
after it, whatever the clocks say. Entries of one position (concurrent ones) are ordered by (time, origin). The last segment
is the position and a number that its shelf never uses twice, both as bytes that sort: keys come in the order of positions.
Should two shelves arrive at one segment, their cells are two entries all the same, for a log's writes cover nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, overload

from crdt.errors import Malformed
from crdt.ids import Dot, ShelfId
from crdt.ops import Op, Segment, Value
from crdt.types.base import ViewType, declare
from crdt.types.cells import plain
from crdt.types.handle import Handle
from crdt.types.paths import ordered, read_ordered_untrusted

POSITION_MAX: Final = 2**62
"""Further entries share it. Only a hostile author gets there, and no further than to have later entries sorted by time."""


class Entry(NamedTuple):
    """Sorted as the log is; nothing after the dot decides."""

    position: int
    time: int
    origin: ShelfId
    dot: int
    value: Value


def position_untrusted(segment: Segment) -> int:
    """Raises Malformed for what is no log entry's segment."""
    if not isinstance(segment, bytes):
        raise Malformed("a text segment is no log entry")
    position, at = read_ordered_untrusted(segment, 0)
    number, end = read_ordered_untrusted(segment, at)
    if end != len(segment) or not 1 <= position <= POSITION_MAX or number < 0:
        raise Malformed("not a log entry")
    return position


def _position(op: Op) -> int | None:
    try:
        return position_untrusted(op.path[-1])
    except Malformed:
        return None


def entries_of(shown: Iterable[Op]) -> list[Entry]:
    placed = ((op, _position(op)) for op in shown)
    entries = [Entry(position, op.time, op.origin, op.dot, op.payload) for op, position in placed if position is not None]
    return sorted(entries, key=lambda entry: entry[:4])


def view(shown: Sequence[Op]) -> list[Any]:
    return [plain(entry.value) for entry in entries_of(shown)]


def verdicts(shown: Sequence[Op]) -> list[str]:
    return ["ignored: no position" if _position(op) is None else "shown" for op in shown]


LOG: Final = declare(ViewType(code=12, name="log", covers="own", view=view, verdicts=verdicts, per_element=True))


class Log(Handle["list[Any]"], Sequence[Any]):
    """Entries in an order that all agree on, later ones after those that their author had seen. `log.append(v)`, then read
    it like a list."""

    TYPE = LOG
    __slots__ = ()

    def append(self, value: Value, *, while_alive: bool | None = None) -> Dot:
        """Costs the same however long the log is."""
        segment = ordered(min(self._last() + 1, POSITION_MAX)) + ordered(self._store.next_dot)
        return self._draft(value, path=(*self._path, segment), while_alive=while_alive)

    def extend(self, values: Iterable[Value], *, while_alive: bool | None = None) -> list[Dot]:
        return [self.append(value, while_alive=while_alive) for value in values]

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

    def _last(self) -> int:
        """The highest position of any entry held here, shown or not; 0 without entries."""
        for _, path in self._store.leaves(self._path, LOG.code, reverse=True):
            try:
                return position_untrusted(path[-1])
            except Malformed:
                continue
        return 0
