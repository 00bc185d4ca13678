"""Custom: your own pure function from the shown cells of a path to a value.

    def newest_three(shown: Sequence[Op]) -> list[object]:
        return [op.payload for op in sorted(shown, key=lambda op: (op.time, op.origin))[-3:]]

    node.custom("sensors/doors", newest_three).set({"open": 4})

The function must depend on nothing but the cells, not even on their order, and take whatever payload another author may
have written. `crdt.testing.check_view` holds it to that. Every replica that reads a path needs the same function; the cells
do not carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from crdt.ids import Dot
from crdt.ops import Op, Value
from crdt.types.base import CoverPolicy, Store, ViewType, declare
from crdt.types.cells import plain
from crdt.types.handle import Handle
from crdt.types.paths import PathLike

T = TypeVar("T")

CODES_FROM: Final = 64
"""Lower codes are this package's, now or later."""


def view(shown: Sequence[Op]) -> list[Any]:
    """What is shown of a custom path to somebody who lacks its function: all payloads, by (time, origin)."""
    return [plain(op.payload) for op in sorted(shown, key=lambda op: (op.time, op.origin))]


CUSTOM: Final = declare(ViewType(code=14, name="custom", covers="all", view=view))


def custom_type(
    function: Callable[[Sequence[Op]], T],
    *,
    covers: CoverPolicy = "all",
    code: int | None = None,
    name: str | None = None,
) -> ViewType[T]:
    """A type from a function. `covers`: "all" replaces what the writer sees (a register), "own" only the writer's own cell
    (a counter).

    All custom paths share one code unless you give your own, from 64 up: then a path cannot be taken for another custom
    type by mistake.
    """
    if not callable(function):
        raise TypeError(f"{function!r:.80} is not a function from cells to a value")
    if code is not None and code < CODES_FROM:
        raise ValueError(f"code {code}: codes below {CODES_FROM} belong to the built-in types")
    return ViewType(CUSTOM.code if code is None else code, name or CUSTOM.name, covers, function)


class Custom(Handle[T]):
    """A path read by your function."""

    __slots__ = ("_custom",)

    def __init__(
        self,
        store: Store,
        path: PathLike,
        function: Callable[[Sequence[Op]], T] | ViewType[T],
        *,
        while_alive: bool = False,
    ) -> None:
        self._custom: ViewType[T] = function if isinstance(function, ViewType) else custom_type(function)
        super().__init__(store, path, while_alive=while_alive)

    @property
    def _type(self) -> ViewType[T]:
        return self._custom

    def set(self, payload: Value, *, while_alive: bool | None = None) -> Dot:
        """Write a payload for the function to read."""
        return self._draft(payload, while_alive=while_alive)

    def clear(self) -> Dot | None:
        """Remove what is seen here; None when there is nothing."""
        return self._remove(self._path)

    @property
    def own(self) -> Value:
        """What this shelf shows here, for types that keep a running total; None without."""
        return next((op.payload for op in self._shown() if op.origin == self._store.shelf), None)
