"""Rules 4 to 6: what leaves a shelf, when, and what stays."""

from __future__ import annotations

import random

from crdt import Key, Replica, housekeeping
from crdt.ids import dot_seq
from crdt.ops import DROPPED, REMOVED, VALUE
from tests.crdt.meshes import KEY, REGISTER, give, keep_house, live, meet, replica, shown, sound

# --- drop


def test_a_covered_cell_leaves_after_a_while() -> None:
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, 1)], b)
    give([b.write(*KEY, 2)], a)
    assert a.drop(100.0) == 0, "seen now"
    assert a.drop(129.0) == 0
    assert a.drop(130.0) == 1
    (delta,) = a.seal()
    assert [(op.kind, op.origin, dot_seq(op.dot)) for op in delta.ops] == [(DROPPED, a.shelf, 2)]
    assert delta.bulk, "never pushed"
    give([delta], b)
    assert shown(a) == shown(b) == [2]
    assert [op.payload for op in b.cells(KEY)] == [2]
    assert a.drop(1e9) == 0
    assert sound(b)


def test_patience_is_with_the_write_not_with_its_place() -> None:
    """Found by `mesh sim --nodes 24 --rate 30 --seconds 60`: where several write one register all the time, the patience of a
    former cell ended when the new one had just been covered; who had the next overwrite before the drop showed both a while."""
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, 1)], b)
    give([b.write(*KEY, 2)], a)
    assert a.drop(100.0) == 0, "the first is covered, and seen to be"
    give([a.write(*KEY, 3)], b)
    give([b.write(*KEY, 4)], a)
    assert a.drop(131.0) == 0, "the second only since a moment ago"
    assert a.drop(160.9) == 0
    assert a.drop(161.0) == 1


def test_what_is_noticed_waits_once_however_often_it_is_covered() -> None:
    """Regression: each further write of a hot key made every covered cell there suspect again: it was looked at anew, and waited
    once more beside itself."""
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, 1)], b)
    for n in range(5):
        give([b.write(*KEY, n)], a)
        a.notice(100.0 + n)
    assert [since for since, _, _ in a.chores.patient] == [100.0]
    assert a.drop(129.9) == 0
    assert a.drop(130.0) == 1, "since it was covered first"
    assert not a.chores.patient
    assert not a.chores.noticed


def test_a_cover_that_is_only_loose_drops_nothing() -> None:
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, 1)], b)
    b.write(REGISTER, ("gap",), 0)
    give([b.write(*KEY, 2)], a)
    assert shown(a) == [2]
    assert a.drop(0.0, 0.0) == 0
    meet(a, b)
    assert a.drop(0.0, 0.0) == 1


def test_a_wrong_check_drops_nothing() -> None:
    a, b = replica("A"), replica("B")
    a.write(*KEY, 1)
    twin = replica("A")
    give([twin.write(*KEY, "another first write")], b)
    give([b.write(*KEY, 2)], a)
    assert a.drop(0.0, 0.0) == 0
    assert sorted(map(str, shown(a))) == ["1", "2"]


def test_a_drop_acts_only_in_the_base() -> None:
    """While it is loose, what covers the cell may be missing, too."""
    a, b, c = replica("A"), replica("B"), replica("C")
    first = a.write(*KEY, 1)
    give([first], b, c)
    give([b.write(*KEY, 2)], a)
    a.write(REGISTER, ("gap",), 0)
    a.drop(0.0, 0.0)
    give(a.seal(), c)
    assert sorted(c.loose_seqs(a.shelf)) == [3]
    assert shown(c) == [1]


def test_a_write_over_a_drafted_drop() -> None:
    """The user's write takes the drop's place and inherits what the dropped cell covered."""
    a, b, c = replica("A"), replica("B"), replica("C")
    give([c.write(*KEY, 0)], a)
    give([a.write(*KEY, 1)], b)
    give([b.write(*KEY, 2)], a)
    assert a.drop(0.0, 0.0) == 1
    a.draft(*KEY, 3)
    (delta,) = a.seal()
    assert [op.kind for op in delta.ops] == [VALUE]
    assert [cover.origin for cover in delta.ops[0].covers] == [b.shelf, c.shelf]
    assert not delta.bulk


# --- retire


def test_a_removed_cell_goes_when_all_that_it_covers_is_gone() -> None:
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, 1)], b)
    give([b.write(*KEY, removed=True)], a)
    assert b.retire() == 0, "A's write is still on its shelf"
    a.drop(0.0, 0.0)
    meet(a, b)
    assert b.retire() == 1
    (delta,) = b.seal()
    assert (delta.header.gc_floor, delta.ops, delta.bulk) == (1, (), True)
    give([delta], a)
    assert live(a, b.shelf) == live(b, b.shelf) == []
    assert sound(a)
    assert a.retire() == 1
    meet(a, b)
    assert live(a, a.shelf) == []
    assert a.retire() == b.retire() == 0


def test_what_is_still_needed_below_gc_floor_is_issued_again() -> None:
    a, b, c = replica("A"), replica("B"), replica("C")
    offline: Key = (REGISTER, ("offline",))
    give([a.write(*KEY, 1), c.write(*offline, 1)], b)
    for key in (KEY, offline):
        b.draft(*key, removed=True)
    b.seal()
    meet(a, b)
    a.drop(0.0, 0.0)
    meet(a, b)
    assert b.retire() == 1
    (delta,) = b.seal()
    assert delta.header.gc_floor == 1
    assert [(op.kind, op.path, dot_seq(op.dot)) for op in delta.ops] == [(REMOVED, offline[1], 1)], "the dot that it always had"
    assert b.retire() == 0
    meet(a, b, c)
    assert shown(c, offline) == []
    assert sound(a)
    keep_house(a, b, c)
    assert [live(b, one.shelf) for one in (a, b, c)] == [[], [], []]


def test_gc_floor_waits_for_those_who_have_not_reported() -> None:
    a = replica("A")
    a.write(REGISTER, ("x",), 1)
    a.write(REGISTER, ("x",), removed=True)
    a.write(REGISTER, ("y",), removed=True)
    assert a.retire(lambda seq: seq < 2) == 0
    assert a.retire(lambda seq: seq < 3) == 1
    (delta,) = a.seal()
    assert delta.header.gc_floor == 2
    assert a.retire() == 1


def test_retiring_is_not_worth_issuing_much_again() -> None:
    """One cell is free, ten that are needed stand below it."""
    a, b = replica("A"), replica("B")
    for n in range(10):
        give([a.write(REGISTER, (str(n),), n)], b)
    for n in range(10):
        b.draft(REGISTER, (str(n),), removed=True)
    b.seal()
    b.write(*KEY, removed=True)
    assert b.retire() == 0
    for n in range(12):
        b.draft(REGISTER, ("free", str(n)), removed=True)
    b.seal()
    assert b.retire() == 13
    assert len(b.seal()[-1].ops) == 10


def test_whoever_was_away_learns_that_a_write_is_gone() -> None:
    """Its absence under a signed digest is the tombstone."""
    a, b, away = replica("A"), replica("B"), replica("C")
    give([a.write(*KEY, 1)], b, away)
    give([b.write(*KEY, removed=True)], a)
    keep_house(a, b)
    assert live(a, b.shelf) == []
    assert shown(away) == [1]
    meet(a, b, away)
    assert shown(away) == shown(a) == []
    assert sound(away)


# --- repack


def hosted_bytes(one: Replica) -> int:
    return sum(len(held.body.raw) + housekeeping.ENTRY_BYTES for base in one.bases.values() for held in base.everything())


def fresh_copy(one: Replica) -> Replica:
    """A replica that writes what `one` shows, and nothing else ever."""
    fresh = replica("Z")
    for key in one.keys(()):
        for op in one.shown(key):
            fresh.draft(*key, op.payload, now_wall=op.time)
    fresh.seal()
    return fresh


def test_after_many_adds_and_removes_the_state_is_hardly_larger_than_a_fresh_one() -> None:
    rng = random.Random(1)
    authors = [replica(name) for name in "ABC"]
    now = 0.0
    for round_ in range(300):
        author = rng.choice(authors)
        for _ in range(20):
            now += 0.005
            key = (REGISTER, ("robots", "inventory", f"warehouse/shelf/{rng.randrange(400):04}"))
            removed = bool(author.shown(key))
            author.draft(*key, None if removed else (rng.random(), "state"), removed=removed, now_wall=int(now * 1e6))
        give(author.seal(), *[one for one in authors if one is not author])
        if not round_ % 10:
            for one in authors:
                one.drop(now, 0.2)
                one.retire()
                one.repack()
                give(one.seal(), *[other for other in authors if other is not one])
    keep_house(*authors, rounds=8)
    keys = authors[0].keys()
    assert 150 < len(keys) < 250
    assert len({one.state_digest() for one in authors}) == 1
    assert [op.kind for base in authors[0].bases.values() for held in base.everything() for _, op in held.live()] == [
        VALUE
    ] * len(keys)
    slack = 3 * housekeeping.WASTE_SLACK_BYTES
    assert hosted_bytes(authors[0]) - slack <= 1.2 * hosted_bytes(fresh_copy(authors[0]))
    assert all(map(sound, authors))


def test_repacked_ops_are_what_they_were() -> None:
    a, b = replica("A"), replica("B")
    for n in range(200):
        a.write(REGISTER, ("k", f"{n:03}"), n, now_wall=n * 10**6)
    meet(a, b)
    before = {key: a.cells(key) for key in a.keys(())}
    bodies = len(a.bases[a.shelf].own)
    assert a.repack() > 150
    assert {key: a.cells(key) for key in a.keys(())} == before, "also while it is drafted"
    deltas = a.seal()
    assert all(delta.bulk for delta in deltas)
    give(deltas, b)
    assert {key: b.cells(key) for key in b.keys(())} == before
    assert len(a.bases[a.shelf].own) < bodies / 4
    assert sound(b)
    assert a.repack() == 0, "once is enough"


def test_repack_leaves_covers_out_that_are_gone() -> None:
    """What an op covers is no part of its check, so nobody who covers it notices."""
    a, b, c = replica("A"), replica("B"), replica("C")
    keys = [(REGISTER, ("k", f"{n:03}")) for n in range(100)]
    for key in keys:
        give([a.write(*key, 0, now_wall=1)], b)
    for key in keys:
        give([b.write(*key, 1, now_wall=2)], a, c)
    a.drop(0.0, 0.0)
    meet(a, b)
    late = c.write(*keys[0], 2).ops[0]
    assert b.repack()
    meet(a, b)
    assert not any(op.covers for key in keys for op in a.cells(key))
    assert shown(a, keys[0]) == [1]
    meet(a, b, c)
    assert late.covers[-1].origin == b.shelf
    assert shown(a, keys[0]) == [2]


def test_a_small_shelf_is_left_alone() -> None:
    a = replica("A")
    for n in range(10):
        a.write(REGISTER, (str(n),), n)
    assert a.repack() == 0


def test_what_has_stood_for_long_is_packed_in_a_small_shelf_too() -> None:
    """Two kilobytes of waste for each author were a tenth of what a mesh with little state held at rest. Regression."""
    a, b = replica("A"), replica("B")
    for n in range(20):
        give([a.write(REGISTER, (f"key {n}",), n)], b)
    old = a.floor(a.shelf)
    give([a.write(REGISTER, ("young",), 1)], b)
    assert a.repack() == 0
    assert a.repack(settled=3) == 0, "what is young may soon be gone"
    assert a.repack(settled=old) == 20
    give(a.seal(), b)
    assert a.repack(settled=a.floor(a.shelf)) == 0, "once is enough"
    assert len(a.bases[a.shelf].own) == 2
    assert a.state_digest() == b.state_digest()
    assert sound(b)


def test_housekeeping_never_looks_at_everything() -> None:
    """Its lists are empty while nothing happens, however large the state."""
    a, b = replica("A"), replica("B")
    for n in range(500):
        a.draft(REGISTER, ("k", str(n)), n)
    meet(a, b)
    keep_house(a, b)
    chores = a.chores
    idle = [chores.suspects, chores.patient, chores.noticed, chores.unchecked, chores.waiting, chores.absent, chores.worn]
    assert not any(idle)
    give([b.write(REGISTER, ("k", "7"), removed=True)], a)
    assert len(chores.suspects) == 1
