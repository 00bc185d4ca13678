"""What was found out once: dictionaries that are emptied when they are full.

Where each delivery asks, and with cold caches, `lru_cache` costs four times as much: a tuple for the question, and links between
all that was asked lately.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def remember(known: dict[K, V], key: K, value: V, limit: int) -> V:
    """`value`, which is kept under `key` from now on, until there are `limit` of them."""
    if len(known) >= limit:
        known.clear()
    known[key] = value
    return value
