"""Map: whatever lies below a path, as a nested dict. It has no cells of its own.

A key is one more segment: text as it is, all else as its CBOR. So `map("robots")["7"]` and `register("robots/7")` are one,
and a map made of paths that others wrote is a map all the same. A key is there while something below it is shown. Removing
a key writes a removal at each shown path below it, whatever its type; what others add below it at the same time survives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from crdt.errors import Malformed, PathError, TypeConflict, UnsupportedValue, WriteRefused
from crdt.ids import Dot
from crdt.ops import Key, Op, Path, Value
from crdt.types.base import REGISTRY, Explanation, Store, ViewType, name_of
from crdt.types.bounded_counter import BoundedCounter
from crdt.types.counter import Counter, GrowOnlyCounter
from crdt.types.custom import CUSTOM
from crdt.types.extreme import Maximum, Minimum
from crdt.types.flag import DisableWinsFlag, Flag
from crdt.types.handle import Handle
from crdt.types.list import List
from crdt.types.log import Log
from crdt.types.multi_value import MultiValue
from crdt.types.paths import SEGMENTS_MAX, Element, PathLike, format_path, key_of_segment_untrusted, key_segment, parse_path
from crdt.types.register import Register
from crdt.types.sets import AddWinsSet, RemoveWinsSet

H = TypeVar("H", bound=Handle[Any])
Dots: TypeAlias = list[Dot]
"""Inside the class, `list` is the method."""

HERE: Final = None
"""The key in a nested dict for a value at a path that has others below it. No key of a map is None."""


def value_type(code: int) -> ViewType[Any]:
    """The type with this code. One that this version does not know is read like a custom one: all payloads."""
    return REGISTRY.get(code, CUSTOM)


def tree(depth: int, rows: Iterable[tuple[Key, Iterable[Op]]]) -> Any:
    """What lies below a path of `depth` segments, given the shown cells of each key there: nested dicts, values at the leaves.

    Pure. Where several types are at one path, the one with the lowest code is taken: they are somebody's mistake, see `history`.
    """
    values: dict[tuple[Path, int], list[Op]] = {}
    for (code, path), shown in rows:
        place = path[:-1] if value_type(code).per_element else path
        if len(place) > depth:
            values.setdefault((place, code), []).extend(shown)
    root: dict[Element, Any] = {}
    for (place, code), ops in sorted(values.items(), key=lambda row: (len(row[0][0]), row[0][1])):
        if ops:
            _put(root, place[depth:], value_type(code).view(ops))
    return root


def _put(root: dict[Element, Any], segments: Path, value: Any) -> None:
    """Shorter paths come first, so a value that turns out to have others below it is already there."""
    try:
        keys = [key_of_segment_untrusted(segment) for segment in segments]
    except Malformed:
        return  # bytes that are no map's key: somebody else's own paths
    node = root
    for key in keys[:-1]:
        below = node.get(key)
        if not isinstance(below, _Branch):
            below = node[key] = _Branch() if key not in node else _Branch({HERE: below})
        node = below
    node.setdefault(keys[-1], value)


class _Branch(dict[Element, Any]):
    """Tells a nested map from a register that holds a dict."""


def _as_plain(value: Any) -> Any:
    return {key: _as_plain(item) for key, item in value.items()} if isinstance(value, _Branch) else value


class Map(Mapping[Element, Any]):
    """`robot["pose"] = (1, 2)` stores a register; `robot.counter("visits").add(1)`, `robot.map("arm")["angle"] = 3` and so
    on go deeper.

    Reading gives what is there, whatever its type: `robot["visits"]` is an int, `robot["arm"]` a dict.
    """

    __slots__ = ("_path", "_store", "_while_alive")

    def __init__(self, store: Store, path: PathLike, *, while_alive: bool = False) -> None:
        self._store = store
        self._path = parse_path(path)
        self._while_alive = while_alive
        if len(self._path) == SEGMENTS_MAX:
            raise PathError(f"path {format_path(self._path)} has no room for keys: at most {SEGMENTS_MAX - 1} segments here")

    def __repr__(self) -> str:
        return f"<map {format_path(self._path)}>"

    @property
    def path(self) -> Path:
        return self._path

    @property
    def value(self) -> dict[Element, Any]:
        """All that is shown below, nested. Where a path has a value and others below it, the value is at the key None."""
        return self._below(self._path)

    def history(self) -> Explanation:
        """Every live cell below, and why it counts or not."""
        return [
            line
            for key in self._store.keys(self._path)
            if len(key[1]) > len(self._path)
            for line in value_type(key[0]).explain(self._store.cells(key), self._store.shown(key))
        ]

    # --- reading

    def __getitem__(self, key: Element) -> Any:
        """Raises KeyError when nothing is shown at or below the key."""
        try:
            path = self._at(key)
        except (PathError, UnsupportedValue):
            raise KeyError(key) from None
        found = self._below(path[:-1], path)
        if not found:
            raise KeyError(key)
        return next(iter(found.values()))

    def __iter__(self) -> Iterator[Element]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def _below(self, path: Path, prefix: Path | None = None) -> dict[Element, Any]:
        rows = ((key, self._store.shown(key)) for key in self._store.keys(path if prefix is None else prefix))
        return {key: _as_plain(value) for key, value in tree(len(path), rows).items()}

    # --- writing

    def __setitem__(self, key: Element, value: Value) -> None:
        self.set_key(key, value)

    def set_key(self, key: Element, value: Value, *, while_alive: bool | None = None) -> Dot:
        """`map[key] = value`, and the write's dot. Raises TypeConflict where the key holds something that is no register."""
        register = self._child(Register, key)
        path = register.path
        if not register.exists and any(
            place != path and self._store.shown((code, place)) for code, place in self._store.keys(path)
        ):
            raise TypeConflict(f"{format_path(path)} holds a map, a set or the like: remove the key first, or write inside it")
        return register.set(value, while_alive=while_alive)

    def __delitem__(self, key: Element) -> None:
        """Raises KeyError when nothing is shown at or below the key."""
        try:
            path = self._at(key)
        except (PathError, UnsupportedValue):
            raise KeyError(key) from None
        if not self._remove_below(path):
            raise KeyError(key)

    def discard(self, key: Element) -> Dots:
        """`del map[key]`, but nothing happens when it is not there."""
        return self._remove_below(self._at(key))

    def update(self, values: Mapping[Element, Value]) -> None:
        """Raises UnsupportedValue for what is no mapping, with nothing written."""
        if not isinstance(values, Mapping):
            raise UnsupportedValue(f"{values!r:.80} is no mapping: write map.update({{key: value}})")
        for key, value in values.items():
            self[key] = value

    def clear(self) -> Dots:
        """Remove every key seen here."""
        return self._remove_below(self._path, own=False)

    def _remove_below(self, prefix: Path, *, own: bool = True) -> Dots:
        """A removal at each shown path below (`own`: and at) the prefix, or none at all where one of them cannot be removed."""
        keys = [key for key in self._store.keys(prefix) if self._store.shown(key) and (own or self._holds(key))]
        for code, path in keys:
            if not value_type(code).removable:
                raise WriteRefused(f"{format_path(path)} is a {name_of(code)}, which cannot be removed")
        return [self._store.draft(code, path, None, removed=True, covers="all") for code, path in keys]

    def _holds(self, key: Key) -> bool:
        """The key is part of a value below this map, not of one at the map's own path."""
        return len(key[1]) - value_type(key[0]).per_element > len(self._path)

    # --- going deeper

    def _at(self, key: object) -> Path:
        if key is HERE:
            raise UnsupportedValue("None cannot be a key of a map")
        return (*self._path, key_segment(key))

    def _child(self, kind: type[H], key: object) -> H:
        return kind(self._store, self._at(key), while_alive=self._while_alive)

    def map(self, key: Element) -> Map:
        return Map(self._store, self._at(key), while_alive=self._while_alive)

    def register(self, key: Element) -> Register:
        return self._child(Register, key)

    def multi_value(self, key: Element) -> MultiValue:
        return self._child(MultiValue, key)

    def counter(self, key: Element) -> Counter:
        return self._child(Counter, key)

    def grow_only_counter(self, key: Element) -> GrowOnlyCounter:
        return self._child(GrowOnlyCounter, key)

    def bounded_counter(self, key: Element) -> BoundedCounter:
        return self._child(BoundedCounter, key)

    def maximum(self, key: Element) -> Maximum:
        return self._child(Maximum, key)

    def minimum(self, key: Element) -> Minimum:
        return self._child(Minimum, key)

    def set(self, key: Element, *, remove_wins: bool = False) -> AddWinsSet:
        return self._child(RemoveWinsSet if remove_wins else AddWinsSet, key)

    def flag(self, key: Element, *, disable_wins: bool = False) -> Flag:
        return self._child(DisableWinsFlag if disable_wins else Flag, key)

    def list(self, key: Element) -> List:
        return self._child(List, key)

    def log(self, key: Element) -> Log:
        return self._child(Log, key)
