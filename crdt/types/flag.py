"""Flags: on or off, and who wins when both are said at once.

Enable-wins: `disable` removes the enablings that it has seen, and no other. Disable-wins: `disable` is a value of its own
that stays until an `enable` has seen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crdt.ids import Dot
from crdt.ops import Op
from crdt.types.base import ViewType, declare
from crdt.types.handle import Handle


def enable_wins_view(shown: Sequence[Op]) -> bool:
    """On if an enabling is shown, whatever its payload."""
    return bool(shown)


def disable_wins_view(shown: Sequence[Op]) -> bool:
    """On if an enabling is shown and no disabling. Anything but True disables: the safe reading of what nobody should have
    written."""
    return bool(shown) and all(op.payload is True for op in shown)


def disable_wins_verdicts(shown: Sequence[Op]) -> list[str]:
    if disable_wins_view(shown):
        return ["shown"] * len(shown)
    return ["loses: a concurrent disabling wins" if op.payload is True else "shown" for op in shown]


ENABLE_WINS_FLAG: Final = declare(ViewType(code=7, name="enable-wins flag", covers="all", view=enable_wins_view))
DISABLE_WINS_FLAG: Final = declare(
    ViewType(code=8, name="disable-wins flag", covers="all", view=disable_wins_view, verdicts=disable_wins_verdicts)
)


class Flag(Handle[bool]):
    """`flag.enable()`, `flag.disable()`, `if flag:`. Enabling beats a disabling that has not seen it."""

    TYPE = ENABLE_WINS_FLAG
    __slots__ = ()

    def enable(self, *, while_alive: bool | None = None) -> Dot:
        return self._draft(True, while_alive=while_alive)

    def disable(self) -> Dot | None:
        """None when it is off already: there is nothing to remove."""
        return self._remove(self._path)

    def clear(self) -> Dot | None:
        """Remove all that is seen here, so that the path can be used for something else."""
        return self._remove(self._path)

    def __bool__(self) -> bool:
        return self.value


class DisableWinsFlag(Flag):
    """Disabling beats an enabling that has not seen it: for permissions and safety stops."""

    TYPE = DISABLE_WINS_FLAG
    __slots__ = ()

    def disable(self, *, while_alive: bool | None = None) -> Dot:
        """Always writes: it must also beat an enabling that is on its way."""
        return self._draft(False, while_alive=while_alive)
