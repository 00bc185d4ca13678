"""Exactly once: an entry is known by (author, since, number) and counts only the first time.

Two kinds of numbers:

    life << 32 | count    counted by one run of an agent, its *life*: remembered as a window of the newest `WINDOW` outcomes,
                          and what is below the window is refused, so it never needs to be known one by one
    NAMED | hash          made of a key that a user chose: remembered one by one, whatever `since` a retry names

`since` is a log time (or a wall clock) that the author knew when it first asked. A key is remembered until log time is 24 h past
it, and refused from then on, so what was forgotten cannot be done again. Where memory runs out before the 24 h do, the oldest
lives go first and `floor` rises with them: still refused, never done twice. Names are never forgotten before their time, because
a retry may name a new `since`: an author that holds its share of them has to wait with the next one (`FULL`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Any, Final, NamedTuple

from consensus_escalation.types import are_numbers

REMEMBERED_MICROSECONDS: Final = 24 * 3600 * 1_000_000
AHEAD_MICROSECONDS: Final = 2 * 3600 * 1_000_000
"""How far `since` may be ahead of log time: an agent's own clock may be an hour off its peers' median (DESIGN section 1) and the
leader's another. It is only remembered the longer."""
WINDOW: Final = 256
"""Outcomes of one life; so many writes of one run may be on their way at once. A leader's window of blocks, and 10 kB."""
OUTCOMES_MAX: Final = 131_072
"""Of all sessions together, about 20 MB in Python; a day of three writes in two seconds. Above it, the oldest lives are
forgotten."""
NAMES_MAX: Final = OUTCOMES_MAX // 2
"""Of those, with a name. One author may hold as many as are left for others: alone one name every 2.6 s for a day, and however
many take what they can get, a newcomer has as much as each of them (the dynamic thresholds of Choudhury and Hahne, 1998)."""
NAMED: Final = 1 << 63
LIFE_BITS: Final = 31
COUNT_BITS: Final = 32
COUNT_MASK: Final = (1 << COUNT_BITS) - 1


class Key(NamedTuple):
    since: int
    author: bytes
    number: int

    @property
    def is_named(self) -> bool:
        return self.number >= NAMED


class Admission(Enum):
    FRESH = "fresh"
    REPEATED = "repeated"
    TOO_OLD = "too old"
    FROM_THE_FUTURE = "from the future"
    FULL = "this author has named more writes within 24 h than the quorum can remember"


class Past(NamedTuple):
    """What became of an entry."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    term: int
    reason: str = ""
    """Why it is void; empty when it was done."""
    check: int = 0
    """With a name, of what it asked for: the same name for something else is a mistake, and must not look done."""


LifeKey = tuple[int, bytes, int]
"""(since, author, life)."""
NameKey = tuple[bytes, int]
"""(author, number)."""


@dataclass(slots=True)
class Life:
    highest: int = 0
    outcomes: dict[int, Past] = field(default_factory=dict)
    """Count -> what became of it."""


class Sessions:
    def __init__(self) -> None:
        self._lives: dict[LifeKey, Life] = {}
        self._named: dict[NameKey, tuple[int, Past]] = {}
        self._names_of: Counter[bytes] = Counter()
        """Author -> how many names of it are remembered."""
        self._oldest_lives: list[LifeKey] = []
        self._oldest_names: list[tuple[int, bytes, int]] = []
        """(since, author, number)."""
        self.count = 0
        self.floor = 0
        """Keys up to this `since` were forgotten before their time."""

    def judge(self, key: Key, time: int) -> Admission:
        """`time`: the log time at the entry's block, or the newest one when asked ahead."""
        if self.recall(key) is not None:
            return Admission.REPEATED
        if key.since > time + AHEAD_MICROSECONDS:
            return Admission.FROM_THE_FUTURE
        if key.since < time - REMEMBERED_MICROSECONDS or key.since <= self.floor:
            return Admission.TOO_OLD
        if not key.is_named:
            life = self._lives.get(_life_of(key))
            if life is not None and _count_of(key) <= life.highest - WINDOW:
                return Admission.TOO_OLD
        elif self._names_of[key.author] >= NAMES_MAX - len(self._named):
            return Admission.FULL
        return Admission.FRESH

    def recall(self, key: Key) -> Past | None:
        """What became of this key, while it is remembered."""
        if key.is_named:
            held = self._named.get((key.author, key.number))
            return held[1] if held else None
        life = self._lives.get(_life_of(key))
        return life.outcomes.get(_count_of(key)) if life else None

    def admit(self, key: Key, time: int, past: Past) -> Admission:
        """`judge`; and what is FRESH is remembered. In one look for what nearly all entries are, the next of a life."""
        since, author, number = key
        life, count = self._lives.get((since, author, number >> COUNT_BITS)), number & COUNT_MASK
        is_next = life is not None and count == life.highest + 1 and number < NAMED and self.count < OUTCOMES_MAX
        if is_next and time - REMEMBERED_MICROSECONDS <= since <= time + AHEAD_MICROSECONDS and since > self.floor:
            assert life is not None
            life.highest, life.outcomes[count] = count, past
            self.count += life.outcomes.pop(count - WINDOW, None) is None
            return Admission.FRESH
        admission = self.judge(key, time)
        if admission is Admission.FRESH:
            self.remember(key, past)
        return admission

    def remember(self, key: Key, past: Past) -> None:
        """`judge` said FRESH; or it is the same key again, and more is known of what became of it."""
        if key.is_named:
            self._remember_name(key, past)
        else:
            self._remember_count(key, past)
        while self.count > OUTCOMES_MAX and self._oldest_lives:
            self.floor = max(self.floor, self._oldest_lives[0][0])
            self._forget_life()

    def _remember_name(self, key: Key, past: Past) -> None:
        name = (key.author, key.number)
        if name not in self._named:
            self.count += 1
            self._names_of[key.author] += 1
            heappush(self._oldest_names, (key.since, key.author, key.number))
        self._named[name] = (key.since, past)

    def _remember_count(self, key: Key, past: Past) -> None:
        place, count = _life_of(key), _count_of(key)
        life = self._lives.get(place)
        if life is None:
            life = self._lives[place] = Life()
            heappush(self._oldest_lives, place)
        self.count += count not in life.outcomes
        life.outcomes[count] = past
        if count > life.highest:
            self._slide(life, count)

    def _slide(self, life: Life, highest: int) -> None:
        low = highest - WINDOW
        if highest - life.highest > WINDOW:
            gone = [count for count in life.outcomes if count <= low]
        else:
            gone = [count for count in range(life.highest - WINDOW + 1, low + 1) if count in life.outcomes]
        for count in gone:
            del life.outcomes[count]
        self.count -= len(gone)
        life.highest = highest

    def forget_before(self, time: int) -> None:
        while self._oldest_lives and self._oldest_lives[0][0] < time - REMEMBERED_MICROSECONDS:
            self._forget_life()
        while self._oldest_names and self._oldest_names[0][0] < time - REMEMBERED_MICROSECONDS:
            _, author, number = heappop(self._oldest_names)
            del self._named[author, number]
            self._names_of[author] -= 1
            if not self._names_of[author]:
                del self._names_of[author]
            self.count -= 1

    def _forget_life(self) -> None:
        self.count -= len(self._lives.pop(heappop(self._oldest_lives)).outcomes)

    # ---- as values

    def to_value(self) -> list[object]:
        rows: list[list[object]] = []
        for place, life in sorted(self._lives.items()):
            rows.append([*place, life.highest, [[count, *past] for count, past in sorted(life.outcomes.items())]])
        rows += [[since, *name, *past] for name, (since, past) in sorted(self._named.items())]
        return [self.floor, rows]

    def load(self, value: Any) -> None:
        """Into an empty one. Raises TypeError or ValueError for anything that `to_value` does not make: it would not show before
        a key is looked for, or forgotten."""
        self.floor, rows = value
        _check_numbers(self.floor)
        for row in rows:
            if len(row) == 5:
                self._load_life(*row)
            else:
                self._load_name(*row)
        heapify(self._oldest_lives)
        heapify(self._oldest_names)
        if self.count > OUTCOMES_MAX or len(self._named) > NAMES_MAX:
            raise ValueError("more outcomes than are ever kept")

    def _load_life(self, since: Any, author: Any, life: Any, highest: Any, rows: Any) -> None:
        _check_numbers(since, life, highest, *[count for count, *_ in rows])
        place, outcomes = (since, _author(author), life), {count: _past(*past) for count, *past in rows}
        if place in self._lives or len(outcomes) < len(rows) or max(life >> LIFE_BITS, highest >> COUNT_BITS):
            raise ValueError("a life twice, or beyond its numbers")
        if any(not highest - WINDOW < count <= highest for count in outcomes):
            raise ValueError("outcomes outside of the window")
        self._lives[place] = Life(highest, outcomes)
        self._oldest_lives.append(place)
        self.count += len(rows)

    def _load_name(self, since: Any, author: Any, number: Any, *past: Any) -> None:
        _check_numbers(since, number)
        if (_author(author), number) in self._named or number < NAMED:
            raise ValueError("a name twice, or none")
        self._named[author, number] = (since, _past(*past))
        self._oldest_names.append((since, author, number))
        self._names_of[author] += 1
        self.count += 1


def _past(index: Any, term: Any, reason: Any, check: Any) -> Past:
    _check_numbers(index, term, check)
    if type(reason) is not str:
        raise TypeError("a reason is a text")
    return Past(index, term, reason, check)


def _author(value: Any) -> bytes:
    if type(value) is not bytes:
        raise TypeError("an author is some bytes")
    return value


def _check_numbers(*numbers: Any) -> None:
    if not are_numbers(numbers):
        raise TypeError("numbers")


def _life_of(key: Key) -> LifeKey:
    return (key.since, key.author, key.number >> COUNT_BITS)


def _count_of(key: Key) -> int:
    return key.number & COUNT_MASK
