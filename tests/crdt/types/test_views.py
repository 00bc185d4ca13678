"""Every view takes whatever another author may have written, and depends on nothing but the cells."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import codec
from crdt.ids import ReplicaId, shelf_id
from crdt.ops import NO_RIGHTS, VALUE, Op, Path, Segment, Value
from crdt.types import CUSTOM, LIST, LOG, REGISTRY, ViewType, format_path, tree
from crdt.types.cells import plain
from crdt.types.fugue import between
from crdt.types.paths import element_segment, named_segment, ordered

SHELVES = [shelf_id(ReplicaId(bytes((number,)) * 8), number) for number in range(4)]

floats = st.floats(allow_nan=False) | st.just(math.nan)
leaves = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | floats | st.text(max_size=3) | st.binary(max_size=20)
payloads = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=2) | st.binary(max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)
near_misses = st.sampled_from(
    [
        (True, "x" * 100),
        (False, "x" * 100),
        (None, None),
        (between(None, None, SHELVES[0], 1), "item"),
        [5, 2, {SHELVES[1]: 1}],
        [1, 2, {b"short": 1}],
        True,
        False,
        3,
        -3,
    ]
)
likely: list[Segment] = [
    element_segment(1),
    element_segment("x" * 100),
    between(None, None, SHELVES[0], 1),
    named_segment(between(None, None, SHELVES[0], 1) * 9),
    ordered(1) + ordered(7),
    ordered(2**60) + ordered(1),
    b"\xff" * 17,
    codec.encode(True),
    "text",
]
segments: st.SearchStrategy[Segment] = (
    st.sampled_from(likely) | st.binary(min_size=1, max_size=20) | st.text(min_size=1, max_size=3)
)


def cells(code: int, paths: st.SearchStrategy[Path]) -> st.SearchStrategy[list[Op]]:
    """One cell per origin and path, as the shown cells of a value are."""
    one = st.builds(
        lambda path, payload, origin, time: Op(VALUE, code, path, payload, (), origin, 256, time, NO_RIGHTS),
        paths,
        payloads | near_misses,
        st.sampled_from(SHELVES),
        st.integers(0, 3),
    )
    return st.lists(one, max_size=8, unique_by=lambda op: (op.path, op.origin))


@pytest.mark.parametrize("view", REGISTRY.values(), ids=lambda view: view.name)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_cells_give_a_value_whatever_their_order(view: ViewType[Any], data: st.DataObject) -> None:
    path: st.SearchStrategy[Path] = segments.map(lambda segment: ("p", segment)) if view.per_element else st.just(("p",))
    shown: list[Op] = data.draw(cells(view.code, path))
    value = view.view(shown)
    shuffled = random.Random(len(shown)).sample(shown, len(shown))
    assert_same(view.view(shuffled), value)
    assert_same(view.view([with_wire_types(op) for op in shown]), value)
    reasons = view.explain(shown, shown)
    assert [op for op, _ in reasons] == shown
    assert all(reason for _, reason in reasons)


@given(st.lists(cells(1, st.lists(segments, min_size=1, max_size=3).map(lambda parts: ("p", *parts))), max_size=3), st.randoms())
def test_any_paths_give_a_tree_whatever_their_order(groups: list[list[Op]], rng: random.Random) -> None:
    rows = [((op.type, op.path), [op]) for ops in groups for op in ops]
    whole = tree(1, rows)
    assert isinstance(whole, dict)
    unique = list({key: (key, ops) for key, ops in rows}.values())
    assert_same(tree(1, rng.sample(unique, len(unique))), tree(1, unique))


def with_wire_types(op: Op) -> Op:
    """The cell as others hold it: through the codec, immutable."""
    return op._replace(payload=codec.decode_untrusted(codec.encode(op.payload)))


def assert_same(one: Any, other: Any) -> None:
    """Equal, where NaN equals itself."""
    assert repr(one) == repr(other) or one == other


def test_unknown_types_are_read_like_custom_ones() -> None:
    op = Op(VALUE, 200, ("p", "k"), 5, (), SHELVES[0], 256, 1, NO_RIGHTS)
    assert tree(1, [((200, ("p", "k")), [op])]) == {"k": CUSTOM.view([op])} == {"k": [5]}


def test_entries_of_a_hostile_position_do_not_stop_a_log() -> None:
    far = Op(VALUE, LOG.code, ("p", ordered(2**62) + ordered(1)), "far", (), SHELVES[0], 256, 1, NO_RIGHTS)
    beyond = far._replace(path=("p", ordered(2**63) + ordered(1)), payload="beyond")
    assert LOG.view([far, beyond]) == ["far"]
    assert LOG.explain([beyond], [beyond])[0][1] == "ignored: no position"


def test_two_writes_of_one_item_are_one_item() -> None:
    place = between(None, None, SHELVES[0], 1)
    ops = [
        Op(VALUE, LIST.code, ("p", place), name, (), SHELVES[number], 256, 5 - number, NO_RIGHTS)
        for number, name in enumerate("ab")
    ]
    assert LIST.view(ops) == ["a"]
    assert [reason for _, reason in LIST.explain(ops, ops)] == [
        "shown",
        f"loses: later time in {SHELVES[0][:8].hex()}.00000000:1.0",
    ]


@given(payloads)
def test_plain_is_a_copy_in_one_order(value: Value) -> None:
    assert_same(plain(codec.decode_untrusted(codec.encode(value))), plain(value))
    assert repr(plain(codec.decode_untrusted(codec.encode(value)))) == repr(plain(value))


def test_paths_are_shown_for_people() -> None:
    assert format_path(("a", element_segment("x"))) == "a/['x']"
