"""The digest of a state made of many small elements: O(1) for each change, however large the state.

An incremental set hash (`crdt.digest.SetHash`) over the hash of every element. Changes are only noted; an element that changes
ten times between two digests is hashed once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from crdt.digest import SetHash, digest_16

K = TypeVar("K", bound=Hashable)
_NOWHERE = b""


class StateHash(Generic[K]):
    def __init__(self, read: Callable[[K], bytes | None]) -> None:
        """`read`: the bytes of an element, which have to name its key too; None when it is not there."""
        self._read = read
        self._sum = SetHash()
        self._counted: dict[K, bytes] = {}
        self._changed: dict[K, None] = {}

    def touch(self, key: K) -> None:
        self._changed[key] = None

    def digest(self) -> bytes:
        """16 bytes."""
        for key in self._changed:
            raw = self._read(key)
            new = digest_16(raw) if raw is not None else _NOWHERE
            old = self._counted.get(key, _NOWHERE)
            if new == old:
                continue
            if old:
                self._sum.remove(0, _NOWHERE, 0, old, 0)
            if new:
                self._sum.add(0, _NOWHERE, 0, new, 0)
                self._counted[key] = new
            else:
                del self._counted[key]
        self._changed.clear()
        return self._sum.digest()
