"""Every type against what it means (crdt.specifications), on random histories."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from crdt.history import History, Operation
from crdt.specifications import (
    Entries,
    Items,
    add_wins,
    bounded,
    by_clock,
    counter,
    disable_wins,
    enable_wins,
    fits,
    list_of_items,
    log_of_entries,
    maximum,
    minimum,
    multi_value,
    register,
    remove_wins,
    totals,
)
from crdt.testing import OPTIONS, Call, check_view
from crdt.types import (
    ADD_WINS_SET,
    BOUNDED_COUNTER,
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
    BoundedCounter,
    Counter,
    DisableWinsFlag,
    Flag,
    GrowOnlyCounter,
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
    (BOUNDED_COUNTER, BoundedCounter, call("add", small) | call("subtract", small), bounded),
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
