"""The push tree: who passes a fresh delta on to whom, computed alike by its author and by every relay.

Everybody knows the members, so nobody needs to gossip blindly. In a small mesh the author sends to all. In a larger
one the alive members, in the order of a hash keyed with the author's id (rendezvous hashing), are laid out as a heap:
position 0 is the author, the children of position i are i * DEGREE + 1 ... i * DEGREE + DEGREE. Suspects get the
delta from the author, but relay nothing. Where two views of the membership differ for a moment somebody may be missed
or served twice; floors and digests repair that.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from crdt.ids import ReplicaId

DIRECT_MAX: Final = 64
"""Members up to which the author sends to all itself. Measured on two cores: direct push reaches 64 processes in 5.7
ms (p50).
"""
DEGREE: Final = 32
"""Children of a relay: depth 2 reaches 1 + 32 + 1,024. Guess between 16 (less work a relay) and 32 (one hop less at
1,000).
"""
CACHED_MAX: Final = 256
"""Trees kept for one view of the membership: authors that write often. Above it all are forgotten and made anew."""


class PushTree:
    """Answers `targets` for the current membership; trees are made once per author and membership."""

    def __init__(self, me: ReplicaId, direct_max: int = DIRECT_MAX, degree: int = DEGREE) -> None:
        self._me = me
        self._direct_max = direct_max
        self._degree = degree
        self._alive: tuple[ReplicaId, ...] = ()
        self._suspects: tuple[ReplicaId, ...] = ()
        self._children: dict[ReplicaId, tuple[ReplicaId, ...]] = {}

    def set_members(self, alive: Sequence[ReplicaId], suspects: Sequence[ReplicaId]) -> None:
        """Both without me, sorted."""
        if (tuple(alive), tuple(suspects)) != (self._alive, self._suspects):
            self._alive, self._suspects = tuple(alive), tuple(suspects)
            self._children.clear()

    def targets(self, author: ReplicaId) -> tuple[ReplicaId, ...]:
        """To whom I send a fresh delta of this author; empty when others do that."""
        if author not in self._children:
            if len(self._children) >= CACHED_MAX:
                self._children.clear()
            self._children[author] = self._compute(author)
        return self._children[author]

    def _compute(self, author: ReplicaId) -> tuple[ReplicaId, ...]:
        mine = author == self._me
        if len(self._alive) + 1 <= self._direct_max:
            return self._alive + self._suspects if mine else ()
        order = sorted(
            {*self._alive, self._me} - {author}, key=lambda member: blake2b(member, key=author, digest_size=8).digest()
        )
        heap = [author, *order]
        at = heap.index(self._me)
        children = tuple(heap[at * self._degree + 1 : at * self._degree + self._degree + 1])
        return children + self._suspects if mine else children
