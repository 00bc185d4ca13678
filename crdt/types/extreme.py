"""Maximum and minimum: the highest, or lowest, number that anybody gave.

Every shelf writes its own running extreme and covers nothing, so nothing is lost to concurrency. A removal covers the
extremes that its author has seen; an author whose extreme is covered starts again with its next number. Known edge, as with
counters: a number given concurrently with the removal brings back its author's extreme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

from crdt.errors import UnsupportedValue
from crdt.ids import Dot
from crdt.ops import Op
from crdt.types.base import ViewType, declare
from crdt.types.handle import Handle

Number: TypeAlias = int | float


def number_of(op: Op) -> Number | None:
    """The number in a cell; None for what is none, NaN included."""
    payload = op.payload
    if isinstance(payload, bool) or not isinstance(payload, int | float) or math.isnan(payload):
        return None
    return payload


def numbers_of(shown: Sequence[Op]) -> list[Number]:
    """In an order that is the same everywhere: 1 and 1.0 are equal, and the first of equals is picked."""
    return [number for op in sorted(shown, key=lambda op: op.origin) if (number := number_of(op)) is not None]


def maximum_view(shown: Sequence[Op]) -> Number | None:
    return max(numbers_of(shown), default=None)


def minimum_view(shown: Sequence[Op]) -> Number | None:
    return min(numbers_of(shown), default=None)


def _verdicts(shown: Sequence[Op], extreme: Number | None, word: str) -> list[str]:
    reasons = []
    for op in shown:
        number = number_of(op)
        if number is None:
            reasons.append("ignored: not a number")
        else:
            reasons.append("shown" if number == extreme else f"loses: there is a {word} number")
    return reasons


def maximum_verdicts(shown: Sequence[Op]) -> list[str]:
    return _verdicts(shown, maximum_view(shown), "higher")


def minimum_verdicts(shown: Sequence[Op]) -> list[str]:
    return _verdicts(shown, minimum_view(shown), "lower")


MAXIMUM: Final = declare(ViewType(code=5, name="maximum", covers="own", view=maximum_view, verdicts=maximum_verdicts))
MINIMUM: Final = declare(ViewType(code=6, name="minimum", covers="own", view=minimum_view, verdicts=minimum_verdicts))


class Extreme(Handle[Number | None]):
    """`update(n)` offers a number, `.value` is the most extreme of all; None where there is none."""

    __slots__ = ()

    @staticmethod
    def _pick(numbers: Sequence[Number]) -> Number:
        raise NotImplementedError

    def update(self, number: Number, *, while_alive: bool | None = None) -> Dot:
        """Offer a number. Always writes: one that changes nothing now still survives a removal that has not seen it.

        Raises UnsupportedValue for what is not a number.
        """
        if isinstance(number, bool) or not isinstance(number, int | float) or math.isnan(number):
            raise UnsupportedValue(f"a {self._type.name} takes numbers, not {number!r:.40}")
        own = numbers_of([op for op in self._shown() if op.origin == self._store.shelf])
        return self._draft(self._pick([*own, number]), while_alive=while_alive)

    def clear(self) -> Dot | None:
        """Forget the numbers seen here; None when there are none."""
        return self._remove(self._path)


class Maximum(Extreme):
    TYPE = MAXIMUM
    __slots__ = ()

    @staticmethod
    def _pick(numbers: Sequence[Number]) -> Number:
        return max(numbers)


class Minimum(Extreme):
    TYPE = MINIMUM
    __slots__ = ()

    @staticmethod
    def _pick(numbers: Sequence[Number]) -> Number:
        return min(numbers)
