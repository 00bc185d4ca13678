"""Who did what, and who had seen which: what a specification of a type is written against (crdt.specifications).

In the happens-before style of Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types" (INRIA
RR-7506, 2011). Nothing here knows of covers, bases or views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from crdt.ids import ShelfId
from crdt.ops import Key


class Write(NamedTuple):
    """One cell that a call wrote. Names it as covers do, so a repacked or hosted copy is the same write."""

    key: Key
    origin: ShelfId
    dot: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that wrote something."""

    number: int
    """In the order in which the calls were made, which no replica knows."""
    author: int
    """Index of the replica."""
    shelf: ShelfId
    method: str
    arguments: tuple[Any, ...]
    saw: Any
    """The value that its author read just before."""
    result: Any
    """What the call returned."""
    writes: tuple[Write, ...]
    time: int
    """Of the write, in microseconds, by its author's clock."""


class History:
    """The operations that one replica has seen of a value, in the order in which they were made, and who had seen which."""

    def __init__(self, operations: Iterable[Operation], visible: frozenset[Write], known: dict[Write, frozenset[Write]]) -> None:
        self._visible = visible
        self._known = known
        self.operations = [operation for operation in operations if not visible.isdisjoint(operation.writes)]

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def calls(self, *methods: str) -> list[Operation]:
        """Those of these methods; all without."""
        return [operation for operation in self.operations if not methods or operation.method in methods]

    def where(self, test: Callable[[Operation], bool]) -> History:
        """Only these operations."""
        return History([one for one in self.operations if test(one)], self._visible, self._known)

    def before(self, one: Operation, other: Operation) -> bool:
        """`other`'s author had seen `one` when it wrote at the same path: what the theory calls happened-before."""
        return any(write in self._known[later] for later in other.writes if later in self._visible for write in one.writes)

    def unseen(self, *methods: str, by: Sequence[str] = ()) -> list[Operation]:
        """Those of these methods that no operation (`by`: of these methods) had seen."""
        seen: set[Write] = set()
        for other in self.calls(*by):
            for later in other.writes:
                if later in self._visible:
                    seen |= self._known[later]
        return [one for one in self.calls(*methods) if seen.isdisjoint(one.writes)]
