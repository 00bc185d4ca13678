"""What every type is: a pure view of the cells that are shown, and a handle that writes.

A *view* is a function from shown cells (rule 2) to a value. It depends on nothing else, neither on the order in which
writes arrived nor on the replica that asks, so replicas that hold the same cells show the same. It never raises: what
another author wrote may have any form, and what does not fit is left out everywhere alike.

A *handle* is a path seen through a view: it reads with the type's function and turns a wish ("add 3") into one write. It needs
only a `Store`, so the same classes serve a bare replica and a node of the mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

from crdt.errors import PathError, TypeConflict
from crdt.ids import Dot, ShelfId, dot_index, dot_seq
from crdt.ops import DROPPED, KIND_MASK, REMOVED, WHILE_ALIVE, Key, Op, Path, Value
from crdt.types.paths import SEGMENTS_MAX, PathLike, format_path, parse_path

CoverPolicy: TypeAlias = Literal["all", "own"]
"""What a write covers. all: every cell of other origins that its author holds at the path, shown or not. own: nothing new,
but it keeps the covers of its author's former cell there."""

Explanation: TypeAlias = list[tuple[Op, str]]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Store(Protocol):
    """What a handle needs of the replica or node behind it."""

    @property
    def shelf(self) -> ShelfId:
        """Where writes go now."""

    @property
    def inherited(self) -> frozenset[ShelfId]:
        """Former shelves of this replica that it took over from its own disk."""

    @property
    def next_dot(self) -> int:
        """A number above every dot of this shelf so far."""

    def shelves(self) -> Sequence[ShelfId]:
        """Every shelf that is known and not let go."""

    def cells(self, key: Key, /) -> Sequence[Op]:
        """The newest cell of each origin, sorted by origin."""

    def shown(self, key: Key, /) -> Sequence[Op]:
        """The cells that hold a value and that no other covers, sorted by origin, with whole payloads."""

    def keys(self, prefix: Path, /) -> Iterable[Key]:
        """Keys at or below the prefix that have a cell, sorted."""

    def keys_at(self, path: Path, /) -> Iterable[Key]:
        """Keys at exactly this path that have a cell."""

    def leaves(self, parent: Path, type_code: int, /, *, reverse: bool = False) -> Iterator[Key]:
        """Keys of this type one segment below `parent`, sorted by that segment (bytes as bytes). Lazy, and cheap to begin."""

    def draft(
        self,
        type_code: int,
        path: Path,
        payload: Value,
        /,
        *,
        removed: bool = False,
        covers: CoverPolicy = "all",
        while_alive: bool = False,
    ) -> Dot:
        """Write: visible here at once."""


def _all_shown(shown: Sequence[Op]) -> list[str]:
    return ["shown"] * len(shown)


@dataclass(frozen=True, slots=True)
class ViewType(Generic[T_co]):
    """A type of value: what goes over the wire is `code`, the rest is how every replica reads it."""

    code: int
    name: str
    covers: CoverPolicy
    view: Callable[[Sequence[Op]], T_co]
    """Pure. Gets the shown cells of one path, or of all element paths when there is one path per element. Their order means
    nothing."""
    verdicts: Callable[[Sequence[Op]], list[str]] = _all_shown
    """For each shown cell why it counts or not, for people."""
    per_element: bool = False
    """One path per element, one segment below the path of the value."""
    removable: bool = True
    commit_first: bool = False
    """A write must be on the own disk before anybody hears of it."""

    def explain(self, cells: Sequence[Op], shown: Sequence[Op]) -> Explanation:
        """Every live cell of one path, and why it counts or not."""
        verdicts = dict(zip(map(_name, shown), self.verdicts(shown), strict=True))
        return [(op, verdicts.get(_name(op)) or _why_hidden(op, cells)) for op in cells]


REGISTRY: Final[dict[int, ViewType[Any]]] = {}
"""The types of this package by code. Importing `crdt.types` fills it; a code never changes its meaning."""


def declare(view: ViewType[T]) -> ViewType[T]:
    if view.code in REGISTRY or any(view.name == other.name for other in REGISTRY.values()):
        raise ValueError(f"type {view.code} {view.name!r} is declared already")
    REGISTRY[view.code] = view
    return view


def name_of(code: int) -> str:
    return REGISTRY[code].name if code in REGISTRY else f"type {code}"


def _name(op: Op) -> tuple[ShelfId, int]:
    return op.origin, op.dot


def dot_of(op: Op) -> Dot:
    origin, dot = op.origin, op.dot
    return Dot(origin, dot_seq(dot), dot_index(dot))


def _why_hidden(op: Op, cells: Sequence[Op]) -> str:
    for other in cells:
        if any((cover.origin, cover.dot) == _name(op) for cover in other.covers):
            return f"covered by {dot_of(other)}"
    match op.kind & KIND_MASK:
        case kind if kind == REMOVED:
            return "a removal: hides what it had seen"
        case kind if kind == DROPPED:
            return "dropped by its author, because another write replaced it"
    if op.kind & WHILE_ALIVE:
        return "hidden: its author is not alive"
    return "hidden"


def newest(shown: Sequence[Op]) -> Op:
    """The one with the highest (time, origin). A tie within one origin cannot be: an origin has one cell at a path."""
    if len(shown) == 1:  # nearly always
        return shown[0]
    return max(shown, key=lambda op: (op.time, op.origin, op.dot))


def only_newest(shown: Sequence[Op]) -> list[str]:
    """Verdicts of a last-writer-wins register."""
    if not shown:
        return []
    winner = newest(shown)
    return ["shown" if op is winner else _why_lost(op, winner) for op in shown]


def _why_lost(op: Op, winner: Op) -> str:
    if op.time == winner.time:
        return f"loses: the same time, a higher origin in {dot_of(winner)}"
    return f"loses: later time in {dot_of(winner)}"


def by_path(shown: Iterable[Op]) -> dict[Path, list[Op]]:
    groups: dict[Path, list[Op]] = {}
    for op in shown:
        groups.setdefault(op.path, []).append(op)
    return groups


# --- values

_IMMUTABLE: Final = frozenset({type(None), bool, int, float, str, bytes})


def plain(value: Value) -> Any:
    """A copy in lists and dicts, the same on every replica: maps are sorted by key."""
    if type(value) in _IMMUTABLE:  # nearly all, and the general questions take several times as long
        return value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {
            key: plain(item) for key, item in sorted(value.items(), key=lambda entry: (isinstance(entry[0], bytes), entry[0]))
        }
    return value


def is_integer(value: object) -> bool:
    """An int that is not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


# --- handles


class Handle(Generic[T]):
    """A path, read and written as one type. Cheap: it holds no state, make one whenever you need it.

    `while_alive`: what is written through this handle shows only while this replica is a live member (presence).
    """

    TYPE: ClassVar[ViewType[Any]]
    __slots__ = ("_path", "_store", "_while_alive")

    def __init__(self, store: Store, path: PathLike, *, while_alive: bool = False) -> None:
        self._store = store
        self._path = parse_path(path)
        self._while_alive = while_alive
        if self._type.per_element and len(self._path) == SEGMENTS_MAX:
            raise PathError(f"path {format_path(self._path)} has no room for elements: at most {SEGMENTS_MAX - 1} segments here")

    def __repr__(self) -> str:
        return f"<{self._type.name} {format_path(self._path)}>"

    @property
    def path(self) -> Path:
        return self._path

    @property
    def value(self) -> T:
        """A plain copy of what is shown now. Raises TypeConflict where there is only a state of another type."""
        shown = self._shown()
        if not shown:
            self._refuse_conflict()
        value: T = self._type.view(shown)
        return value

    def history(self) -> Explanation:
        """Every live cell of this value, and why it counts or not."""
        return [line for key in self._keys() for line in self._type.explain(self._store.cells(key), self._store.shown(key))]

    @property
    def _type(self) -> ViewType[Any]:
        return self.TYPE

    def _keys(self) -> Iterator[Key]:
        return keys_of(self._store, self._type, self._path)

    def _shown(self) -> Sequence[Op]:
        return shown_of(self._store, self._type, self._path)

    def _refuse_conflict(self) -> None:
        """A path that shows another type and nothing of this one is somebody's mistake. Two types that halves of the mesh made at
        the same time are not stopped: they are two states that never touch."""
        if any(self._store.shown(key) for key in self._keys()):
            return
        for code in codes_at(self._store, self._path):
            name = name_of(code)
            raise TypeConflict(
                f"{format_path(self._path)} is {_a(name)}, not {_a(self._type.name)}: "
                f"use it as {_a(name)}, take another path, or remove what is there first"
            )

    def _draft(
        self,
        payload: Value,
        *,
        path: Path | None = None,
        removed: bool = False,
        covers: CoverPolicy | None = None,
        while_alive: bool | None = None,
    ) -> Dot:
        if not removed:
            self._refuse_conflict()
        return self._store.draft(
            self._type.code,
            self._path if path is None else path,
            payload,
            removed=removed,
            covers=covers or self._type.covers,
            while_alive=not removed and (self._while_alive if while_alive is None else while_alive),
        )

    def _remove(self, path: Path) -> Dot | None:
        """A removal of all that is seen at the path; None when nothing is shown there, so that there is nothing to remove."""
        if not self._store.shown((self._type.code, path)):
            return None
        return self._draft(None, path=path, removed=True, covers="all")


def keys_of(store: Store, type: ViewType[Any], path: Path) -> Iterator[Key]:
    """The keys that make up one value, sorted."""
    return store.leaves(path, type.code) if type.per_element else iter([(type.code, path)])


def shown_of(store: Store, type: ViewType[Any], path: Path) -> Sequence[Op]:
    if not type.per_element:
        return store.shown((type.code, path))
    return [op for key in keys_of(store, type, path) for op in store.shown(key)]


def codes_at(store: Store, path: Path) -> Iterator[int]:
    """The types of which something is shown at exactly this path, elements counting for the value that they are part of."""
    for key in store.keys_at(path):
        if not (key[0] in REGISTRY and REGISTRY[key[0]].per_element) and store.shown(key):
            yield key[0]
    for code, view in REGISTRY.items():
        if view.per_element and any(store.shown(key) for key in store.leaves(path, code)):
            yield code


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"
