"""What every type means, said over the history of operations: who did what, and who had seen which.

The specifications are in the happens-before style of Shapiro et al., "A comprehensive study of Convergent and Commutative
Replicated Data Types" (INRIA RR-7506, 2011). None of them knows of cells, covers or shelves, but for the counters, whose
documented edge (a running total comes back when it was added to at the time of its removal) is about shelves. The tests of the
types (crdt.testing) and the simulator hold the views against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from crdt.history import History, Operation
from crdt.ops import Op
from crdt.types import List, Log

# --- one value


def by_clock(operations: Iterable[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda one: (one.time, one.shelf), reverse=True)


def register(history: History) -> Any:
    """Of the writes that no write has seen, the one with the highest (time, origin)."""
    kept = by_clock(history.unseen("set"))
    return kept[0].arguments[0] if kept else None


def multi_value(history: History) -> list[Any]:
    """Every write that no write has seen."""
    return [one.arguments[0] for one in by_clock(history.unseen("set"))]


def enable_wins(history: History) -> bool:
    """On if there is an enabling that no disabling has seen."""
    return bool(history.unseen("enable", by=("disable", "clear")))


def disable_wins(history: History) -> bool:
    """On if there is an enabling, and every disabling was seen by one; removals take away what they have seen of both."""
    kept = history.unseen("enable", by=("clear",))
    stops = history.unseen("disable", by=("clear",))
    return bool(kept) and all(any(history.before(stop, one) for one in history.calls("enable")) for stop in stops)


# --- running totals


def totals(history: History, add: str, fold: Callable[[list[Any]], Any], clearing: tuple[str, ...] = ("clear",)) -> list[Any]:
    """What each shelf has given since it last knew that its total was removed, unless a removal has seen its newest."""
    results = []
    clears = history.calls(*clearing)
    for shelf in sorted({one.shelf for one in history}):
        given: list[Operation] = []
        for one in (one for one in history.calls(add) if one.shelf == shelf):
            if given and any(history.before(given[-1], clear) and history.before(clear, one) for clear in clears):
                given = []
            given.append(one)
        if given and not any(history.before(given[-1], clear) for clear in clears):
            results.append(fold([one.arguments[0] for one in given]))
    return results


def counter(history: History) -> int:
    return sum(totals(history, "add", sum))


def maximum(history: History) -> Any:
    return max(totals(history, "update", max), default=None)


def minimum(history: History) -> Any:
    return min(totals(history, "update", min), default=None)


def bounded(history: History) -> int:
    """All that was added less all that was taken; who lacks an addition sees 0 rather than less. Transfers change nothing."""
    added = sum(int(one.arguments[0]) for one in history.calls("add"))
    return max(0, added - sum(int(one.arguments[0]) for one in history.calls("subtract")))


def longest(history: History) -> str:
    """A custom type: of the texts that no write has seen, the longest; the greater one of two that are equally long."""
    texts = [one.arguments[0] for one in history.unseen("set", by=("set", "clear"))]
    return max(texts, key=lambda text: (len(text), text), default="")


def longest_shown(shown: Sequence[Op]) -> str:
    """The view of that custom type."""
    return max((str(op.payload) for op in shown), key=lambda text: (len(text), text), default="")


# --- sets


def names(one: Operation, element: Any) -> bool:
    return one.method == "clear" or one.arguments == (element,)


def add_wins(history: History) -> set[Any]:
    """An element is there if there is an addition of it that no removal of it has seen."""
    return {one.arguments[0] for one in history.unseen("add", by=("discard", "clear"))}


def remove_wins(history: History) -> set[Any]:
    """An element is there if it was added, and every removal of it was seen by an addition of it."""
    elements = {one.arguments[0] for one in history.calls("add")}
    return {element for element in elements if not _removed(history, element)}


def _removed(history: History, element: Any) -> bool:
    additions = [one for one in history.calls("add") if one.arguments[0] == element]
    removals = [one for one in history.calls("discard") if one.arguments[0] == element]
    removals += [one for one in history.calls("clear") if element in one.saw]
    return any(not any(history.before(removal, one) for one in additions) for removal in removals)


# --- sequences: what is in them is specified, and of every two what their order must be


Pairs = list[tuple[Any, Any]]


class Order:
    """What a list must hold, and which pairs must stand in this order."""

    def __init__(self, items: list[Any], order: Pairs) -> None:
        self.items = items
        self.order = order

    def fits(self, shown: list[Any]) -> bool:
        place = {item: index for index, item in enumerate(shown)}
        in_order = all(place[one] < place[other] for one, other in self.order if one in place and other in place)
        return sorted(shown) == sorted(self.items) and in_order


def fits(shown: list[Any], expected: Order) -> bool:
    return expected.fits(shown)


class Items(List):
    """A list whose items are [slot, version], both given once: so an item is known again wherever it stands."""

    def put(self, index: int) -> str:
        slot = self._fresh()
        self.insert(index % (len(self) + 1), f"{slot} {slot}")
        return slot

    def put_run(self, number: int) -> list[str]:
        slots = [f"{self._fresh()}.{k}" for k in range(number)]
        self.extend(f"{slot} {slot}" for slot in slots)
        return slots

    def change(self, index: int) -> str:
        index %= len(self) or 1
        new = f"{slot_of(self[index])} {self._fresh()}"
        self[index] = new
        return new

    def take(self, index: int) -> Any:
        return self.pop(index % (len(self) or 1))

    def _fresh(self) -> str:
        return f"{self._store.shelf.hex()[14:]}-{self._store.next_dot}"


def slot_of(item: Any) -> str:
    return str(item).split()[0]


def slots_written(one: Operation) -> list[str]:
    match one.method:
        case "put":
            return [one.result]
        case "put_run":
            return list(one.result)
        case "clear":
            return [slot_of(item) for item in one.saw]
        case _:
            return [slot_of(one.result)]


def is_about(slot: str, one: Operation) -> bool:
    return slot in slots_written(one)


def list_of_items(history: History) -> Order:
    """Every slot is a register that is there until a removal that has seen it. Whatever an author saw in an order, its own item
    included, stays in that order."""
    items = {}
    for slot in sorted({slot for one in history for slot in slots_written(one)}):
        here = history.where(partial(is_about, slot))
        kept = by_clock(here.unseen("put", "put_run", "change"))
        if kept:
            items[slot] = kept[0].result if kept[0].method == "change" else f"{slot} {slot}"
    order: Pairs = []
    for one in history:
        seen = [slot_of(item) for item in one.saw]
        if one.method == "put":
            seen.insert(one.arguments[0] % (len(seen) + 1), one.result)
        elif one.method == "put_run":
            seen += one.result
        order += [(items[one], items[other]) for one, other in combinations(seen, 2) if one in items and other in items]
    return Order(list(items.values()), order)


class Entries(Log):
    def note(self) -> str:
        entry = f"{self._store.shelf.hex()[14:]}-{self._store.next_dot}"
        self.append(entry)
        return entry


def log_of_entries(history: History) -> Order:
    """Every entry, once, after all that its author had seen."""
    entries = [one.result for one in history]
    return Order(entries, [(seen, one.result) for one in history for seen in one.saw if seen in entries])
