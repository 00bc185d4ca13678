"""Positions: order, uniqueness, and the paper's claim that concurrent runs are never mixed.

The model here is a list of places, no CRDT state: what a replica has seen is a set of positions, and merging is union.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.errors import Malformed
from crdt.ids import ReplicaId, ShelfId, shelf_id
from crdt.types.fugue import between, read_place_untrusted

SHELVES = [shelf_id(ReplicaId(bytes([number]) * 8), number) for number in (3, 1, 2, 0)]


class Author:
    """What one replica sees of a list, and its own numbers."""

    def __init__(self, shelf: ShelfId, seen: set[bytes]) -> None:
        self.shelf = shelf
        self.seen = set(seen)
        self.fresh = count(1)

    def insert(self, index: int) -> bytes:
        places = [read_place_untrusted(raw) for raw in sorted(self.seen)]
        left = places[index - 1] if index else None
        right = places[index] if index < len(places) else None
        raw = between(left, right, self.shelf, next(self.fresh))
        assert raw not in self.seen
        self.seen.add(raw)
        assert sorted(self.seen).index(raw) == index
        return raw


def authors(number: int, seen: set[bytes] | None = None) -> list[Author]:
    return [Author(shelf, seen or set()) for shelf in SHELVES[:number]]


steps = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 30), st.sampled_from(["insert", "insert", "remove", "sync"])), max_size=60
)


@given(steps)
def test_an_insertion_stands_where_it_was_put_whatever_happened_before(history: list[tuple[int, int, str]]) -> None:
    """With removals, which leave nothing behind, and with others' insertions that come in between."""
    group = authors(3)
    everything: set[bytes] = set()
    for who, where, what in history:
        author = group[who]
        if what == "insert":
            raw = author.insert(where % (len(author.seen) + 1))
            assert raw not in everything, "a place given twice"
            everything.add(raw)
        elif what == "remove" and author.seen:
            author.seen.discard(sorted(author.seen)[where % len(author.seen)])
        else:
            author.seen |= group[where % 3].seen
    for raw in everything:
        assert read_place_untrusted(raw).raw == raw


@given(steps)
def test_forward_non_interleaving(history: list[tuple[int, int, str]]) -> None:
    """The paper's definition, first part: between an item and what was inserted right after it stand only items that were
    themselves inserted after it, directly or not (no removals: they take the item away that the definition speaks of)."""
    group = authors(3)
    left_of: dict[bytes, bytes | None] = {}
    for who, where, what in history:
        author = group[who]
        if what == "sync":
            author.seen |= group[where % 3].seen
            continue
        places = sorted(author.seen)
        index = where % (len(places) + 1)
        left_of[author.insert(index)] = places[index - 1] if index else None

    def origins(raw: bytes | None) -> set[bytes | None]:
        found: set[bytes | None] = set()
        while raw is not None:
            raw = left_of[raw]
            found.add(raw)
        return found

    order = sorted(left_of)
    for raw, left in left_of.items():
        start = order.index(left) + 1 if left is not None else 0
        for other in order[start : order.index(raw)]:
            assert left in origins(other)


Typing = Callable[[list[Author], int, random.Random], list[bytes]]


def _place_after(group: list[Author], index: int, who: int) -> bytes:
    raw = group[who].insert(index)
    for author in group:
        author.seen.add(raw)
    return raw


def forwards(group: list[Author], index: int, rng: random.Random) -> list[bytes]:
    """A run typed left to right, its authors taking turns as they like."""
    return [_place_after(group, index + number, rng.randrange(len(group))) for number in range(8)]


def backwards(group: list[Author], index: int, rng: random.Random) -> list[bytes]:
    return [_place_after(group, index, rng.randrange(len(group))) for _ in range(8)]


def anyhow(group: list[Author], index: int, rng: random.Random) -> list[bytes]:
    return [_place_after(group, index + rng.randint(0, number), rng.randrange(len(group))) for number in range(8)]


def _is_one_block(order: list[bytes], run: list[bytes]) -> bool:
    places = sorted(order.index(raw) for raw in run)
    return places == list(range(places[0], places[0] + len(places)))


@pytest.mark.parametrize("typing", [forwards, backwards])
@pytest.mark.parametrize("other", [forwards, backwards])
@given(rng=st.randoms(use_true_random=False), before=st.integers(0, 4), index=st.integers(0, 4))
def test_two_sides_of_a_cut_do_not_mix_their_runs(
    typing: Typing, other: Typing, rng: random.Random, before: int, index: int
) -> None:
    """Both sides, two authors each, type at the same place of the same list; then the halves meet."""
    group = authors(4)
    for _ in range(before):
        _place_after(group, rng.randrange(len(group[0].seen) + 1), rng.randrange(4))
    rng.shuffle(group)
    sides = group[:2], group[2:]
    runs = [type_it(side, min(index, before), rng) for type_it, side in zip((typing, other), sides, strict=True)]
    order = sorted(group[0].seen | group[2].seen)
    assert _is_one_block(order, runs[0])
    assert _is_one_block(order, runs[1])


@given(rng=st.randoms(use_true_random=False), before=st.integers(0, 3))
def test_what_is_built_up_anyhow_at_one_place_stays_together(rng: random.Random, before: int) -> None:
    group = authors(4)
    for _ in range(before):
        _place_after(group, rng.randrange(len(group[0].seen) + 1), rng.randrange(4))
    sides = group[:2], group[2:]
    index = rng.randint(0, before)
    runs = [anyhow(side, index, rng) for side in sides]
    order = sorted(group[0].seen | group[2].seen)
    assert _is_one_block(order, runs[0])
    assert _is_one_block(order, runs[1])


class TestSize:
    @pytest.mark.parametrize("first", [0, 3, 10])
    @pytest.mark.parametrize("step", [0, 1])
    def test_a_run_of_a_thousand_stays_short(self, first: int, step: int) -> None:
        """Typed forwards or backwards, at the beginning, in the middle or at the end of what others wrote."""
        group = authors(2)
        for index in range(10):
            _place_after(group, index, 1)
        sizes = [len(group[0].insert(first + step * number)) for number in range(1000)]
        assert max(sizes) <= 13 + 2 + 13 + 3

    def test_alternating_authors_add_a_few_bytes_each(self) -> None:
        group = authors(2)
        sizes = [len(_place_after(group, number, number % 2)) for number in range(200)]
        assert sizes[-1] <= 26 + 5 * 200


class TestForm:
    @given(st.binary(max_size=40))
    def test_any_bytes_are_a_place_in_its_one_spelling_or_malformed(self, raw: bytes) -> None:
        try:
            place = read_place_untrusted(raw)
        except Malformed:
            return
        assert place.raw == raw
        assert place.number % 2

    def test_cut_or_lengthened_it_is_malformed(self) -> None:
        group = authors(2)
        for number in range(4):
            raw = _place_after(group, number, number % 2)
        cut = [raw[:size] for size in range(len(raw))]
        places = {step.raw for step in map(read_place_untrusted, group[0].seen)}
        for part in [*(part for part in cut if part not in places), raw + b"\x00", raw + raw]:
            with pytest.raises(Malformed):
                read_place_untrusted(part)

    @given(steps)
    def test_what_was_made_is_spelled_once(self, history: list[tuple[int, int, str]]) -> None:
        """A shelf that the position mentions already is referred to, never spelled out again."""
        group = authors(3)
        for who, where, _ in history:
            raw = _place_after(group, where % (len(group[0].seen) + 1), who)
            for shelf in SHELVES[:3]:
                assert raw.count(shelf) <= 1
