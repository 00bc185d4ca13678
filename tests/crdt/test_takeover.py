"""Rule 8: who speaks for the writes of a shelf whose author started again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import JournalEntry, Key, Op, Replica, Rights
from crdt.ids import make_dot
from crdt.ops import TAKEOVER, VALUE
from crdt.takeover import NOTHING, Record, record_of, runs_of
from tests.crdt.meshes import KEY, REGISTER, forge, give, keep_house, live, meet, pull, replica, reread, shelf_of, shown, sound

OTHER: Key = (REGISTER, ("other",))


def restarted(name: str, birth: int, disk: list[JournalEntry]) -> Replica:
    """A new start, on a new shelf, from what a disk holds."""
    started = replica(name, birth)
    started.restore(disk)
    return started


# --- records

RUNS = st.lists(st.integers(1, 60), max_size=12).map(runs_of)
RECORDS = st.builds(
    lambda n, finished, disk, extra: Record(n, finished, disk, extra).join(NOTHING),
    st.integers(0, 40),
    st.booleans(),
    st.booleans(),
    RUNS,
)


@settings(max_examples=150, deadline=None)
@given(RECORDS, RECORDS)
def test_joining_records_speaks_for_both(one: Record, other: Record) -> None:
    joined = one.join(other)
    assert [joined.speaks(seq) for seq in range(1, 80)] == [one.speaks(seq) or other.speaks(seq) for seq in range(1, 80)]
    assert joined == other.join(one) == joined.join(one)
    assert (joined.n, joined.finished) == (max(one.n, other.n), one.finished or other.finished)
    assert record_of(joined.payload()) == joined


def test_runs_from_the_wire_are_never_expanded() -> None:
    record = record_of((2**40, 1, 5, 2**47))
    assert record.speaks(2**40 + 6 + 2**47)
    assert not record.speaks(2**40 + 5)


# --- the plain case: a restart


def test_a_restart_takes_over_and_everybody_follows_without_a_byte_more() -> None:
    old, b = replica("A", 1), replica("B")
    give([old.write(REGISTER, (str(n),), n) for n in range(20)], b)
    new = restarted("A", 2, old.take_journal())
    assert new.take_over() == 1
    (delta,) = new.seal()
    assert [op.kind for op in delta.ops] == [TAKEOVER]
    assert len(delta.body) < 60
    assert not delta.bulk
    before = b.state_digest()
    b.take_changes()
    give([delta], b)
    assert b.take_changes() == [], "nothing that a watcher sees"
    assert sorted(b.bases) == [new.shelf]
    assert b.state_digest() == new.state_digest() == before
    assert sound(b)
    assert {op.origin for op in live(b, new.shelf)} == {old.shelf, new.shelf}
    assert new.take_over() == 0


def test_a_takeover_of_what_is_not_at_hand_waits_for_a_statement() -> None:
    old, b, c = replica("A", 1), replica("B"), replica("C")
    first = old.write(*KEY, 1)
    old.write(*OTHER, 2)
    give([first], b)
    new = restarted("A", 2, old.take_journal())
    new.take_over()
    deltas = new.seal()
    give(deltas, b, c)
    assert (b.floor(new.shelf), c.floor(new.shelf)) == (0, 0)
    pull(b, new)
    pull(c, b)
    for one in (b, c):
        assert list(one.bases) == [new.shelf]
        assert not one.loose
        assert (shown(one), shown(one, OTHER)) == ([1], [2])
        assert sound(one)


def test_strays_of_the_former_count_until_they_are_taken_over_too() -> None:
    old, b = replica("A", 1), replica("B")
    give([old.write(*KEY, 1)], b)
    disk = old.take_journal()
    stray = old.write(*OTHER, "not on the disk")
    new = restarted("A", 2, disk)
    new.take_over()
    meet(new, b)
    give([stray], b)
    assert shown(b, OTHER) == ["not on the disk"]
    assert b.reached(old.shelf) == 1
    meet(new, b)
    assert shown(new, OTHER) == ["not on the disk"]
    assert new.take_over(final=True) == 1
    meet(new, b)
    assert shown(b, OTHER) == ["not on the disk"]
    assert sorted(b.bases) == [new.shelf]
    assert not b.loose


def test_peers_that_know_more_than_the_disk() -> None:
    old, b = replica("A", 1), replica("B")
    give([old.write(*KEY, 1)], b)
    disk = old.take_journal()
    give([old.write(*KEY, 2), old.write(*OTHER, 3)], b)
    new = restarted("A", 2, disk)
    new.take_over()
    meet(new, b)
    assert sorted(b.bases) == [old.shelf, new.shelf]
    assert new.take_over() == 1
    meet(new, b)
    assert (shown(b), shown(b, OTHER), sorted(b.bases)) == ([2], [3], [new.shelf])
    assert sound(b)


def test_a_lost_disk() -> None:
    """The new start learns of its former shelf from its peers."""
    old, b = replica("A", 1), replica("B")
    give([old.write(*KEY, 1)], b)
    new = replica("A", 2)
    assert new.take_over() == 0
    new.write(*OTHER, 2)
    meet(new, b)
    assert new.take_over() == 1
    meet(new, b)
    assert sorted(b.bases) == [new.shelf]
    assert (shown(b), shown(b, OTHER)) == ([1], [2])


def test_a_restored_backup_does_not_bring_back_what_was_removed() -> None:
    """Everybody who had covered the write has forgotten it; only the former shelf knows that it took it off."""
    old, b, c = replica("A", 1), replica("B"), replica("C")
    give([old.write(*KEY, "removed later")], b, c)
    backup = old.take_journal()
    give([b.write(*KEY, removed=True)], old, c)
    keep_house(old, b, c)
    assert live(c, old.shelf) == live(c, b.shelf) == []
    new = restarted("A", 2, backup)
    new.take_over()
    assert shown(new) == ["removed later"], "it cannot know better yet"
    meet(new, b, c)
    assert new.take_over() == 1
    meet(new, b, c)
    assert shown(new) == shown(b) == shown(c) == []
    keep_house(new, b, c)
    assert [op.kind for op in live(c, new.shelf)] == [TAKEOVER]


def test_chains_of_restarts() -> None:
    b = replica("B")
    disk: list[JournalEntry] = []
    for birth in range(1, 6):
        start = restarted("A", birth, disk)
        start.take_over()
        start.write(REGISTER, (str(birth),), birth)
        meet(start, b)
        disk += start.take_journal()
    assert list(b.bases) == [start.shelf]
    assert [shown(b, (REGISTER, (str(birth),))) for birth in range(1, 6)] == [[birth] for birth in range(1, 6)]
    assert sound(b)
    late = replica("C")
    pull(late, b)
    assert late.state_digest() == start.state_digest()
    assert sound(late)


def test_writes_of_a_former_shelf_are_covered_and_dropped_by_their_host() -> None:
    old, b = replica("A", 1), replica("B")
    give([old.write(*KEY, 1)], b)
    new = restarted("A", 2, old.take_journal())
    new.take_over()
    give(new.seal(), b)
    give([b.write(*KEY, 2)], new)
    assert shown(new) == [2]
    keep_house(new, b)
    assert [op.kind for op in live(b, new.shelf)] == [TAKEOVER]
    assert [op.covers for op in b.cells(KEY)] == [b.cells(KEY)[0].covers]
    assert shown(b) == shown(new) == [2]


def test_a_new_write_after_a_restart_covers_the_former_one() -> None:
    old, b = replica("A", 1), replica("B")
    give([old.write(*KEY, 1)], b)
    new = restarted("A", 2, old.take_journal())
    new.write(*KEY, 2)
    meet(new, b)
    assert shown(b) == shown(new) == [2]


# --- who may speak


def test_only_the_same_replica_takes_a_shelf_over() -> None:
    a, liar, b = replica("A"), replica("L"), replica("B")
    give([a.write(*KEY, "true")], b)
    claim = Op(TAKEOVER, 0, (a.shelf,), (2**40, 1), (), liar.shelf, make_dot(1, 0), 0, Rights(0, 0))
    instead = Op(VALUE, *KEY, "false", (), a.shelf, make_dot(1, 0), 0, Rights(0, 0))
    give([forge(liar.shelf, [claim, instead])], b)
    assert "void" in [fault.kind for fault in b.take_faults()]
    assert shown(b) == ["true"]
    give([a.write(*KEY, "still heard")], b)
    assert shown(b) == ["still heard"]


def test_a_cut_may_name_another_heir() -> None:
    heir, gone = shelf_of("H"), shelf_of("A")
    options: dict[str, Any] = {"heir": lambda former, host: (former, host) == (gone, heir)}
    b = replica("B", **options)
    give([replica("A").write(*KEY, 1)], b)
    claim = Op(TAKEOVER, 0, (gone,), (1, 0), (), heir, make_dot(1, 0), 0, Rights(0, 0))
    b.receive(forge(heir, [claim]))
    assert list(b.bases) == [heir]
    assert shown(b) == [1]


def test_after_a_takeover_the_former_is_not_listened_to() -> None:
    old, b = replica("A", 1), replica("B")
    first = old.write(*KEY, 1)
    new = restarted("A", 2, old.take_journal())
    new.take_over()
    new.write(*KEY, 2)
    meet(new, b)
    assert not b.receive(reread(first))
    assert b.has(old.shelf, 1)
    assert shown(b) == [2]


def test_shelves_that_take_each_other_over_do_no_harm() -> None:
    """Only a hostile author can do it, and only to itself."""
    one, other, b = shelf_of("A", 1), shelf_of("A", 2), replica("B")
    for host, former in ((one, other), (other, one)):
        b.receive(forge(host, [Op(TAKEOVER, 0, (former,), (0, 1, 0, 2**40), (), host, make_dot(1, 0), 0, Rights(0, 0))]))
    give([replica("C").write(*KEY, "others go on")], b)
    assert shown(b) == ["others go on"]


# --- what is inherited from the own disk


def test_inherited_are_shelves_from_the_own_disk_and_their_heirs() -> None:
    """The bounded counter asks: who found the former's state on its own disk knows what it had spent."""
    b = replica("B")
    first = replica("A", 1)
    first.write(*KEY, 1)
    meet(first, b)
    disk = first.take_journal()
    second = restarted("A", 2, disk)
    second.take_over()
    meet(second, b)
    disk += second.take_journal()
    third = restarted("A", 3, disk)
    third.take_over()
    meet(third, b)
    assert third.inherited == {first.shelf, second.shelf}
    wiped = replica("A", 4)
    meet(wiped, b)
    assert wiped.take_over() == 1
    assert wiped.inherited == frozenset()
    meet(wiped, b)
    fifth = restarted("A", 5, wiped.take_journal())
    fifth.take_over()
    assert fifth.inherited == {wiped.shelf}


def test_what_a_start_on_an_empty_disk_pulled_is_not_inherited_by_the_next() -> None:
    b, first = replica("B"), replica("A", 1)
    first.write(*KEY, 1)
    meet(first, b)
    wiped = replica("A", 2)
    wiped.write(*OTHER, 2)
    meet(wiped, b)
    disk = wiped.take_journal()
    third = replica("A", 3)
    third.restore(disk, ran=wiped.shelf)
    assert third.take_over() == 2
    assert third.inherited == {wiped.shelf}


# --- finished


def test_a_shelf_that_nobody_holds_any_more_is_declared_finished() -> None:
    """Its writes are gone for ever; covers of them need not be kept."""
    lost, b = replica("A", 1), replica("B")
    lost.write(REGISTER, ("gap",), 0)
    give([lost.write(*KEY, 1)], b)
    assert b.loose
    b.write(*KEY, removed=True)
    disk = b.take_journal()
    again = replica("B", 2)
    again.restore([entry for entry in disk if not hasattr(entry, "delta")])  # the loose delta is lost, too
    new = replica("A", 2)
    meet(again, new)
    keep_house(again, new)
    assert again.take_over() == 1
    keep_house(again, new)
    assert [op.kind for op in live(again, again.shelf)] == [1, TAKEOVER]
    assert new.take_over(final=True) == 1
    meet(again, new)
    keep_house(again, new)
    assert [op.kind for op in live(again, again.shelf)] == [TAKEOVER]


def test_final_issues_loose_ops_again_unless_something_newer_is_there() -> None:
    old, b = replica("A", 1), replica("B")
    old.write(*KEY, "base")
    disk = old.take_journal()
    old.write(REGISTER, ("gap",), 0)
    lost_gap = [old.write(*KEY, "loose"), old.write(*OTHER, "loose, too")]
    give(lost_gap, b)
    new = restarted("A", 2, disk)
    new.take_over()
    meet(new, b)
    assert shown(new) == ["loose"]
    assert new.take_over() == 0
    assert new.take_over(final=True) == 1
    deltas = new.seal()
    assert sorted(str(op.payload) for delta in deltas for op in delta.ops if op.kind == VALUE) == ["loose", "loose, too"]
    give(deltas, b)
    assert (shown(b), shown(b, OTHER)) == (["loose"], ["loose, too"])
    assert not b.loose
    assert not new.loose
    assert new.take_over(final=True) == 0
