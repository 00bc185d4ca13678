"""Register: the last writer wins, among those that had not seen each other.

An overwrite beats what its author had seen whatever the clocks say (rule 2). Clocks decide only between truly concurrent
writes: the highest (time, origin) counts, so a fast clock wins those, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from crdt.ids import Dot
from crdt.ops import Op, Value
from crdt.types.base import ViewType, declare
from crdt.types.cells import newest, only_newest, plain
from crdt.types.handle import Handle


def view(shown: Sequence[Op]) -> Any:
    """The winner's value; None where nothing is shown."""
    return plain(newest(shown).payload) if shown else None


REGISTER: Final = declare(ViewType(code=1, name="register", covers="all", view=view, verdicts=only_newest))


class Register(Handle[Any]):
    """One value. `register.set(v)`, `register.value`, `register.clear()`."""

    TYPE = REGISTER
    __slots__ = ()

    def set(self, value: Value, *, while_alive: bool | None = None) -> Dot:
        return self._draft(value, while_alive=while_alive)

    def clear(self) -> Dot | None:
        """Remove what is seen here; None when there is nothing. A concurrent `set` survives."""
        return self._remove(self._path)

    @property
    def exists(self) -> bool:
        """Tells a register that holds None from one that holds nothing."""
        return bool(self._shown())
