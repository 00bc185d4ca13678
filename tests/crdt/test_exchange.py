"""What a replica takes in and what it does not: deltas, statements, ops that their author had no right to write."""

from __future__ import annotations

from typing import Any

from crdt import Key, Op, Path, Rights, ShelfId
from crdt.ids import make_dot, replica_of
from crdt.limits import LOOSE_MAX, SHELVES_MAX
from crdt.ops import VALUE
from tests.crdt.meshes import KEY, REGISTER, forge, give, meet, pull, replica, reread, shown, sound

OTHER: Key = (REGISTER, ("other",))


# --- deltas


def test_deltas_in_order_move_the_base_and_keep_the_authors_digest() -> None:
    a, b = replica("A"), replica("B")
    for n in range(100):
        give([a.write(REGISTER, ("k", str(n % 7)), n)], b)
        assert b.digest(a.shelf) == a.digest(a.shelf)
        assert sound(b)
    assert (b.floor(a.shelf), b.loose) == (100, {})


def test_a_gap_leaves_deltas_loose_and_shown() -> None:
    a, b = replica("A"), replica("B")
    one, two, three = (a.write(REGISTER, (name,), name) for name in "xyz")
    assert b.receive(reread(three))
    assert not b.receive(reread(three)), "nothing new"
    assert b.receive(reread(two))
    assert (b.floor(a.shelf), sorted(b.loose_seqs(a.shelf)), b.reached(a.shelf)) == (0, [2, 3], 0)
    assert shown(b, (REGISTER, ("z",))) == ["z"]
    assert b.has(a.shelf, 3)
    assert not b.has(a.shelf, 1)
    assert b.loose_delta(a.shelf, 2) == two
    assert b.receive(reread(one))
    assert (b.floor(a.shelf), b.loose) == (3, {})
    assert sound(b)


def test_the_mask_of_a_loose_delta_says_what_lives() -> None:
    a, b = replica("A"), replica("B")
    a.write(*OTHER, 0)
    for name in "xyz":
        a.draft(REGISTER, (name,), name)
    (delta,) = a.seal()
    b.receive(reread(delta), 0b001)
    assert [bool(shown(b, (REGISTER, (name,)))) for name in "xyz"] == [True, False, False]
    assert b.receive(reread(delta), 0b100)
    assert [bool(shown(b, (REGISTER, (name,)))) for name in "xyz"] == [True, False, True]
    assert b.receive(reread(delta))
    assert all(shown(b, (REGISTER, (name,))) for name in "xyz")


def test_loose_deltas_are_bounded_and_the_furthest_go() -> None:
    a, b = replica("A"), replica("B")
    deltas = [a.write(*KEY, n) for n in range(LOOSE_MAX + 3)]
    give(reversed(deltas[1:]), b)
    assert sorted(b.loose_seqs(a.shelf)) == list(range(2, LOOSE_MAX + 2))
    assert not b.receive(reread(deltas[-1]))
    give(deltas, b)
    assert (b.floor(a.shelf), b.loose) == (LOOSE_MAX + 3, {})


def test_shelves_of_one_replica_are_bounded() -> None:
    """Each start begins a shelf; only a takeover makes room for the next."""
    b = replica("B")
    starts = [replica("A", birth) for birth in range(SHELVES_MAX + 1)]
    for start in starts:
        give([start.write(*KEY, 1)], b)
    assert len(b.bases) == SHELVES_MAX
    assert [fault.kind for fault in b.take_faults()] == ["crowd"]
    assert b.take_faults() == []
    last = starts[-1]
    meet(*starts)
    last.take_over()
    last.seal()
    pull(b, last)
    assert list(b.bases) == [last.shelf]
    give([replica("C").write(*KEY, 1)], b)
    assert len(b.bases) == 2


def test_two_deltas_of_one_number_are_a_fork() -> None:
    a, clone, b = replica("A"), replica("A"), replica("B")
    one, other = a.write(*KEY, 1), clone.write(*KEY, 2)
    give([one, other], b)
    (fault,) = b.take_faults()
    assert (fault.kind, fault.shelf) == ("fork", a.shelf)
    assert set(fault.proof) == {one.head, other.head}
    give([a.write(*KEY, 3)], b)
    assert b.floor(a.shelf) == 1, "the shelf stays as it is"
    assert shown(b) == [1]


def test_a_successor_of_another_predecessor_is_a_fork() -> None:
    a, clone, b, c = replica("A"), replica("A"), replica("B"), replica("C")
    give([a.write(*KEY, 1)], b, c)
    clone.write(*KEY, 2)
    second = clone.write(*KEY, 3)
    give([second], b)
    assert [fault.kind for fault in b.take_faults()] == ["fork"]
    give([a.write(OTHER[0], OTHER[1], 4), a.write(*KEY, 5)], c)
    c.receive(reread(clone.write(*KEY, 6)))
    assert [fault.kind for fault in c.take_faults()] == ["fork"], "two loose deltas, or an old one that we remember"


def test_two_loose_deltas_of_one_number_are_a_fork() -> None:
    a, clone, b = replica("A"), replica("A"), replica("B")
    for author in (a, clone):
        author.write(*KEY, 0)
    give([a.write(*KEY, 1), clone.write(*KEY, 2)], b)
    assert [fault.kind for fault in b.take_faults()] == ["fork"]


def test_somebody_else_who_writes_our_shelf_is_reported() -> None:
    a, clone = replica("A"), replica("A")
    give([clone.write(*KEY, 1)], a)
    assert [fault.kind for fault in a.take_faults()] == ["identity"]
    assert shown(a) == []
    a.write(*KEY, 2)
    assert shown(a) == [2]


def test_old_deltas_are_remembered_long_enough_to_tell_a_fork() -> None:
    a, clone, b = replica("A"), replica("A"), replica("B")
    deltas = [a.write(*KEY, n) for n in range(600)]
    give(deltas, b)
    give(deltas[344:], b)
    assert b.take_faults() == []
    clone.write(*KEY, "x")
    for n in range(1, 400):
        forked = clone.write(*KEY, n)
    give([forked], b)
    assert [fault.kind for fault in b.take_faults()] == ["fork"]


# --- statements


def test_a_suffix_above_the_floor_and_the_whole_shelf_below_gc_floor() -> None:
    a, b = replica("A"), replica("B")
    for n in range(10):
        give([a.write(REGISTER, ("k", str(n)), n)], *([b] if n < 4 else []))
    listing = a.listing(a.shelf, b.floor(a.shelf))
    assert listing is not None
    assert (listing.since, [entry.place for entry in listing.entries]) == (4, [5, 6, 7, 8, 9, 10])
    assert a.listing(a.shelf, 10) is None
    assert b.jump(listing.head, listing.since, listing.entries, listing.bodies)
    assert sound(b)
    a.write(REGISTER, ("k", "0"), removed=True)
    assert a.retire()
    a.seal()
    listing = a.listing(a.shelf, b.floor(a.shelf))
    assert listing is not None
    assert listing.since == 0
    assert b.jump(listing.head, listing.since, listing.entries, listing.bodies)
    assert sound(b)
    assert shown(b, (REGISTER, ("k", "0"))) == []
    assert len(b.keys(("k",))) == 9


def test_a_list_is_checked_before_any_body_is_fetched() -> None:
    a, b = replica("A"), replica("B")
    for n in range(5):
        a.write(REGISTER, (str(n),), n)
    listing = a.listing(a.shelf)
    assert listing is not None
    head, entries = listing.head, listing.entries
    assert b.listing_matches(head, entries)
    assert b.missing_bodies(entries) == [(a.shelf, seq) for seq in range(1, 6)]
    lies = [
        entries[1:],
        entries[:-1],
        entries[::-1],
        (*entries, entries[-1]),
        (entries[0]._replace(mask=2), *entries[1:]),
        (entries[0]._replace(body_hash=bytes(16)), *entries[1:]),
        (entries[0]._replace(place=2), *entries[1:]),
        (entries[0]._replace(mask=0), *entries[1:]),
    ]
    for lie in lies:
        assert not b.listing_matches(head, lie)
        assert not b.jump(head, 0, lie, listing.bodies)
    assert not b.jump(head, 0, entries, listing.bodies[1:]), "a body is missing"
    assert b.bases == {}
    assert b.jump(head, 0, entries, {(body.shelf, body.seq): body for body in listing.bodies})
    assert b.body(a.shelf, 3) is not None
    assert b.body(a.shelf, 3, bytes(16)) is None
    assert not b.jump(head, 0, entries, listing.bodies), "nothing new"


def test_a_suffix_that_lies_is_refused_and_nothing_changed() -> None:
    a, b = replica("A"), replica("B")
    deltas = [a.write(REGISTER, (str(n % 4),), n) for n in range(9)]
    give(deltas[:4], b)
    before = b.state_digest()
    listing = a.listing(a.shelf, 4)
    assert listing is not None
    for at in range(len(listing.entries)):
        assert not b.jump(listing.head, 4, listing.entries[:at] + listing.entries[at + 1 :], listing.bodies)
    assert not b.jump(listing.head, 5, listing.entries, listing.bodies), "a suffix above what we have"
    assert (b.state_digest(), b.floor(a.shelf)) == (before, 4)
    assert sound(b)
    assert b.jump(listing.head, 4, listing.entries, listing.bodies)
    assert b.state_digest() == a.state_digest()


def test_a_base_whose_author_signed_something_else_is_not_served() -> None:
    """In-order receipt does not look at the digest; before anybody else is told, somebody does."""
    liar, b = replica("L"), replica("B")
    forged = forge(
        liar.shelf, [Op(VALUE, *KEY, "x", (), liar.shelf, make_dot(1, 0), 0, Rights(0, 0))], digest=b"wrong" + bytes(11)
    )
    give([forged], b)
    assert b.listing(liar.shelf) is None
    assert b.listing(liar.shelf) is None
    assert [fault.kind for fault in b.take_faults()] == ["digest"]


def test_loose_deltas_that_a_jump_passes_go_and_the_next_follow() -> None:
    a, b = replica("A"), replica("B")
    deltas = [a.write(REGISTER, (str(n),), n) for n in range(4)]
    listing = a.listing(a.shelf)
    assert listing is not None
    after = a.write(REGISTER, ("after",), 9)
    give([deltas[2], after], b)
    assert b.jump(listing.head, 0, listing.entries, listing.bodies)
    assert (b.floor(a.shelf), b.loose) == (5, {})
    assert sound(b)


# --- void ops


def test_ops_outside_the_rights_of_their_author_are_void_and_reported() -> None:
    """They stay in the chain, so that digests hold, and can be judged again."""
    forbidden: set[Path] = {("secret",)}

    def void_ops(_shelf: ShelfId, _seq: int, rights: Rights, ops: Any) -> int:
        return sum((op.path in forbidden and rights.credential < 2) << index for index, op in enumerate(ops))

    a, b = replica("A"), replica("B", void_ops=void_ops)
    give([a.write(REGISTER, ("secret",), 1), a.write(*KEY, 2)], b)
    secret: Key = (REGISTER, ("secret",))
    assert (shown(b, secret), shown(b), b.keys()) == ([], [2], [KEY])
    assert [fault.kind for fault in b.take_faults()] == ["void"]
    assert sound(b)
    b.take_changes()
    forbidden.clear()
    b.rejudge([replica_of(a.shelf)])
    assert (shown(b, secret), b.take_changes()) == ([1], [secret])
    forbidden.add(KEY[1])
    b.rejudge([replica_of(a.shelf)])
    assert shown(b) == []
    a.rights = Rights(2, 0)
    give([a.write(*KEY, 3)], b)
    assert shown(b) == [3]
    assert b.cells(KEY)[0].rights == Rights(2, 0)


def test_loose_ops_are_judged_too() -> None:
    allowed = False
    a, b = replica("A"), replica("B", void_ops=lambda *_: 0 if allowed else -1 & 0b1)
    a.write(*OTHER, 0)
    give([a.write(*KEY, 1)], b)
    assert shown(b) == []
    allowed = True
    b.rejudge([replica_of(a.shelf)])
    assert shown(b) == [1]


def test_nobody_speaks_for_a_stranger() -> None:
    """An op of another origin counts only where a takeover says so."""
    a, liar, b = replica("A"), replica("L"), replica("B")
    stolen = Op(VALUE, *KEY, "stolen", (), a.shelf, make_dot(9, 0), 0, Rights(0, 0))
    give([a.write(*KEY, "true"), forge(liar.shelf, [stolen])], b)
    assert shown(b) == ["true"]
    late = replica("C")
    give([forge(liar.shelf, [stolen], seq=2, previous=liar.write(*OTHER, 1).head)], late)
    assert shown(late) == [], "nor while it is loose"
