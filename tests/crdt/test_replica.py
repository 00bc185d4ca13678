"""One replica and its neighbours: what a write covers, what shows, what the draft becomes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import Cover, Delta, Key, Op, Path, PathError, Replica, Rights, ShelfId, UnsupportedValue, ValueTooLarge
from crdt.ids import dot_seq, make_dot
from crdt.ops import REMOVED, VALUE
from crdt.state import COVERED_MAX, LOOKS, Looks, State, check_of
from tests.crdt.meshes import KEY, REGISTER, forge, give, live, meet, replica, shelf_of, shown, sound

OTHER: Key = (REGISTER, ("other",))


# --- rule 1 and 2: covers and views


def test_a_write_covers_what_its_author_holds_and_beats_it_whatever_the_clocks_say() -> None:
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, "first", now_wall=10**15)], b)
    give([b.write(*KEY, "second", now_wall=1970)], a)
    assert shown(a) == shown(b) == ["second"]
    first, second = a.cells(KEY)
    assert second.covers == (Cover(a.shelf, first.dot, check_of(first)),)


def test_concurrent_writes_both_show() -> None:
    a, b = replica("A"), replica("B")
    one, other = a.write(*KEY, 1), b.write(*KEY, 2)
    give([one], b)
    give([other], a)
    assert shown(a) == shown(b) == [1, 2]


def test_an_own_write_replaces_the_former_and_inherits_its_covers() -> None:
    a, b, c = replica("A"), replica("B"), replica("C")
    give([a.write(*KEY, 1)], b, c)
    give([b.write(*KEY, 2), b.write(*KEY, 3)], c)
    assert shown(c) == [3]
    (covers,) = {op.covers for op in c.cells(KEY) if op.origin == b.shelf}
    assert [cover.origin for cover in covers] == [a.shelf]


def test_a_write_inherits_the_covers_of_what_it_covers() -> None:
    a, b, c, late = replica("A"), replica("B"), replica("C"), replica("D")
    first = a.write(*KEY, 1)
    give([first], b)
    second = b.write(*KEY, 2)
    give([second], c)  # C never sees the first
    third = c.write(*KEY, 3)
    give([first, third], late)  # and the late one never the second
    assert shown(late) == [3]


def test_removing_is_a_write() -> None:
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, 1)], b)
    give([b.write(*KEY, removed=True)], a)
    assert shown(a) == shown(b) == []
    assert [op.kind for op in a.cells(KEY)] == [VALUE, REMOVED]


def test_covers_of_one_key_do_not_touch_another() -> None:
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, 1), a.write(2, KEY[1], "same path, other type"), a.write(*OTHER, 3)], b)
    b.write(*KEY, 9)
    assert shown(b) == [9]
    assert shown(b, (2, KEY[1])) == ["same path, other type"]
    assert shown(b, OTHER) == [3]


def test_the_own_policy_covers_nothing_new_but_keeps_what_it_covered() -> None:
    a, b, c = replica("A"), replica("B"), replica("C")
    give([a.write(*KEY, 1)], b)
    kept = b.write(*KEY, 2).ops[0].covers
    give([c.write(*KEY, 3)], b)
    assert b.write(*KEY, 4, covers="own").ops[0].covers == kept != ()
    assert shown(b) == [4, 3]


def test_a_cover_needs_the_check_of_the_write_it_names() -> None:
    """Else a liar could cover the writes that are still to come."""
    a, liar, c = replica("A"), replica("L"), replica("C")
    future = Cover(a.shelf, make_dot(1, 0), 12345)
    forged = forge(liar.shelf, [Op(VALUE, *KEY, "liar", (future,), liar.shelf, make_dot(1, 0), 0, Rights(0, 0))])
    give([forged, a.write(*KEY, "true")], c)
    assert sorted(shown(c)) == ["liar", "true"]


def test_presence_shows_only_while_its_author_lives() -> None:
    alive: set[ShelfId] = set()
    a, b = replica("A"), replica("B", alive=alive.__contains__)
    give([a.write(*KEY, "here", while_alive=True)], b)
    b.take_changes()
    assert shown(b) == []
    alive.add(a.shelf)
    b.alive_changed()
    assert (shown(b), b.take_changes()) == (["here"], [KEY])
    b.alive_changed()
    assert b.take_changes() == []
    alive.clear()
    b.alive_changed()
    assert (shown(b), b.take_changes()) == ([], [KEY])


# --- the draft


def test_a_draft_shows_at_once_and_has_its_dots() -> None:
    a, b = replica("A"), replica("B")
    dot = a.draft(*KEY, 1, now_wall=50)
    assert shown(a) == [1]
    (delta,) = a.seal()
    assert delta.ops[dot.index].dot == make_dot(dot.seq, dot.index)
    assert delta.seq == dot.seq
    give([delta], b)
    assert shown(b) == [1]
    assert a.seal() == []


def test_a_second_write_in_one_draft_takes_the_place_of_the_first() -> None:
    a, b, c = replica("A"), replica("B"), replica("C")
    give([b.write(*KEY, "b")], a)
    first = a.draft(*KEY, 1, now_wall=50)
    give([c.write(*KEY, "c")], a)
    assert a.draft(*KEY, 2, now_wall=51) == first
    (delta,) = a.seal()
    assert [op.payload for op in delta.ops] == [2]
    assert [cover.origin for cover in delta.ops[0].covers] == [b.shelf, c.shelf], "covers of both are kept"


def test_covers_of_what_is_gone_are_left_out() -> None:
    a, b, c = replica("A"), replica("B"), replica("C")
    give([b.write(*KEY, "b"), c.write(*KEY, "c")], a)
    assert len(a.write(*KEY, 1).ops[0].covers) == 2
    give([b.write(*KEY, "b again")], a)
    covers = a.write(*KEY, 2).ops[0].covers
    assert [(cover.origin, dot_seq(cover.dot)) for cover in covers] == [(b.shelf, 2), (c.shelf, 1)]


def test_a_draft_is_cut_where_a_body_is_full() -> None:
    a, b = replica("A", body_bytes_max=300), replica("B")
    dots = [a.draft(REGISTER, ("key", str(n)), b"x" * 40, now_wall=n) for n in range(20)]
    size = a.draft_size
    deltas = a.seal()
    assert sum(len(delta.body) for delta in deltas) == size
    assert all(len(delta.body) <= 300 for delta in deltas)
    assert [delta.seq for delta in deltas] == list(range(1, len(deltas) + 1))
    assert len(deltas) > 3
    assert [(dot.seq, dot.index) for dot in dots] == [(delta.seq, index) for delta in deltas for index in range(len(delta.ops))]
    give(deltas, b)
    assert len(b.keys(("key",))) == 20


def test_a_key_rewritten_after_its_page_was_full() -> None:
    a, b = replica("A", body_bytes_max=300), replica("B")
    for n in range(10):
        a.draft(REGISTER, ("key", str(n)), b"x" * 60, now_wall=n)
    a.draft(REGISTER, ("key", "0"), "again", now_wall=20)
    assert shown(a, (REGISTER, ("key", "0"))) == ["again"]
    give(a.seal(), b)
    assert shown(b, (REGISTER, ("key", "0"))) == ["again"]
    assert sound(a)
    assert sound(b)


def test_times_never_fall_and_near_writes_share_one() -> None:
    a = replica("A")
    for now in (1000, 1500, 900, 50_000, 40_000):
        a.draft(REGISTER, (str(now),), now, now_wall=now)
    (delta,) = a.seal()
    assert [op.time for op in delta.ops] == [1000, 1000, 1000, 50_000, 50_001]
    assert a.write(*KEY, 1, now_wall=7).ops[0].time > 50_001


def test_the_clock_is_injected() -> None:
    a = replica("A", now_wall=lambda: 777)
    assert a.write(*KEY, 1).ops[0].time == 777


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ((), "1 to 16 segments"),
        (("x",) * 17, "1 to 16"),
        (("",), "0 bytes"),
        (("ü" * 129,), "258 bytes"),
        ((b"",), "0 bytes"),
        ((5,), "neither"),
        pytest.param("x", "tuple", marks=pytest.mark.interpreted),
        (("\ud800",), "UTF-8"),
    ],
)
def test_wrong_paths_are_named(path: Any, names: str) -> None:
    a = replica("A")
    with pytest.raises(PathError, match=names):
        a.draft(REGISTER, path, 1)
    assert a.seal() == []


@pytest.mark.parametrize("type_code", [0, 256, -1])
def test_the_core_keeps_its_own_type_code(type_code: int) -> None:
    with pytest.raises(PathError, match="type code"):
        replica("A").draft(type_code, ("k",), 1)


@pytest.mark.parametrize(("value", "names"), [(2**64, "64 bits"), ({1, 2}, "set"), ([[[[[[[[[[[[[[1]]]]]]]]]]]]]], "nested")])
def test_refused_values_leave_nothing_behind(value: Any, names: str) -> None:
    a = replica("A")
    with pytest.raises(UnsupportedValue, match=names):
        a.draft(*KEY, value)
    assert (shown(a), a.draft_size, a.seal()) == ([], 0, [])
    assert a.write(*KEY, 1).seq == 1


def test_a_value_too_large_leaves_nothing_behind() -> None:
    a = replica("A", large_bytes_max=5000)
    with pytest.raises(ValueTooLarge, match="5004 bytes"):
        a.draft(*KEY, b"x" * 5001)
    with pytest.raises(ValueTooLarge, match="leaves no room"):
        a.draft(REGISTER, ("x" * 256,) * 4, 1)
    assert a.seal() == []
    assert a.write(*KEY, 1).seq == 1


def test_what_is_read_cannot_be_changed() -> None:
    a = replica("A")
    value: dict[str | bytes, Any] = {"list": [1, 2]}
    a.write(*KEY, value)
    value["list"].append(3)
    (payload,) = shown(a)
    assert payload == {"list": (1, 2)}
    with pytest.raises(TypeError):
        payload["list"] = ()


# --- laws


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[int, list[tuple[str, bool]], list[int]]]:
    """(author, [(key, removed)], whom the delta reaches at once)."""
    writes = st.lists(st.tuples(st.sampled_from("xyz"), st.booleans()), min_size=1, max_size=3)
    return draw(st.lists(st.tuples(st.integers(0, 2), writes, st.lists(st.integers(0, 2), max_size=2)), min_size=1, max_size=12))


@settings(max_examples=120, deadline=None)
@given(scripts(), st.randoms(use_true_random=False))
def test_who_has_seen_the_same_deltas_shows_the_same(script: list[Any], rng: random.Random) -> None:
    """In any order, with duplicates; and holds exactly what the authors signed."""
    authors = [replica(name) for name in "ABC"]
    deltas: list[Delta] = []
    for number, (author, writes, receivers) in enumerate(script):
        for name, removed in writes:
            authors[author].draft(REGISTER, (name,), f"{number}{name}", removed=removed, now_wall=rng.randrange(10**6))
        deltas += (sealed := authors[author].seal())
        give(sealed, *[authors[receiver] for receiver in receivers if receiver != author])
    readers = []
    for name in "UVW":
        reader = replica(name)
        order = deltas + rng.sample(deltas, len(deltas) // 2)
        rng.shuffle(order)
        give(order, reader)
        readers.append(reader)
        assert sound(reader)
        assert not reader.loose
        assert not reader.faults
    meet(*authors)
    assert len({one.state_digest() for one in readers + authors}) == 1
    for key in readers[0].keys(()):
        assert len({tuple(one.cells(key)) for one in readers + authors}) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", b"b", "c"]), st.sampled_from(["", "x", b"y"]), st.integers(1, 3)), max_size=12)
)
def test_keys_below_a_prefix(rows: list[tuple[Any, Any, int]]) -> None:
    a = replica("A")
    keys = {(code, tuple(part for part in path if part)) for *path, code in rows}
    for code, path in keys:
        a.draft(code, path, 1)
    prefixes: list[Path] = [(), ("a",), (b"b",), ("b", "x"), ("nothing",)]
    for prefix in prefixes:
        found = a.keys(prefix)
        assert set(found) == {key for key in keys if key[1][: len(prefix)] == prefix}
        assert found == sorted(found, key=lambda key: ([(type(one) is bytes, one) for one in key[1]], key[0]))
        assert a.keys_at(prefix) == sorted((key for key in keys if key[1] == prefix), key=lambda key: key[0])
        for reverse in (False, True):
            leaves = [key for key in keys if key[1][:-1] == prefix and key[0] == 1]
            leaves.sort(key=lambda key: (type(key[1][-1]) is bytes, key[1][-1]), reverse=reverse)
            assert list(a.leaves(prefix, 1, reverse=reverse)) == leaves


def test_leaves_may_be_walked_while_they_change() -> None:
    a = replica("A")
    for n in range(10):
        a.draft(REGISTER, ("list", f"{n:02}"), n)
    seen = []
    for _, path in a.leaves(("list",), REGISTER):
        seen.append(path[-1])
        if path[-1] == "04":
            a.draft(REGISTER, ("list", "03b"), 1)
            a.draft(REGISTER, ("list", "08b"), 1)
    assert seen == ["00", "01", "02", "03", "04", "05", "06", "07", "08", "08b", "09"]


@pytest.mark.interpreted
def test_who_is_covered_among_many_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: each read of a key with fifty cells, each of which names all others, took 300 us. A write, or a removal, is
    looked at anew; who has the same cells shares the answer."""
    looks: list[int] = []
    look = State._look_who_is_covered

    def counted(self: State, cells: list[Op]) -> int:
        looks.append(len(cells))
        return look(self, cells)

    monkeypatch.setattr(State, "_look_who_is_covered", counted)
    authors = [replica(chr(65 + number)) for number in range(8)]
    reader, other = replica("X"), replica("Y")
    for number, author in enumerate(authors):
        deltas = [author.write(*KEY, number, now_wall=1_000 + number)]
        give(deltas, *(each for each in authors if each is not author), reader, other)
    assert shown(reader) == [7]
    assert len(reader.cells(KEY)) == 8
    looks.clear()
    assert shown(reader) == [7]
    assert looks == []
    apart = authors[3].write(*KEY, "apart", now_wall=2_000)
    authors[5].draft(*KEY, None, removed=True, now_wall=2_001)
    removal = authors[5].seal()
    give([apart], reader, other)
    looks.clear()
    assert shown(reader) == ["apart"]
    assert looks == [8]
    give(removal, reader)
    assert shown(reader) == ["apart"]
    give(removal, other)
    assert shown(other) == ["apart"]
    assert reader.state_digest() == other.state_digest()


def test_covers_in_chunks_count_when_these_come() -> None:
    """Also of who writes the chunks last: what is remembered of who is covered is of what was here then. It holds on to no value,
    which may be large."""
    authors = [replica(chr(33 + number)) for number in range(80)]
    reader, last = replica("x"), replica("y")
    for number, author in enumerate(authors):
        give([author.write(*KEY, number, now_wall=1_000 + number)], reader, last)
    last.draft(*KEY, "x" * 5_000, now_wall=5_000)
    *chunks, named = last.seal()
    head = None
    for seq, delta in enumerate([named, *chunks], 1):
        assert len(shown(reader)) == 80
        late = forge(last.shelf, [op._replace(dot=make_dot(seq, at)) for at, op in enumerate(delta.ops)], seq, head)
        give([late], reader)
        head = late.head
    assert shown(reader) == ["x" * 5_000]
    assert {type(part) for known in LOOKS._known.values() for part in known} == {int, list}


def test_what_is_remembered_of_who_is_covered_is_bounded_by_cells() -> None:
    """It was by sets: a counter that 2,000 count left 100 MB behind after 1,000 writes."""
    looks, cells = Looks(), replica("A").cells(KEY) + [Op(VALUE, 1, ("key",), 1, (), shelf_of("A"), 1, 1, Rights(1, 1))] * 1000
    most = 0
    for number in range(200):
        looks.add((number,), number, cells)
        assert looks.get((number,)) == number
        most = max(most, looks.held)
        assert looks.held == 1000 * sum(looks.get((each,)) is not None for each in range(200))
    assert COVERED_MAX - 1000 < most <= COVERED_MAX


def test_changes_come_in_the_order_of_the_first() -> None:
    a, b = replica("A"), replica("B")
    for name in ("x", "y", "x", "z"):
        give([a.write(REGISTER, (name,), 1)], b)
    assert b.take_changes() == [(REGISTER, (name,)) for name in "xyz"]
    assert b.take_changes() == []


def test_next_dot_is_above_every_dot_so_far() -> None:
    a = replica("A")
    for n in range(3):
        promised = a.next_dot
        dot = a.draft(*KEY, n) if n else a.draft(*OTHER, n)
        assert make_dot(dot.seq, dot.index) <= promised or dot.seq == 1
        assert a.next_dot > make_dot(dot.seq, dot.index)
        a.seal()
        assert a.next_dot > make_dot(dot.seq, dot.index)


def test_live_ops_are_one_per_key_and_origin() -> None:
    a = replica("A")
    for n in range(50):
        a.write(REGISTER, ("k", str(n % 5)), n)
    assert len(live(a, a.shelf)) == 5


def test_a_replica_is_usable_alone() -> None:
    a, b = Replica(shelf_of("A")), Replica(shelf_of("B"))
    assert b.receive(a.write(1, ("greeting",), "hello"))
    assert [op.payload for op in b.shown((1, ("greeting",)))] == ["hello"]
