"""Whether a history of critical reads and writes is linearizable: each seems to happen at one moment between call and return.

The search of Wing and Gong (1993) with Lowe's memory of what was tried (2017), as Porcupine does it: path by path, for what holds
of each path holds of all (Herlihy and Wing 1990, locality). Of orders that differ in nothing that anybody saw, one is tried. An
operation whose outcome is unknown stays open for ever: it may happen at any time after its call, or never.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

SET, GET, SWAP = "set", "get", "compare_and_set"
UNKNOWN: Final = "unknown"
DONE: Final = "done"


class Mismatch(NamedTuple):
    """What a compare-and-set found instead."""

    value: Hashable


class Operation(NamedTuple):
    process: int
    path: str
    kind: str
    called: float
    returned: float = inf
    """`inf` for whatever has not returned, or returned without a definite outcome."""
    value: Hashable = None
    """SET, SWAP: what is written. None removes."""
    expected: Hashable = None
    """SWAP: what has to be there."""
    result: Hashable = UNKNOWN
    """SET: DONE. SWAP: DONE or Mismatch. GET: the value. What was definitely not done is left out of a history."""

    def __str__(self) -> str:
        end = "?" if self.returned == inf else f"{self.returned:.6f}"
        what = {SET: f"set {self.value!r}", GET: "get", SWAP: f"{self.expected!r} -> {self.value!r}"}[self.kind]
        return f"[{self.called:.6f}, {end}] {self.process}: {self.path} {what} = {self.result!r}"


def step(state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
    """(whether the result fits, the state after it)."""
    result = operation.result
    match operation.kind:
        case "set":
            return True, operation.value
        case "get":
            return result in (UNKNOWN, state), state
        case "compare_and_set":
            fits = state == operation.expected
            if result == UNKNOWN:
                return True, operation.value if fits else state
            if isinstance(result, Mismatch):
                return not fits and result.value == state, state
            return fits, operation.value
        case _:
            raise ValueError(f"{operation.kind} is no operation")


@dataclass(frozen=True, slots=True)
class Violation:
    """No order explains what was seen at this path."""

    path: str
    operations: tuple[Operation, ...]
    explained: int
    """The longest order that was tried has so many of them; what nobody saw is counted with it."""

    def __str__(self) -> str:
        lines = [
            f"{self.path} is not linearizable: of {len(self.operations)} operations no order tried has more than {self.explained}"
        ]
        return "\n".join([*lines, *map(str, self.operations)])


def check(history: Iterable[Operation], initial: Hashable = None) -> list[Violation]:
    """Empty when every path is linearizable. Values should be unique, so that reads say which write they saw."""
    paths: dict[str, list[Operation]] = {}
    for operation in history:
        paths.setdefault(operation.path, []).append(operation)
    found = []
    for path, operations in sorted(paths.items()):
        relevant = _relevant(operations)
        explained = _Search(relevant, initial).longest()
        if explained is not None:
            found.append(Violation(path, tuple(relevant), explained))
    return found


def _relevant(operations: Sequence[Operation]) -> list[Operation]:
    """By their calls. Open operations that explain nothing are left out: reads, and writes of what nobody ever saw."""
    seen: set[Hashable] = set()
    for operation in operations:
        if operation.returned < inf:
            seen.add(operation.result.value if isinstance(operation.result, Mismatch) else operation.result)
            seen.add(operation.expected)
    chains = True
    while chains:  # what an open compare-and-set expects, another open write may have written
        chains = False
        for operation in operations:
            is_open_swap = operation.returned == inf and operation.kind == SWAP and operation.value in seen
            if is_open_swap and operation.expected not in seen:
                seen.add(operation.expected)
                chains = True
    kept = [each for each in operations if each.returned < inf or (each.kind != GET and each.value in seen)]
    return sorted(kept, key=lambda each: each.called)


class _Search:
    """What can be left out of it without losing an order, each by moving an operation of that order to an earlier place:

    An operation that changes nothing happens as soon as it fits. A value is not left while an operation that needs it is to come
    and no write of it is. Blind writes of what nobody saw happen just before another: what follows one in any order is a blind
    write, too, or the end. Without these, k writes that wait together for a leader are 2 ** k sets to try.
    """

    def __init__(self, operations: Sequence[Operation], initial: Hashable) -> None:
        self._operations = operations
        self._initial = initial
        self._must = 0
        self._needed: dict[Hashable, int] = {}
        """By value: the definite operations that found it."""
        self._writes: dict[Hashable, int] = {}
        open_swaps = {each.expected for each in operations if each.kind == SWAP and each.result == UNKNOWN}
        for place, each in enumerate(operations):
            if each.returned < inf:
                self._must |= 1 << place
                if each.kind != SET and each.result != UNKNOWN:
                    value = found_by(each)
                    self._needed[value] = self._needed.get(value, 0) | 1 << place
            if each.kind != GET:
                self._writes[each.value] = self._writes.get(each.value, 0) | 1 << place
        seen = {*self._needed, *open_swaps}
        self._blind = sum(1 << place for place, each in enumerate(operations) if each.kind == SET and each.value not in seen)

    def longest(self) -> int | None:
        """None when some order explains all; else the length of the longest explanation that was tried."""
        waiting: list[tuple[int, Hashable]] = [(0, self._initial)]
        tried: set[tuple[int, Hashable]] = set(waiting)
        best = 0
        while waiting:
            mask, state = waiting.pop()
            overwritten = self._with_blind(mask)
            if overwritten & self._must == self._must:
                return None
            best = max(best, overwritten.bit_count())
            for following in self._following(mask, overwritten, state):
                if following not in tried:
                    tried.add(following)
                    waiting.append(following)
        return best

    def _following(self, mask: int, overwritten: int, state: Hashable) -> list[tuple[int, Hashable]]:
        found = []
        for place in self._next(mask):
            each = self._operations[place]
            fits, after = step(state, each)
            if each.kind == SET or not fits:
                continue
            if after != state:
                found.append((mask | 1 << place, after))
            elif each.returned < inf:
                return [(mask | 1 << place, state)]
        for place in self._next(overwritten):
            if self._operations[place].kind == SET:
                found.append((overwritten | 1 << place, self._operations[place].value))
        return [each for each in reversed(found) if each[1] == state or not self._is_missed(state, each[0])]

    def _is_missed(self, state: Hashable, mask: int) -> bool:
        """Whether something that is left needs this value, and nothing that is left writes it."""
        return bool(self._needed.get(state, 0) & ~mask) and not self._writes.get(state, 0) & ~mask

    def _with_blind(self, mask: int) -> int:
        """And all blind writes that may come next, one after the other."""
        while blind := sum(1 << place for place in self._next(mask) if self._blind >> place & 1):
            mask |= blind
        return mask

    def _next(self, mask: int) -> list[int]:
        """Those that may come next: called before any that is left has returned."""
        found: list[int] = []
        first_return = inf
        for place in range((~mask & mask + 1).bit_length() - 1, len(self._operations)):
            operation = self._operations[place]
            if operation.called > first_return:
                break
            if not mask >> place & 1:
                found.append(place)
                first_return = min(first_return, operation.returned)
        return [place for place in found if self._operations[place].called <= first_return]


def found_by(operation: Operation) -> Hashable:
    """The value that a definite read or compare-and-set found."""
    if isinstance(operation.result, Mismatch):
        return operation.result.value
    return operation.result if operation.kind == GET else operation.expected
