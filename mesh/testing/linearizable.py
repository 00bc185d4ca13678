"""Whether a history of critical reads and writes is linearizable: each seems to happen at one moment between call and return.

The search of Wing and Gong (1993) with Lowe's memory of what was tried (2017), as Porcupine does it: path by path, for what holds
of each path holds of all (Herlihy and Wing 1990, locality). An operation whose outcome is unknown stays open for ever: it may
happen at any time after its call, or never.
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
    """So many of them at most can be put in an order."""

    def __str__(self) -> str:
        lines = [f"{self.path} is not linearizable: of {len(self.operations)} operations at most {self.explained} fit"]
        return "\n".join([*lines, *map(str, self.operations)])


def check(history: Iterable[Operation], initial: Hashable = None) -> list[Violation]:
    """Empty when every path is linearizable. Values should be unique, so that reads say which write they saw."""
    paths: dict[str, list[Operation]] = {}
    for operation in history:
        paths.setdefault(operation.path, []).append(operation)
    found = []
    for path, operations in sorted(paths.items()):
        relevant = _relevant(operations)
        explained = _longest(relevant, initial)
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


def _longest(operations: Sequence[Operation], initial: Hashable) -> int | None:
    """None when some order explains all; else how many operations the longest explanation has."""
    must = sum(1 << place for place, each in enumerate(operations) if each.returned < inf)
    waiting: list[tuple[int, Hashable]] = [(0, initial)]
    tried: set[tuple[int, Hashable]] = set(waiting)
    best = 0
    while waiting:
        mask, state = waiting.pop()
        if mask & must == must:
            return None
        best = max(best, mask.bit_count())
        for place in _next(operations, mask):
            fits, after = step(state, operations[place])
            following = (mask | 1 << place, after)
            if fits and following not in tried:
                tried.add(following)
                waiting.append(following)
    return best


def _next(operations: Sequence[Operation], mask: int) -> list[int]:
    """Those that may come next: called before any that is left has returned."""
    found: list[int] = []
    first_return = inf
    for place, operation in enumerate(operations):
        if operation.called > first_return:
            break
        if not mask >> place & 1:
            found.append(place)
            first_return = min(first_return, operation.returned)
    return [place for place in found if operations[place].called <= first_return]
