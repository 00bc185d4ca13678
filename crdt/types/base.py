"""What every type is: a pure view of the cells that are shown (its handle, which writes, is `crdt.types.handle`).

A *view* is a function from shown cells (rule 2) to a value. It depends on nothing else, neither on the order in which
writes arrived nor on the replica that asks, so replicas that hold the same cells show the same. It never raises: what
another author wrote may have any form, and what does not fit is left out everywhere alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

from crdt.ids import Dot, ShelfId
from crdt.ops import DROPPED, KIND_MASK, REMOVED, WHILE_ALIVE, Key, Op, Path, Value
from crdt.types.cells import dot_of

CoverPolicy: TypeAlias = Literal["all", "own"]
"""What a write covers. all: every cell of other origins that its author holds at the path, shown or not. own: nothing new,
but it keeps the covers of its author's former cell there."""

Explanation: TypeAlias = list[tuple[Op, str]]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Shows(Protocol):
    """What is read of the replica or node behind it."""

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


class Store(Shows, Protocol):
    """What a handle needs."""

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
