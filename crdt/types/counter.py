"""Counters: every shelf writes its own running total, the value is their sum.

A write covers nothing new, so concurrent additions all count. A removal covers the totals that its author has seen; an
author whose total is covered starts again from zero. Known edge: an addition concurrent with the removal brings back that
author's whole running total, because the total is one cell and the removal has not seen its newest write. Every restart
begins a new shelf and with it a new total (about 75 bytes); the former one stays, under its former name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from crdt.errors import UnsupportedValue
from crdt.ids import Dot, ShelfId
from crdt.ops import Op
from crdt.types.base import ViewType, declare
from crdt.types.cells import is_integer
from crdt.types.handle import Handle


def total_of(op: Op, least: int | None = None) -> int | None:
    """The running total of a cell; None for what is none."""
    payload = op.payload
    return payload if isinstance(payload, int) and is_integer(payload) and (least is None or payload >= least) else None


def _sum(shown: Sequence[Op], least: int | None) -> int:
    return sum(total_of(op, least) or 0 for op in shown)


def view(shown: Sequence[Op]) -> int:
    return _sum(shown, None)


def grow_only_view(shown: Sequence[Op]) -> int:
    return _sum(shown, 0)


def verdicts(shown: Sequence[Op]) -> list[str]:
    return ["ignored: not an integer" if total_of(op) is None else "shown" for op in shown]


def grow_only_verdicts(shown: Sequence[Op]) -> list[str]:
    return ["ignored: not an integer from 0 upwards" if total_of(op, 0) is None else "shown" for op in shown]


COUNTER: Final = declare(ViewType(code=3, name="counter", covers="own", view=view, verdicts=verdicts))
GROW_ONLY_COUNTER: Final = declare(
    ViewType(code=4, name="grow-only counter", covers="own", view=grow_only_view, verdicts=grow_only_verdicts)
)


def added(shown: Sequence[Op], shelf: ShelfId, amount: int, *, least: int | None = None) -> int:
    """The new running total of `shelf`. Its former one counts only while it is shown."""
    own = next((total_of(op, least) for op in shown if op.origin == shelf), None)
    return (own or 0) + amount


class Counter(Handle[int]):
    """An integer that many add to at once. `counter.add(3)`, `counter.add(-1)`, `counter.value`, `int(counter)`."""

    TYPE = COUNTER
    LEAST: ClassVar[int | None] = None
    __slots__ = ()

    def add(self, amount: int = 1, *, while_alive: bool | None = None) -> Dot:
        """Raises UnsupportedValue for anything but an integer."""
        if not is_integer(amount):
            raise UnsupportedValue(f"a {self._type.name} adds integers, not {type(amount).__name__}")
        return self._draft(added(self._shown(), self._store.shelf, amount, least=self.LEAST), while_alive=while_alive)

    def clear(self) -> Dot | None:
        """Back to zero for every total seen here; None when there is none."""
        return self._remove(self._path)

    def __int__(self) -> int:
        return self.value


class GrowOnlyCounter(Counter):
    """A counter that never goes down, except by `clear`."""

    TYPE = GROW_ONLY_COUNTER
    LEAST = 0
    __slots__ = ()

    def add(self, amount: int = 1, *, while_alive: bool | None = None) -> Dot:
        """Raises UnsupportedValue for anything but an integer from 0 upwards."""
        if is_integer(amount) and amount < 0:
            raise UnsupportedValue(f"a grow-only counter cannot add {amount}: use a counter")
        return super().add(amount, while_alive=while_alive)
