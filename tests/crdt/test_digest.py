"""LtHash16 against a version written down lane by lane."""

from __future__ import annotations

import random
from hashlib import blake2b, shake_128
from struct import pack, unpack

from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import digest
from crdt.base import Entry, digest_of
from crdt.digest import LANES, SetHash
from crdt.ids import ShelfId

SHELF = ShelfId(b"s" * 12)
ENTRIES = st.builds(
    Entry,
    st.integers(1, 2**48 - 1),
    st.sampled_from([SHELF, ShelfId(b"t" * 12)]),
    st.integers(1, 2**48 - 1),
    st.binary(min_size=16, max_size=16),
    st.integers(1, 2**256 - 1),
)


def by_the_paper(entries: list[Entry]) -> bytes:
    """The sum of the elements' lanes, each modulo 2**16."""
    state = [0] * LANES
    for place, shelf, seq, body_hash, mask in entries:
        element = pack(">Q", place) + shelf + pack(">Q", seq) + body_hash + mask.to_bytes(32, "big")
        lanes = unpack("<1024H", shake_128(element).digest(2048))
        state = [(mine + lane) % 65536 for mine, lane in zip(state, lanes, strict=True)]
    return blake2b(pack("<1024H", *state), digest_size=16).digest()


@settings(max_examples=30, deadline=None)
@given(st.lists(ENTRIES, max_size=6))
def test_is_lthash_of_the_entries(entries: list[Entry]) -> None:
    assert digest_of(entries) == by_the_paper(entries)


@settings(max_examples=50, deadline=None)
@given(st.lists(ENTRIES, max_size=8), st.lists(ENTRIES, max_size=4), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_removing_undoes(entries: list[Entry], others: list[Entry], rng: random.Random) -> None:
    running = SetHash()
    for entry in others + entries:
        running.add(*entry)
    for entry in rng.sample(others, len(others)):
        running.remove(*entry)
    assert running.digest() == digest_of(rng.sample(entries, len(entries)))


@settings(max_examples=50, deadline=None)
@given(ENTRIES, st.sampled_from(range(5)))
def test_every_field_counts(entry: Entry, field: int) -> None:
    other = [*entry]
    value = other[field]
    other[field] = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else value ^ 1  # type: ignore[operator]
    assert digest_of([entry]) != digest_of([Entry(*other)])  # type: ignore[arg-type]


def test_more_changes_than_a_lane_has_room_for() -> None:
    """Carries above a lane never reach the next."""
    entry, other = Entry(1, SHELF, 1, bytes(16), 1), Entry(2, SHELF, 2, bytes(16), 3)
    running = SetHash()
    running.add(*other)
    for _ in range(17_000):
        running.add(*entry)
        running.remove(*entry)
    assert running.digest() == digest_of([other])


def test_a_copy_goes_its_own_way() -> None:
    entry = Entry(1, SHELF, 1, bytes(16), 1)
    running = SetHash()
    twin = running.copy()
    twin.add(*entry)
    assert twin.digest() == digest_of([entry])
    assert running.digest() == digest_of([])


def test_lanes_neither_carry_nor_borrow() -> None:
    """Added up lane by lane, in any order: also where more is taken out than was put in so far."""
    rng, fast, plain = random.Random(2), SetHash(), [0] * digest.LANES
    for _ in range(40):
        element = (rng.randrange(9), b"s" * 12, rng.randrange(9), b"h" * 16, rng.randrange(1, 9))
        sign = rng.choice((1, -1, -1))
        (fast.add if sign > 0 else fast.remove)(*element)
        lanes = digest._lanes(*element)
        plain = [(lane + sign * (lanes >> 16 * at & 0xFFFF)) % (1 << 16) for at, lane in enumerate(plain)]
        assert fast.digest() == digest.digest_16(b"".join(lane.to_bytes(2, "little") for lane in plain))
