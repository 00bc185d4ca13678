"""Exactly once: an entry is known by (author, since, number) and counts only the first time.

`since` is the log time that the author knew when it first asked. Log time never falls and nobody knows a later one, so age needs
no client's clock: a key is remembered until log time is 24 h past its `since`, and refused from then on, so what was forgotten
cannot be done again.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from heapq import heappop, heappush
from typing import Final, NamedTuple

REMEMBERED_MICROSECONDS: Final = 24 * 3600 * 1_000_000


class Key(NamedTuple):
    since: int
    author: bytes
    number: int


class Admission(Enum):
    FRESH = "fresh"
    REPEATED = "repeated"
    TOO_OLD = "too old"
    FROM_THE_FUTURE = "from the future"


class Sessions:
    def __init__(self, known: Iterable[tuple[Key, int]] = ()) -> None:
        self._where: dict[Key, int] = dict(known)
        self._oldest: list[Key] = sorted(self._where)

    def judge(self, key: Key, time: int) -> Admission:
        """`time`: the log time at the entry's block, or the newest one when asked ahead."""
        if key in self._where:
            return Admission.REPEATED
        if key.since > time:
            return Admission.FROM_THE_FUTURE
        return Admission.TOO_OLD if key.since < time - REMEMBERED_MICROSECONDS else Admission.FRESH

    def where(self, key: Key) -> int | None:
        """Index of the block that brought this key, while it is remembered."""
        return self._where.get(key)

    def remember(self, key: Key, index: int) -> None:
        self._where[key] = index
        heappush(self._oldest, key)

    def forget_before(self, time: int) -> None:
        while self._oldest and self._oldest[0].since < time - REMEMBERED_MICROSECONDS:
            self._where.pop(heappop(self._oldest), None)

    def rows(self) -> list[tuple[Key, int]]:
        return sorted(self._where.items())
