"""Buckets find exactly where two replicas differ."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from crdt.ids import ReplicaId, ShelfId
from mesh.sync.buckets import HIGHEST, LOWEST, Differed, FloorTable, bucket_of
from mesh.sync.messages import Floor
from mesh.wire.packer import FRAME_BYTES_MAX

shelves = st.binary(min_size=12, max_size=12).filter(lambda raw: raw != LOWEST).map(ShelfId)
floors = st.dictionaries(shelves, st.tuples(st.integers(1, 1 << 40), st.binary(min_size=4, max_size=4)), max_size=60)


class Side:
    """A table with what it reads."""

    def __init__(self, held: dict[ShelfId, tuple[int, bytes]]) -> None:
        self.held = {shelf: Floor(shelf, seq, hash4) for shelf, (seq, hash4) in held.items()}
        self.table = FloorTable(self.held.get)
        for shelf in self.held:
            self.table.moved(shelf)

    def set(self, floor: Floor | None, shelf: ShelfId) -> None:
        if floor is None:
            self.held.pop(shelf, None)
        else:
            self.held[shelf] = floor
        self.table.moved(shelf)


@given(floors, floors)
def test_a_bucket_differs_when_and_only_when_its_floors_do(
    one: dict[ShelfId, tuple[int, bytes]], two: dict[ShelfId, tuple[int, bytes]]
) -> None:
    a, b = Side(one), Side(two)
    different = {bucket_of(shelf) for shelf in {*one, *two} if one.get(shelf) != two.get(shelf)}
    assert set(a.table.differing(b.table.hashes())) == different
    assert set(b.table.differing(a.table.hashes())) == different


@given(floors, st.data())
def test_hashes_follow_every_change(held: dict[ShelfId, tuple[int, bytes]], data: st.DataObject) -> None:
    side = Side(held)
    for shelf in sorted(held):
        action = data.draw(st.sampled_from(["keep", "raise", "let go"]))
        if action == "raise":
            side.set(Floor(shelf, held[shelf][0] + 1, b"news"), shelf)
        elif action == "let go":
            side.set(None, shelf)
    fresh = Side({shelf: (floor.seq, floor.hash4) for shelf, floor in side.held.items()})
    assert side.table.hashes() == fresh.table.hashes()


@given(floors, shelves)
def test_what_the_digest_names_itself_needs_no_descent(held: dict[ShelfId, tuple[int, bytes]], shelf: ShelfId) -> None:
    mine = Side(held)
    theirs = Side({**held, shelf: (1 << 41, b"news")})
    named = [theirs.held[shelf]]
    assert mine.table.differing(theirs.table.hashes(), named) == []


@given(st.integers(0, 200))
def test_pages_cover_every_id_once_and_fit(count: int) -> None:
    ids = [shelf for number in range(40_000) if bucket_of(shelf := ShelfId(number.to_bytes(12, "big"))) == 7 and number][:count]
    side = Side(dict.fromkeys(ids, (1 << 40, b"hash")))
    pages = side.table.pages(7, random.Random(1))
    assert [floor.shelf for page in pages for floor in page.floors] == ids
    assert (pages[0].low, pages[-1].high) == (LOWEST, HIGHEST)
    assert all(former.high == page.low for former, page in itertools.pairwise(pages))
    for page in pages:
        assert len(page.encode()) <= FRAME_BYTES_MAX
        assert side.table.within(7, page.low, page.high) == list(page.floors)


def test_a_bucket_that_goes_on_differing_is_told_of_more_and_more_rarely() -> None:
    """A newcomer was once told the floors of all shelves with every digest, for as long as it pulled them: where that took long,
    nothing else was done."""
    differed, peer = Differed(), ReplicaId(b"newcomer")
    told = []
    for digest in range(200):
        due = differed.again(peer, (3, 5) if digest else (3,))
        if 3 in due:
            differed.tells(peer, 3)
            told.append(digest)
        assert (5 in due) == (digest >= 2), "nobody told it of this one: it stays due"
    assert told == [1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192]


def test_a_bucket_that_was_equal_meanwhile_is_told_of_at_once() -> None:
    differed, peer = Differed(), ReplicaId(b"newcomer")
    for _ in range(10):
        if differed.again(peer, (3,)):
            differed.tells(peer, 3)
    assert differed.again(peer, ()) == []
    assert [differed.again(peer, (3,)) for _ in range(2)] == [[], [3]]
    for _ in range(10):
        if differed.again(peer, (3,)):
            differed.tells(peer, 3)
    differed.suspect_all(peer)
    assert differed.again(peer, (3,)) == [3]
