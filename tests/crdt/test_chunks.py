"""What does not fit into one datagram: cut, sent first, put together, and gone with the last op that needs it."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import Cover, Key, Op, Replica, Rights, ValueTooLarge, codec
from crdt.chunks import Plan, chunk_key, plan
from crdt.digest import digest_16
from crdt.ids import make_dot
from crdt.index import Over
from crdt.limits import CORE_TYPE, LARGE_BYTES_MAX
from crdt.ops import LARGE, VALUE
from crdt.writer import CHUNKS_PUSHED_MAX
from tests.crdt.meshes import KEY, REGISTER, forge, give, keep_house, live, meet, pull, replica, reread, shelf_of, shown, sound


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def chunks_of(one: Replica) -> int:
    return sum(
        op.type == CORE_TYPE and op.kind == VALUE
        for base in one.bases.values()
        for held in base.everything()
        for _, op in held.live()
    )


@pytest.mark.parametrize("size", [800, 900, 5_000, 30_000, 100_000])
def test_large_values_arrive(size: int) -> None:
    a, b = replica("A"), replica("B")
    a.draft(*KEY, {"map": [noise(size), "text"]})
    assert shown(a) == [{"map": (noise(size), "text")}]
    deltas = a.seal()
    assert max(len(delta.body) for delta in deltas) <= 960
    bulk = len(deltas) - 1 > CHUNKS_PUSHED_MAX
    assert [delta.bulk for delta in deltas] == [bulk] * (len(deltas) - 1) + [False]
    give(deltas, b)
    assert shown(b) == shown(a)
    assert sound(b)
    late = replica("C")
    pull(late, b)
    assert shown(late) == shown(a)
    (cell,) = late.cells(KEY)
    assert late.value(cell) == shown(a)[0]
    assert late.keys() == [KEY]
    assert len(codec.encode(cell.payload)) <= 864


def test_the_limit_is_the_limit() -> None:
    a = replica("A")
    a.draft(*KEY, bytes(LARGE_BYTES_MAX - 5))
    assert len(shown(a)[0]) == LARGE_BYTES_MAX - 5
    assert len(a.seal()) < 8, "equal chunks are one chunk"
    with pytest.raises(ValueTooLarge, match=str(LARGE_BYTES_MAX + 5)):
        a.draft(*KEY, bytes(LARGE_BYTES_MAX))
    assert a.seal() == []


def test_while_chunks_are_missing_a_loose_op_is_not_there_yet() -> None:
    a, b = replica("A"), replica("B")
    give([a.write(*KEY, "before")], b)
    a.draft(*KEY, noise(5000))
    *chunks, last = a.seal()
    b.receive(reread(last))
    assert shown(b) == ["before"]
    give(chunks[1:], b)
    assert shown(b) == ["before"]
    b.take_changes()
    give(chunks[:1], b)
    assert shown(b) == [noise(5000)]
    assert KEY in b.take_changes()


def test_a_loose_op_shows_once_its_chunks_are_there_without_the_base() -> None:
    a, b = replica("A"), replica("B")
    a.write(REGISTER, ("gap",), 0)
    a.draft(*KEY, noise(3000))
    *chunks, last = a.seal()
    give([last, *chunks[:-1]], b)
    assert shown(b) == []
    b.take_changes()
    give(chunks[-1:], b)
    assert shown(b) == [noise(3000)]
    assert b.floor(a.shelf) == 0
    assert KEY in b.take_changes(), "a watcher hears of it"


def test_chunks_are_shared_and_go_with_the_last_reference() -> None:
    a, b = replica("A"), replica("B")
    other: Key = (REGISTER, ("other",))
    for key in (KEY, other):
        a.draft(*key, noise(4000))
        give(a.seal(), b)
    count = chunks_of(a)
    assert count < 8
    a.write(*KEY, "small")
    keep_house(a, b)
    assert chunks_of(a) == chunks_of(b) == count
    assert shown(b, other) == [noise(4000)]
    a.write(other[0], other[1], removed=True)
    keep_house(a, b)
    assert chunks_of(a) == chunks_of(b) == 0
    assert [op.path for op in live(b, a.shelf)] == [KEY[1]]


def test_a_chunk_about_to_be_dropped_is_needed_again() -> None:
    a, b = replica("A"), replica("B")
    a.draft(*KEY, noise(4000))
    a.seal()
    a.write(*KEY, "small")
    assert a.drop(0.0, 0.0) > 0
    a.draft(*KEY, noise(4000))
    a.seal()
    keep_house(a, b)
    assert shown(a) == shown(b) == [noise(4000)]
    assert a.drop(0.0, 0.0) == 0


def test_a_covered_large_value_keeps_its_chunks_until_it_is_dropped() -> None:
    a, b = replica("A"), replica("B")
    a.draft(*KEY, noise(2000))
    meet(a, b)
    give([b.write(*KEY, "over")], a)
    assert a.drop(0.0, 30.0) == 0
    meet(a, b)
    assert chunks_of(a) > 0
    keep_house(a, b)
    assert chunks_of(a) == chunks_of(b) == 0


def test_more_covers_than_fit_go_into_chunks() -> None:
    b = replica("B")
    writers = [replica(name) for name in map(chr, range(0x50, 0x50 + 42))] + [
        replica(name) for name in map(chr, range(0x21, 0x21 + 28))
    ]
    for writer in writers:
        give([writer.write(*KEY, writer.shelf[:1])], b)
    assert len(shown(b)) == 70
    b.draft(*KEY, "one for all")
    deltas = b.seal()
    assert deltas[-1].ops[-1].kind & LARGE
    assert deltas[-1].ops[-1].covers == ()
    assert shown(b) == ["one for all"]
    (cell,) = [op for op in b.cells(KEY) if op.origin == b.shelf]
    assert len(b.covers_of(cell)) == 70
    c = replica("C")
    for writer in writers[:3]:
        pull(c, writer)
    give(deltas, c, *writers[:3])
    assert shown(c) == ["one for all"]
    keep_house(b, c, *writers[:3], rounds=2)
    assert [len(live(c, writer.shelf)) for writer in writers[:3]] == [0, 0, 0]
    c.draft(*KEY, "inherits them")
    give(c.seal(), writers[0])
    (heir,) = [op for op in writers[0].cells(KEY) if op.origin == c.shelf]
    assert len(writers[0].covers_of(heir)) >= 67


def test_what_never_comes_is_not_waited_for_for_ever() -> None:
    a, b = replica("A"), replica("B")
    for n in range(20):
        a.draft(*KEY, noise(2000, n))
        *_, last = a.seal()
        give([last], b)
    meet(a, b)
    assert shown(b) == [noise(2000, 19)]
    assert not b.chunks._awaited
    assert not b.chunks._awaits


def test_takeover_and_repack_keep_large_values() -> None:
    old, b = replica("A", 1), replica("B")
    old.draft(*KEY, noise(3000))
    meet(old, b)
    new = replica("A", 2)
    new.restore(old.take_journal())
    new.take_over()
    meet(new, b)
    assert shown(b) == [noise(3000)]
    new.write(*KEY, 1)
    new.take_over(final=True)
    keep_house(new, b)
    assert chunks_of(new) == chunks_of(b) == 0


def test_a_stray_finds_the_chunks_that_its_heir_kept() -> None:
    """The heir took over the chunks, and the op that needs them comes later."""
    old, b = replica("A", 1), replica("B")
    old.draft(*KEY, noise(3000))
    *chunks, last = old.seal()
    give(chunks, b)
    new = replica("A", 2)
    meet(new, b)
    assert new.take_over() == 1
    meet(new, b)
    keep_house(new, b)
    give([last], b)
    assert shown(b) == [noise(3000)]
    meet(new, b)
    assert new.take_over(final=True) == 1
    keep_house(new, b)
    assert shown(new) == shown(b) == [noise(3000)]
    assert not b.loose
    new.write(*KEY, "small")
    keep_house(new, b)
    assert chunks_of(new) == chunks_of(b) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20_000), st.sampled_from([64, 100, 832]), st.integers(0, 3))
def test_a_plan_is_put_together_again(size: int, chunk_bytes: int, covers: int) -> None:
    payload = noise(size)
    covered = tuple(Cover(shelf_of("B"), make_dot(n + 1, 0), n) for n in range(covers))
    cut: Plan = plan(payload, covered, chunk_bytes)
    assert all(len(piece) <= chunk_bytes and digest_16(piece) == name for name, piece in cut.chunks)
    author, b = shelf_of("A"), replica("B")
    index = b.index
    for at, (name, piece) in enumerate(cut.chunks):
        index.lay(
            chunk_key(name), Over(author, 1, Op(VALUE, *chunk_key(name), piece, (), author, make_dot(1, at), 0, Rights(0, 0)))
        )
    op = Op(VALUE | LARGE, *KEY, cut.reference, (), author, make_dot(2, 0), 0, Rights(0, 0))
    content = b.chunks.content(op)
    assert content is not None
    assert (content.payload, content.covers) == (payload, covered)
    assert set(b.chunks.names(op)) == {name for name, _ in cut.chunks}


HOSTILE: dict[str, tuple[dict[bytes, bytes], Any]] = {}


def hostile(name: str, pieces: list[bytes], reference: Any) -> None:
    HOSTILE[name] = ({digest_16(piece): piece for piece in pieces}, reference)


WIDE = digest_16(b"x" * 800) * 50
hostile("not CBOR", [b"\xff"], (0, 1, digest_16(b"\xff"), 0))
hostile("not content", [b"\x01"], (0, 1, digest_16(b"\x01"), 0))
hostile("another size", [codec.encode([1, []])], (0, 99, digest_16(codec.encode([1, []])), 0))
hostile("covers that are not there", [codec.encode([1, []])], (0, 3, digest_16(codec.encode([1, []])), 1))
hostile("cover of a short origin", [codec.encode([1, [b"x", 1, 1]])], (0, 7, digest_16(codec.encode([1, [b"x", 1, 1]])), 1))
hostile("half a hash in a node", [b"h" * 15], (1, 3, digest_16(b"h" * 15), 0))
hostile("a depth of a thousand", [b"x"], (1000, 3, digest_16(b"x"), 0))
hostile("a size of an exabyte", [b"x"], (0, 2**60, digest_16(b"x"), 0))
hostile(
    "a node that multiplies",
    [b"x" * 800, WIDE, digest_16(WIDE) * 50, digest_16(digest_16(WIDE) * 50) * 50],
    (3, 2**20, digest_16(digest_16(digest_16(WIDE) * 50) * 50) * 32, 0),
)


@pytest.mark.parametrize(("store", "reference"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_references_show_nothing_and_cost_little(store: dict[bytes, bytes], reference: Any) -> None:
    liar, b = shelf_of("L"), replica("B")
    ops = [
        Op(VALUE, CORE_TYPE, (name,), piece, (), liar, make_dot(1, at), 0, Rights(0, 0))
        for at, (name, piece) in enumerate(store.items())
    ]
    previous = None
    for seq, op in enumerate(ops, 1):
        delta = forge(liar, [op._replace(dot=make_dot(seq, 0))], seq, previous)
        give([delta], b)
        previous = delta.head
    give(
        [
            forge(
                liar,
                [Op(VALUE | LARGE, *KEY, reference, (), liar, make_dot(len(ops) + 1, 0), 0, Rights(0, 0))],
                len(ops) + 1,
                previous,
            )
        ],
        b,
    )
    assert b.floor(liar) == len(ops) + 1
    assert shown(b) == []
    assert b.value(b.cells(KEY)[0]) is None
    give([replica("A").write(*KEY, "others go on")], b)
    assert shown(b) == ["others go on"]
    assert b.write(*KEY, 1).seq == 1


@pytest.mark.parametrize("size", [0, 1, 2**60])
def test_what_is_remembered_of_hostile_references_is_bounded_by_what_it_takes(size: int) -> None:
    """Regression: what claimed to have no bytes was remembered for ever, and what claimed to have many pushed out all else."""
    liar, b = shelf_of("L"), replica("B")
    b.draft(*KEY, noise(5_000))
    b.seal()
    (cell,) = b.cells(KEY)
    content = b.chunks.content(cell)
    piece = b"x" * size if size < 2 else b"x"
    store = Op(VALUE, CORE_TYPE, (digest_16(piece),), piece, (), liar, make_dot(1, 0), 0, Rights(0, 0))
    b.index.lay(store.key, Over(liar, 1, store))

    ops = [
        Op(VALUE | LARGE, *KEY, (0, size, digest_16(piece), 0), (), liar, make_dot(number, 0), 0, Rights(0, 0))
        for number in range(2, 9_000)
    ]
    known, held = sys.getrefcount(ops[0]), list[int]()
    for op in ops[:1_000]:
        assert b.chunks.content(op) is None
    held.append(sys.getrefcount(ops[0]))
    assert b.chunks.content(cell) is content, "not pushed out"
    for op in ops[1_000:]:
        assert b.chunks.content(op) is None
    held.append(sys.getrefcount(ops[0]))
    assert held == [known + 1, known], "remembered, and then forgotten"


def test_a_chunk_is_named_by_its_content() -> None:
    liar, b = shelf_of("L"), replica("B")
    name = digest_16(b"true")
    give([forge(liar, [Op(VALUE, CORE_TYPE, (name,), b"false", (), liar, make_dot(1, 0), 0, Rights(0, 0))])], b)
    assert b.chunks.piece(liar, name) is None
    assert b.index.all_slots(chunk_key(name))
