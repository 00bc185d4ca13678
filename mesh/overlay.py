"""A table that many hold alike, with what differs for each of them.

Ten thousand agents of a settled mesh believe the same of each other. Simulated in one process they share one table of that, the
*base*, which nobody changes any more, and each keeps only the entries that it has asked for. A real agent has no base: its table
is an ordinary one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Overlay(Generic[K, V]):
    """What is asked for by its key may be changed: it is copied from the base at the first time. What is only looked at (`peek`,
    `items`) is nobody's own and must not be changed.
    """

    __slots__ = ("_base", "_copy", "_hidden", "_own")

    def __init__(self, base: Mapping[K, V] | None = None, copy: Callable[[V], V] | None = None) -> None:
        """`base`: never changes again. `copy`: makes an entry of one's own; without it entries are values that do not change."""
        self._base: Mapping[K, V] = {} if base is None else base
        self._copy = copy
        self._own: dict[K, V] = {}
        self._hidden: set[K] = set()
        """Keys of the base whose entry there does not count here: removed, or with another one in `_own`."""

    def get(self, key: K) -> V | None:
        """To work with."""
        found = self._own.get(key)
        if found is None and key in self._base and key not in self._hidden:
            found = self._base[key]
            if self._copy is not None:
                self[key] = found = self._copy(found)
        return found

    def peek(self, key: K) -> V | None:
        """To look at."""
        found = self._own.get(key)
        if found is None and key not in self._hidden:
            found = self._base.get(key)
        return found

    def __getitem__(self, key: K) -> V:
        """As `get`. Raises KeyError."""
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: K, value: V) -> None:
        self._own[key] = value
        if key in self._base:
            self._hidden.add(key)

    def pop(self, key: K) -> V | None:
        """Takes it out; what there was."""
        found = self.get(key)
        if found is not None:
            self._own.pop(key, None)
            if key in self._base:
                self._hidden.add(key)
        return found

    def __contains__(self, key: object) -> bool:
        return key in self._own or (key in self._base and key not in self._hidden)

    def __len__(self) -> int:
        return len(self._own) + len(self._base) - len(self._hidden)

    def __iter__(self) -> Iterator[K]:
        """The keys of the base first, then one's own."""
        for key in self._base:
            if key not in self._hidden:
                yield key
        yield from self._own

    def items(self) -> Iterator[tuple[K, V]]:
        """To look at. Order as in iteration."""
        for key, value in self._base.items():
            if key not in self._hidden:
                yield key, value
        yield from self._own.items()

    def copy(self) -> Overlay[K, V]:
        """On the same base. Entries that can change are copied, too."""
        other = Overlay(self._base, self._copy)
        other._own = dict(self._own) if self._copy is None else {key: self._copy(value) for key, value in self._own.items()}
        other._hidden = set(self._hidden)
        return other
