"""Multi-value register: concurrent writes are all kept until a write has seen them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from crdt.ids import Dot
from crdt.ops import Op, Value
from crdt.types.base import ViewType, declare
from crdt.types.cells import plain
from crdt.types.handle import Handle


def view(shown: Sequence[Op]) -> list[Any]:
    """Every value, the newest first by (time, origin): the first is what a register would show."""
    return [plain(op.payload) for op in sorted(shown, key=lambda op: (op.time, op.origin), reverse=True)]


MULTI_VALUE: Final = declare(ViewType(code=2, name="multi-value register", covers="all", view=view))


class MultiValue(Handle[list[Any]]):
    """All values that nobody has replaced. `set` replaces those that are seen here, and so settles a conflict."""

    TYPE = MULTI_VALUE
    __slots__ = ()

    def set(self, value: Value, *, while_alive: bool | None = None) -> Dot:
        return self._draft(value, while_alive=while_alive)

    def clear(self) -> Dot | None:
        """Remove the values seen here; None when there are none."""
        return self._remove(self._path)

    def __len__(self) -> int:
        return len(self._shown())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __contains__(self, value: object) -> bool:
        return value in self.value
