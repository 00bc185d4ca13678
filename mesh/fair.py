"""Fair bounded memory: whoever fills it loses first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def loser(owners: Mapping[K, Hashable]) -> K:
    """Which entry has to go from a full table, given who brought each, oldest first: the oldest of whoever brought most.

    So one peer can push out its own entries only, as long as it holds more than anybody else. Of two that hold as many, the one
    with the older entry loses. Looks at the whole table: for small ones. Raises ValueError for an empty one.
    """
    held = Counter(owners.values())
    most = max(held.values(), default=0)
    for entry, owner in owners.items():
        if held[owner] == most:
            return entry
    raise ValueError("nothing to choose from")
