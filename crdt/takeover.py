"""Who speaks for the writes of a shelf whose author started again (DESIGN section 1, rule 8).

A takeover op on shelf H at key (former shelf,) says: I hold what S(n) of the former held, and its loose deltas `extra`. From
then on H alone speaks for those writes, unless H is taken over itself after it said so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, cast

from crdt.ids import ShelfId
from crdt.limits import CORE_TYPE, SEQ_LIMIT
from crdt.ops import Key, Op, Value


class Record(NamedTuple):
    """What the takeovers of one former shelf by one host say together."""

    n: int = 0
    finished: bool = False
    """No more of the former is expected: covers of its writes that nobody holds are gone."""
    own_disk: bool = False
    """The host found S(n) on its own disk, so that it knows what the former spent, too (bounded counters)."""
    extra: tuple[tuple[int, int], ...] = ()
    """Runs (first, last) of deltas after n that the host issued again. Runs stay runs: they may come from the wire."""
    whole: bool = False
    """The former had ended (`crdt.ended`): what survives of it was issued again here, and the host speaks for all of it."""

    def speaks(self, seq: int) -> bool:
        return self.whole or seq <= self.n or any(first <= seq <= last for first, last in self.extra)

    def join(self, other: Record) -> Record:
        n = max(self.n, other.n)
        finished, own_disk = self.finished or other.finished, self.own_disk or other.own_disk
        return Record(n, finished, own_disk, _runs(n, self.extra + other.extra), self.whole or other.whole)

    def payload(self) -> tuple[Value, ...]:
        """[n, flags, gap, run, ...]: each run by its distance from what came before it, and its length less one."""
        numbers: list[int] = []
        last = self.n
        for first, end in self.extra:
            numbers += (first - last - 1, end - first)
            last = end
        return (self.n, FINISHED * self.finished | OWN_DISK * self.own_disk | WHOLE * self.whole, *numbers)


NOTHING: Final = Record()
FINISHED: Final = 1
OWN_DISK: Final = 2
WHOLE: Final = 4


def is_record_untrusted(payload: Value) -> bool:
    """Whether a takeover may say this."""
    if type(payload) is not tuple or len(payload) < 2 or len(payload) % 2:
        return False
    return all(type(number) is int and 0 <= number < SEQ_LIMIT for number in payload)


def record_of(payload: Value) -> Record:
    """Of a takeover op whose form was checked."""
    n, flags, *numbers = cast(tuple[int, ...], payload)
    runs = []
    last = n
    for at in range(0, len(numbers), 2):
        first = last + 1 + numbers[at]
        last = first + numbers[at + 1]
        runs.append((first, last))
    return Record(n, bool(flags & FINISHED), bool(flags & OWN_DISK), _runs(n, runs), bool(flags & WHOLE))


def runs_of(seqs: Iterable[int]) -> tuple[tuple[int, int], ...]:
    return _runs(0, [(seq, seq) for seq in seqs])


def _runs(n: int, runs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ascending, apart from each other, above n. n itself does not move: a run does not say that the deltas below it are
    known."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        first = max(first, n + 1)
        if first > last:
            continue
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def former_of(op: Op) -> ShelfId:
    """Whose shelf a takeover op takes over."""
    return cast(ShelfId, op.path[0])


def takeover_key(former: ShelfId) -> Key:
    return (CORE_TYPE, (former,))


class Records:
    """Every takeover that some base holds."""

    __slots__ = ("_spoken_by", "said")

    def __init__(self) -> None:
        self._spoken_by: dict[ShelfId, set[ShelfId]] = {}
        self.said: dict[ShelfId, dict[ShelfId, tuple[int, Record]]] = {}
        """former -> host -> (place in the host's chain, record)."""

    def renew(self, former: ShelfId, said: dict[ShelfId, tuple[int, Record]]) -> None:
        """All that is said about this former shelf."""
        for host in self.said.get(former, {}).keys() - said.keys():
            formers = self._spoken_by[host]
            formers.discard(former)
            if not formers:
                del self._spoken_by[host]
        for host in said:
            self._spoken_by.setdefault(host, set()).add(former)
        if said:
            self.said[former] = said
        else:
            self.said.pop(former, None)

    def spoken_by(self, host: ShelfId) -> set[ShelfId]:
        """The former shelves of which `host` says something."""
        return self._spoken_by.get(host, set())

    def of(self, former: ShelfId, host: ShelfId) -> Record | None:
        found = self.said.get(former, {}).get(host)
        return found[1] if found else None

    def standing(self, former: ShelfId) -> list[tuple[ShelfId, Record]]:
        """(host, record) of those who still speak: a host that was taken over after it said so does not."""
        return [(host, record) for host, (place, record) in self.said.get(former, {}).items() if not self._succeeded(host, place)]

    def _succeeded(self, host: ShelfId, place: int) -> bool:
        return any(heir != host and record.speaks(place) for heir, (_, record) in self.said.get(host, {}).items())

    def speakers(self, former: ShelfId, seq: int) -> set[ShelfId]:
        """The shelves that speak for delta `seq` of a former shelf; empty while it speaks for itself."""
        return {host for host, record in self.standing(former) if record.speaks(seq)}

    def is_closed(self, former: ShelfId) -> bool:
        """Somebody speaks for all that was ever written there."""
        return former in self.said and any(record.whole for _, record in self.standing(former))

    def known(self, former: ShelfId) -> int:
        """The highest n that was taken over."""
        return max((SEQ_LIMIT if record.whole else record.n for _, record in self.standing(former)), default=0)
