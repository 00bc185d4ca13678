"""The push tree: who passes a fresh delta on to whom, computed alike by its author and by every relay.

Everybody knows the members, so nobody needs to gossip blindly. In a small mesh the author sends to all. In a larger one the alive
members in the order of their ids, which are hashes, form a ring. Counted from the author on, it is read as a heap: place 0 is the
author, the children of place i are i * DEGREE + 1 ... i * DEGREE + DEGREE. So each author has relays of its own, the members that
follow it, and a place is found by bisection, whatever the size of the mesh: no table per author, none per member. Suspects get
the delta from the author, but relay nothing. Where two views of the membership differ for a moment somebody may be missed or
served twice; floors and digests repair that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Protocol

from crdt.ids import ReplicaId, ShelfId

DIRECT_MAX: Final = 64
"""Members up to which the author sends to all itself. Measured on two cores: direct push reaches 64 processes in 5.7
ms (p50).
"""
DEGREE: Final = 32
"""Children of a relay: depth 2 reaches 1 + 32 + 1,024. Guess between 16 (less work a relay) and 32 (one hop less at
1,000).
"""


class Living(Protocol):
    """The part of membership that the tree is made of. Without me."""

    @property
    def living(self) -> Sequence[ReplicaId]:
        """Alive and suspect, ascending."""

    def suspects(self) -> Sequence[ReplicaId]:
        """Ascending."""


class Members(Living, Protocol):
    """What sync needs to know of membership."""

    def is_living(self, peer: ReplicaId) -> bool: ...
    def is_reachable(self, peer: ReplicaId) -> bool: ...
    def is_open(self, peer: ReplicaId) -> bool: ...
    def round_trip(self, peer: ReplicaId) -> float: ...
    def typical_round_trip(self) -> float: ...
    def current_shelf(self, peer: ReplicaId) -> ShelfId | None: ...


class PushTree:
    """Answers `targets` by the membership of the moment."""

    def __init__(self, me: ReplicaId, members: Living, direct_max: int = DIRECT_MAX, degree: int = DEGREE) -> None:
        self._me = me
        self._members = members
        self._direct_max = direct_max
        self._degree = degree

    def targets(self, author: ReplicaId) -> Sequence[ReplicaId]:
        """To whom I send a fresh delta of this author; empty when others do that. To be used at once: it may be a list that goes
        on changing.
        """
        alive: Sequence[ReplicaId] = self._members.living
        mine = author == self._me
        if not mine and len(alive) < self._direct_max:
            return ()
        suspects = self._members.suspects()
        if suspects:
            doubted = frozenset(suspects)
            alive = [member for member in alive if member not in doubted]
        if len(alive) < self._direct_max:
            return [*alive, *suspects] if mine else ()
        children = self._children(author, alive)
        return [*children, *suspects] if mine else children

    def _children(self, author: ReplicaId, alive: Sequence[ReplicaId]) -> Sequence[ReplicaId]:
        """On the ring of the alive and me. An author that I do not count among them has its place between two others."""
        size, mine = len(alive) + 1, bisect_left(alive, self._me)
        first = mine if author == self._me else bisect_left(alive, author)
        absent = author != self._me and (first == len(alive) or alive[first] != author)
        if author > self._me:
            first += 1
        heap = size + absent  # how many places it has, the author's included
        place = (mine - first) % size + absent
        low = place * self._degree + 1
        found = []
        for child in range(low, min(low + self._degree, heap)):
            at = (first + child - absent) % size
            found.append(alive[at] if at < mine else alive[at - 1])
        return found
