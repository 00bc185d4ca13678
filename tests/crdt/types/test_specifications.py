"""Every type against what it means, said over the history of operations: who did what, and who had seen which.

The specifications are in the happens-before style of Shapiro et al., "A comprehensive study of Convergent and Commutative
Replicated Data Types" (INRIA RR-7506, 2011). None of them knows of cells, covers or shelves, but for the counters, whose
documented edge (a running total comes back when it was added to at the time of its removal) is about shelves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from crdt.testing import OPTIONS, Call, History, Operation, check_view
from crdt.types import (
    ADD_WINS_SET,
    COUNTER,
    DISABLE_WINS_FLAG,
    ENABLE_WINS_FLAG,
    GROW_ONLY_COUNTER,
    LIST,
    LOG,
    MAXIMUM,
    MINIMUM,
    MULTI_VALUE,
    REGISTER,
    REMOVE_WINS_SET,
    AddWinsSet,
    Counter,
    DisableWinsFlag,
    Flag,
    GrowOnlyCounter,
    List,
    Log,
    Map,
    Maximum,
    Minimum,
    MultiValue,
    Register,
    RemoveWinsSet,
    ViewType,
)

FEW = settings(OPTIONS, max_examples=int(os.environ.get("CRDT_HISTORIES", "30")))
"""Histories per test: a second each. `CRDT_HISTORIES=5000 pytest tests/crdt/types` is the long run."""


def call(method: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.tuples(st.just(method), *arguments)


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


small = st.integers(0, 3)
numbers = st.integers(-5, 5)
elements = st.sampled_from(["a", 1, ("b", 2), "long " * 20])

ONE_VALUE = call("set", small) | call("clear")
FLAG = call("enable") | call("disable") | call("clear")
SET = call("add", elements) | call("add", elements) | call("discard", elements) | call("clear")

CASES: list[tuple[ViewType[Any], Any, st.SearchStrategy[Call], Callable[[History], Any]]] = [
    (REGISTER, Register, ONE_VALUE, register),
    (MULTI_VALUE, MultiValue, ONE_VALUE, multi_value),
    (COUNTER, Counter, call("add", numbers) | call("add", numbers) | call("clear"), counter),
    (GROW_ONLY_COUNTER, GrowOnlyCounter, call("add", small) | call("add", small) | call("clear"), counter),
    (MAXIMUM, Maximum, call("update", numbers) | call("update", numbers) | call("clear"), maximum),
    (MINIMUM, Minimum, call("update", numbers) | call("update", numbers) | call("clear"), minimum),
    (ENABLE_WINS_FLAG, Flag, FLAG, enable_wins),
    (DISABLE_WINS_FLAG, DisableWinsFlag, FLAG, disable_wins),
    (ADD_WINS_SET, AddWinsSet, SET, add_wins),
    (REMOVE_WINS_SET, RemoveWinsSet, SET, remove_wins),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0].name for case in CASES])
@pytest.mark.parametrize("chores", [False, True], ids=["every moment", "with housekeeping and restarts"])
def test_the_value_is_what_the_history_says(case: tuple[Any, Any, Any, Any], chores: bool) -> None:
    view, handle, calls, specification = case
    check_view(view, calls, specification, handle=handle, chores=chores, options=FEW)


# --- sequences: what is in them is specified, and of every two what their order must be


Order = list[tuple[Any, Any]]


class Sequence:
    """What a list must hold, and which pairs must stand in this order."""

    def __init__(self, items: list[Any], order: Order) -> None:
        self.items = items
        self.order = order

    def fits(self, shown: list[Any]) -> bool:
        place = {item: index for index, item in enumerate(shown)}
        in_order = all(place[one] < place[other] for one, other in self.order if one in place and other in place)
        return sorted(shown) == sorted(self.items) and in_order


def fits(shown: list[Any], expected: Sequence) -> bool:
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


def list_of_items(history: History) -> Sequence:
    """Every slot is a register that is there until a removal that has seen it. Whatever an author saw in an order, its own item
    included, stays in that order."""
    items = {}
    for slot in sorted({slot for one in history for slot in slots_written(one)}):
        here = history.where(partial(is_about, slot))
        kept = by_clock(here.unseen("put", "put_run", "change"))
        if kept:
            items[slot] = kept[0].result if kept[0].method == "change" else f"{slot} {slot}"
    order: Order = []
    for one in history:
        seen = [slot_of(item) for item in one.saw]
        if one.method == "put":
            seen.insert(one.arguments[0] % (len(seen) + 1), one.result)
        elif one.method == "put_run":
            seen += one.result
        order += [(items[one], items[other]) for one, other in combinations(seen, 2) if one in items and other in items]
    return Sequence(list(items.values()), order)


class Entries(Log):
    def note(self) -> str:
        entry = f"{self._store.shelf.hex()[14:]}-{self._store.next_dot}"
        self.append(entry)
        return entry


def log_of_entries(history: History) -> Sequence:
    """Every entry, once, after all that its author had seen."""
    entries = [one.result for one in history]
    return Sequence(entries, [(seen, one.result) for one in history for seen in one.saw if seen in entries])


ITEMS = (
    call("put", small) | call("put", small) | call("put_run", small) | call("change", small) | call("take", small) | call("clear")
)


@pytest.mark.parametrize("chores", [False, True], ids=["every moment", "with housekeeping and restarts"])
def test_a_list_keeps_its_order(chores: bool) -> None:
    check_view(LIST, ITEMS, list_of_items, handle=Items, equal=fits, chores=chores, options=FEW)


@pytest.mark.parametrize("chores", [False, True], ids=["every moment", "with housekeeping and restarts"])
def test_a_log_keeps_its_order(chores: bool) -> None:
    check_view(LOG, call("note"), log_of_entries, handle=Entries, equal=fits, chores=chores, options=FEW)


# --- map: its parts, each as it would be alone


class Record(Map):
    """A map with a counter, a set and a map inside."""

    def count(self, amount: int) -> None:
        self.counter("visits").add(amount)

    def tag(self, element: Any) -> None:
        self.set("tags").add(element)

    def bend(self, angle: int) -> None:
        self.map("arm").map(7)["angle"] = angle


def touches(key: Any, one: Operation) -> bool:
    return one.method == "clear" or (one.method in ("set_key", "discard") and one.arguments[0] == key)


def record(history: History) -> dict[Any, Any]:
    """A removal of a key removes what it has seen below it; all else is as if each part were alone."""
    shown: dict[Any, Any] = {}
    for key in ("pose", 5):
        writes = history.where(partial(touches, key))
        kept = by_clock(writes.unseen("set_key"))
        if kept:
            shown[key] = kept[0].arguments[1]
    visits = totals(history, "count", sum, ("discard", "clear"))
    if visits:
        shown["visits"] = sum(visits)
    tags = {one.arguments[0] for one in history.unseen("tag", by=("discard", "clear"))}
    if tags:
        shown["tags"] = tags
    angles = by_clock(history.where(lambda one: one.method in ("bend", "discard", "clear")).unseen("bend"))
    if angles:
        shown["arm"] = {7: {"angle": angles[0].arguments[0]}}
    return shown


@pytest.mark.parametrize("chores", [False, True], ids=["every moment", "with housekeeping and restarts"])
def test_a_map_is_its_parts(chores: bool) -> None:
    keys = st.sampled_from(["pose", 5, "visits", "tags", "arm"])
    calls = st.one_of(
        call("set_key", st.sampled_from(["pose", 5]), small),
        call("count", numbers),
        call("tag", elements),
        call("bend", small),
        call("discard", keys),
        call("clear"),
    )
    check_view(None, calls, record, handle=Record, chores=chores, options=FEW)
