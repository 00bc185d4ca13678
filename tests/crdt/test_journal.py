"""A store keeps what the journal says, and a replica comes back from it bit for bit."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import Entry, HeadSet, JournalEntry, LiveSet, LooseSet, Replica, ShelfGone
from crdt.ops import TAKEOVER
from tests.crdt.meshes import KEY, REGISTER, give, keep_house, live, meet, pull, replica, shown, sound
from tests.crdt.world import ALL_RULES, Options, World

Row = tuple[str, Any]


class Table:
    """The simplest store: rows by key, an entry replaces what was there."""

    def __init__(self) -> None:
        self.rows: dict[Row, JournalEntry] = {}
        self.applied: list[JournalEntry] = []

    def apply(self, entries: list[JournalEntry]) -> None:
        self.applied += entries
        for entry in entries:
            match entry:
                case HeadSet(shelf):
                    self.rows["head", shelf] = entry
                case LiveSet(shelf, live, raw):
                    key: Row = ("live", (shelf, *live[:3]))
                    before = self.rows.get(key)
                    if not live.mask:
                        assert before is not None, "only what is there goes"
                        del self.rows[key]
                    else:
                        assert (raw is None) == (before is not None), "a body is written once"
                        self.rows[key] = entry if before is None else entry._replace(raw=before.raw)  # type: ignore[union-attr]
                case LooseSet(shelf, seq, None):
                    self.rows.pop(("loose", (shelf, seq)), None)
                case LooseSet(shelf, seq):
                    self.rows["loose", (shelf, seq)] = entry
                case ShelfGone(shelf):
                    self.rows = {row: kept for row, kept in self.rows.items() if kept.shelf != shelf}


def contents(one: Replica) -> object:
    """All that a replica holds, but for its own shelf's name."""
    return (
        [
            (shelf, base.head, [held.entry for held in base.everything()], base.digest())
            for shelf, base in sorted(one.bases.items())
        ],
        [(shelf, seq, loose) for shelf, rows in sorted(one.loose.items()) for seq, loose in sorted(rows.items())],
        one.records.said,
        one.state_digest(),
        [(key, one.cells(key)) for key in one.keys(())],
    )


def come_back(table: Table, birth: int = 99) -> Replica:
    again = replica("Z", birth)
    again.restore(table.rows.values())
    return again


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_store_holds_what_the_replica_holds_at_any_moment(seed: int) -> None:
    """Through histories with restarts, cuts, takeovers and housekeeping; batches written whenever it pleases the disk."""
    world = World(seed, ALL_RULES, Options(steps=25, tidy=1))
    rng = random.Random(seed)
    for _ in range(world.options.steps):
        world.step()
        if rng.random() < 0.2:
            agent = rng.choice(world.agents)
            agent.seal()  # what is drafted is on no disk
            table = Table()
            while len(table.applied) < len(agent.log):
                table.apply(agent.log[len(table.applied) :][: rng.randint(1, 30)])
            again = come_back(table)
            assert contents(again) == contents(agent.replica)
            assert not again.faults
            assert sound(again)
            assert again.take_journal() == []


def test_a_restored_replica_goes_on_where_it_was() -> None:
    a, b = replica("A"), replica("B")
    table = Table()
    for n in range(30):
        give([a.write(REGISTER, ("k", str(n % 9)), n)], b)
        if n % 4 == 0:
            table.apply(b.take_journal())
    table.apply(b.take_journal())
    again = come_back(table)
    assert again.take_changes() == []
    assert again.digest(a.shelf) == again.head(a.shelf).header.shelf_digest  # type: ignore[union-attr]
    give([a.write(*KEY, "next")], b, again)
    assert again.floor(a.shelf) == 31
    assert again.state_digest() == b.state_digest()
    table.apply(again.take_journal())
    assert come_back(table).state_digest() == b.state_digest()


def test_only_what_changed_is_told() -> None:
    a, b = replica("A"), replica("B")
    give([a.write(REGISTER, (str(n),), n) for n in range(50)], b)
    assert len(b.take_journal()) == 51
    assert b.take_journal() == []
    give([a.write(REGISTER, ("7",), 1)], b)
    entries = b.take_journal()
    assert [(type(entry).__name__, getattr(entry, "entry", entry)[0]) for entry in entries] == [
        ("LiveSet", 8),
        ("LiveSet", 51),
        ("HeadSet", a.shelf),
    ]
    assert [entry.entry.mask for entry in entries if isinstance(entry, LiveSet)] == [0, 1]


def test_a_body_is_written_once_and_then_only_its_mask() -> None:
    a = replica("A")
    for n in range(5):
        a.draft(REGISTER, (str(n),), n)
    a.seal()
    (first, _) = a.take_journal()
    a.write(REGISTER, ("3",), 1)
    changed = a.take_journal()[0]
    assert isinstance(first, LiveSet)
    assert isinstance(changed, LiveSet)
    assert (first.entry.mask, changed.entry.mask) == (0b11111, 0b10111)
    assert first.raw is not None
    assert changed.raw is None


def test_a_shelf_that_was_let_go_leaves_the_store() -> None:
    old, b = replica("A", 1), replica("B")
    for n in range(3):
        give([old.write(REGISTER, (str(n),), n)], b)
    table = Table()
    table.apply(b.take_journal())
    new = replica("A", 2)
    new.restore(old.take_journal())
    new.take_over()
    give(new.seal(), b)
    entries = b.take_journal()
    assert ShelfGone(old.shelf) in entries
    table.apply(entries)
    assert {entry.shelf for entry in table.rows.values()} == {new.shelf}
    again = come_back(table)
    assert contents(again) == contents(b)


def stored() -> tuple[Replica, Replica, Table]:
    """A, and B with a table that holds what it knows of A and C."""
    a, b, c = replica("A"), replica("B"), replica("C")
    for n in range(4):
        give([a.write(REGISTER, (str(n),), n)], b)
    give([c.write(REGISTER, ("c",), "c")], b)
    table = Table()
    table.apply(b.take_journal())
    return a, b, table


def damage(table: Table, shelf: bytes, what: str) -> None:
    for row, entry in list(table.rows.items()):
        if isinstance(entry, LiveSet) and entry.shelf == shelf and entry.entry.seq == 2:
            changed: dict[str, LiveSet | None] = {
                "a body of other bytes": entry._replace(raw=b"\x00" + (entry.raw or b"")),
                "a row that is missing": None,
                "a mask of ops that were not there": entry._replace(entry=entry.entry._replace(mask=3)),
                "a body without bytes": entry._replace(raw=None),
                "a place beyond the head": entry._replace(entry=Entry(9, entry.entry.shelf, 9, entry.entry.body_hash, 1)),
            }
            new = changed.get(what, entry)
            if new is None:
                del table.rows[row]
            else:
                table.rows[row] = new
        if isinstance(entry, HeadSet) and entry.shelf == shelf:
            if what == "no head":
                del table.rows[row]
            if what == "a head of other bytes":
                table.rows[row] = entry._replace(header_bytes=entry.header_bytes[:-1] + b"\x00")
            if what == "a head that is no header":
                table.rows[row] = entry._replace(header_bytes=b"\xff")


@pytest.mark.parametrize(
    "what",
    [
        "a body of other bytes",
        "a row that is missing",
        "a mask of ops that were not there",
        "a body without bytes",
        "a place beyond the head",
        "no head",
        "a head that is no header",
    ],
)
def test_a_shelf_whose_rows_do_not_match_is_reported_and_pulled_anew(what: str) -> None:
    a, b, table = stored()
    damage(table, a.shelf, what)
    again = come_back(table)
    (fault,) = again.take_faults()
    assert (fault.kind, fault.shelf) == ("stored", a.shelf)
    assert shown(again, (REGISTER, ("c",))) == ["c"], "other shelves are not touched"
    assert a.shelf not in again.bases
    assert again.index.at(("2",)) == []
    table.apply(again.take_journal())
    assert a.shelf not in {entry.shelf for entry in table.rows.values()}
    pull(again, a)
    assert again.state_digest() == b.state_digest()
    table.apply(again.take_journal())
    assert come_back(table).state_digest() == b.state_digest()


def test_a_head_of_other_bytes_is_not_believed() -> None:
    """The store does not verify signatures, but the chain goes on from the head's hash: a successor would not fit."""
    a, _, table = stored()
    damage(table, a.shelf, "a head of other bytes")
    again = come_back(table)
    give([a.write(*KEY, "next")], again)
    assert {fault.kind for fault in again.take_faults()} <= {"stored", "fork"}
    assert shown(again) != ["next"] or a.shelf not in again.bases


def test_own_loose_and_hosted_rows_come_back_too() -> None:
    old, b = replica("A", 1), replica("B")
    old.write(*KEY, "own")
    late = replica("C")
    late.write(REGISTER, ("gap",), 0)
    give([late.write(REGISTER, ("loose",), "loose")], old)
    disk = old.take_journal()
    new = replica("A", 2)
    new.restore(disk)
    new.take_over()
    meet(new, b)
    disk += new.take_journal()
    third = replica("A", 3)
    third.restore(disk)
    assert sorted(third.loose_seqs(late.shelf)) == [2]
    assert shown(third, (REGISTER, ("loose",))) == ["loose"]
    assert shown(third) == ["own"]
    third.take_over()
    meet(third, b)
    keep_house(third, b)
    assert [op.kind for op in live(b, third.shelf)].count(TAKEOVER) == 2
    assert sound(b)
