"""Register: the last writer wins, among those that had not seen each other.

An overwrite beats what its author had seen whatever the clocks say (rule 2). Clocks decide only between truly concurrent
writes: the highest (time, origin) counts, so a fast clock wins those, and nothing else.
"""

from __future__ import annotations

from typing import Any, Final

from crdt.ids import Dot
from crdt.ops import Value
from crdt.types.base import ViewType, declare
from crdt.types.cells import newest_value, only_newest
from crdt.types.handle import Handle

REGISTER: Final = declare(ViewType(code=1, name="register", covers="all", view=newest_value, verdicts=only_newest))


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
