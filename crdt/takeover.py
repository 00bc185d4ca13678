"""Who speaks for the writes of a shelf whose author started again (DESIGN section 1, rule 8).

A takeover op on shelf H at key (former shelf,) says: I hold what S(n) of the former held, and its loose deltas `extra`. From then on H alone
speaks for those writes, unless H is taken over itself after it said so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from crdt.body import CORE_TYPE
from crdt.ids import ShelfId
from crdt.ops import Key, Value


class Record(NamedTuple):
    """What the takeovers of one former shelf by one host say together."""

    n: int = 0
    finished: bool = False
    """No more of the former is expected: covers of its writes that nobody holds are gone."""
    extra: tuple[tuple[int, int], ...] = ()
    """Runs (first, last) of deltas after n that the host issued again. Runs stay runs: they may come from the wire."""

    def speaks(self, seq: int) -> bool:
        return seq <= self.n or any(first <= seq <= last for first, last in self.extra)

    def join(self, other: Record) -> Record:
        n = max(self.n, other.n)
        return Record(n, self.finished or other.finished, _runs(n, self.extra + other.extra))

    def payload(self) -> tuple[Value, ...]:
        """[n, finished, gap, run, ...]: each run by its distance from what came before it, and its length less one."""
        numbers: list[int] = []
        last = self.n
        for first, end in self.extra:
            numbers += (first - last - 1, end - first)
            last = end
        return (self.n, self.finished, *numbers)


NOTHING: Final = Record()


def record_of(payload: Value) -> Record:
    """Of a takeover op, whose form `body_from_bytes_untrusted` has checked."""
    assert isinstance(payload, tuple)
    n, finished, *numbers = payload
    assert isinstance(n, int)
    runs = []
    last = n
    for at in range(0, len(numbers), 2):
        gap, run = numbers[at : at + 2]
        assert isinstance(gap, int)
        assert isinstance(run, int)
        first = last + 1 + gap
        last = first + run
        runs.append((first, last))
    return Record(n, bool(finished), _runs(n, runs))


def record_with(n: int, seqs: Iterable[int], *, finished: bool) -> Record:
    return Record(n, finished, _runs(n, [(seq, seq) for seq in seqs]))


def _runs(n: int, runs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ascending, apart from each other, above n. n itself does not move: `extra` does not say that the deltas below are known."""
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


def takeover_key(former: ShelfId) -> Key:
    return (CORE_TYPE, (former,))


class Records:
    """Every takeover that some base holds."""

    __slots__ = ("_spoken_by", "said")

    def __init__(self) -> None:
        self._spoken_by: dict[ShelfId, set[ShelfId]] = {}
        self.said: dict[ShelfId, dict[ShelfId, tuple[int, Record]]] = {}
        """former -> host -> (place in the host's chain, record)."""

    def __contains__(self, former: ShelfId) -> bool:
        return former in self.said

    def put(self, former: ShelfId, host: ShelfId, place: int, record: Record) -> None:
        self.said.setdefault(former, {})[host] = (place, record)
        self._spoken_by.setdefault(host, set()).add(former)

    def spoken_by(self, host: ShelfId) -> set[ShelfId]:
        """The former shelves of which `host` says something."""
        return self._spoken_by.get(host, set())

    def remove(self, former: ShelfId, host: ShelfId) -> None:
        hosts = self.said.get(former, {})
        hosts.pop(host, None)
        if not hosts:
            self.said.pop(former, None)
        formers = self._spoken_by.get(host, set())
        formers.discard(former)
        if not formers:
            self._spoken_by.pop(host, None)

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

    def known(self, former: ShelfId) -> int:
        """The highest n that was taken over."""
        return max((record.n for _, record in self.standing(former)), default=0)
